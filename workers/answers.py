"""
What an agent's callers hear: results, errors that are theirs, and what is wrong with their messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from regrow.ipc.points import Point, hit
from regrow.ipc.wire import BAD_REQUEST, REMOTE_ERROR
from regrow.workers.mismatch import BadArguments, BadReply
from regrow.workers.notify import status

if TYPE_CHECKING:
    from regrow.ipc.mailbox import Envelope
    from regrow.ipc.node import Node
    from regrow.workers.handlers import Handler

_REPLY_DUE = Point.REPLY_DUE

MAX_COMPLAINTS = 50
"""Different faults that are written to the log; a sender that is wrong is wrong often."""

MAX_TEXT = 2000


class Complaints:
    """Faults that nobody else is told of: each is written to the log of the agent `name`, once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._made: set[str] = set()

    def make(self, text: str, *, to_supervisor: bool = False) -> None:
        """Make one; it goes into the status line too, where it is the agent's own fault."""
        text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
        if text in self._made or len(self._made) >= MAX_COMPLAINTS:
            return
        self._made.add(text)
        sys.stderr.write(f"{self._name}: {text}\n")
        sys.stderr.flush()
        if to_supervisor:
            status(text)


class Answers:
    """
    They go out at once, or, after `hold`, at `release` (S193).

    Only a call awaits an answer after it was accepted: what there is to say to other senders is a complaint.
    """

    def __init__(self, node: Node, complaints: Complaints) -> None:
        self._node = node
        self._complaints = complaints
        self._held: list[Callable[[], None]] | None = None

    def hold(self) -> None:
        """Keep answers back from now on."""
        self._held = []

    def release(self) -> None:
        """Send what was kept back."""
        held, self._held = self._held, None
        for answer in held or ():
            answer()

    def result(self, item: Envelope, handler: Handler, value: Any) -> None:
        """
        Tell a caller what its handler has returned; what that has changed is kept by now.

        A value that cannot be sent is the agent's fault; it lives on.
        """
        hit(_REPLY_DUE)
        try:
            message = handler.reply(value, item.id)
        except BadReply as error:
            self._complaints.make(error.text, to_supervisor=True)
            self._send(self._node.refuse, item, REMOTE_ERROR, error.text, type=error.type)
            return
        if self._held is None:
            self._node.reply(item, message)
        else:
            self._send(self._node.reply, item, message)

    def error(self, item: Envelope, error: BaseException) -> None:
        """An exception that belongs to the caller; where nobody waits for an answer, nobody is told."""
        if item.is_call:
            self._send(self._node.refuse, item, REMOTE_ERROR, str(error), type=type(error).__name__)

    def bad(self, item: Envelope, error: BadArguments) -> None:
        """The message does not fit any handler."""
        if item.is_call:
            self._send(self._node.refuse, item, BAD_REQUEST, error.text, path=error.path)
        else:
            self._complaints.make(f"a message to {item.handler} is dropped: {error.text}")

    def _send(self, answer: Callable[..., None], *args: Any, **details: Any) -> None:
        if self._held is None:
            answer(*args, **details)
        else:
            self._held.append(partial(answer, *args, **details))
