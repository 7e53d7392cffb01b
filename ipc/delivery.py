"""
What becomes of each message that waits for an acceptance or an answer: exactly one outcome.

Pure: a ledger for each receiving process, changed only by what is told to it (sent, answered, dead, given up), with no
clock and no socket. What is not open in the ledger is late or forged, and concerns nobody.

Source: otp-rules S183-S197, S246; architecture section 6.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from itertools import accumulate
from typing import Any, TypeGuard

from msgspec import Raw

from regrow.ipc.errors import Backpressure, BadRequest, MessageError, Refused, RemoteError
from regrow.ipc.wire import SHUTDOWN, Accepted, Answer, Closing, Refusal, Reply


class Awaits(IntEnum):
    """What makes a message's outcome a good one."""

    ACCEPTANCE = 0
    REPLY = 1


AN_ACCEPTANCE, A_REPLY = Awaits.ACCEPTANCE, Awaits.REPLY
"""The same, for where each message comes by: looking up a member of an enumeration is dear before Python 3.12."""


class Pending:
    """
    One message and what became of it.

    While `done` is False it is open. Then either `error` says why not, or it was accepted, or `value` is the
    encoded reply. `cycle` is set meanwhile when its receiver waits, over others, for this message's sender.
    """

    __slots__ = ("again", "awaits", "callback", "cycle", "done", "error", "handler", "id", "ledger", "to", "value")

    def __init__(self, id: int, awaits: Awaits, to: str, handler: str, ledger: Ledger) -> None:
        self.id = id
        self.awaits = awaits
        self.to = to
        self.handler = handler
        self.ledger = ledger
        self.done = False
        self.value: Raw | None = None
        self.error: MessageError | None = None
        self.cycle: tuple[str, ...] = ()
        self.callback: Callable[[], None] | None = None
        """Called once, when it becomes done; must neither block nor raise."""
        self.again: Callable[[Pending, MessageError], bool] | None = None
        """Whether it is to be sent to somebody else, now that nobody has begun it."""

    def settle(self, value: Raw | None, error: MessageError | None) -> None:
        """Only the ledger calls this, after it has let go of the message."""
        if self.again is not None and is_untouched(error) and self.again(self, error):
            return
        self.value = value
        self.error = error
        self.done = True
        if self.callback is not None:
            self.callback()


class Ledger:
    """
    What one receiving process still owes to this one.

    Args:
        limit: how many may be open; one more is refused with Backpressure.
    """

    __slots__ = ("is_closed", "limit", "open")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_closed = False
        """Whether the receiver has said its last word: what is sent now is not taken."""
        self.open: dict[int, Pending] = {}

    def sent(self, id: int, awaits: Awaits, to: str, handler: str) -> Pending:
        """
        Open an entry for a message that goes out now. `id` was never used before.

        Raises:
            Backpressure: too many are open; nothing was changed.
        """
        if len(self.open) >= self.limit:
            raise Backpressure(to, len(self.open), self.limit, "the way there")
        pending = Pending(id, awaits, to, handler, self)
        self.open[id] = pending
        return pending

    def take_over(self, pending: Pending, id: int, to: str) -> None:
        """
        An open message that another process has not begun goes to this one, under a new id.

        Raises:
            Backpressure: too many are open.
        """
        if len(self.open) >= self.limit:
            raise Backpressure(to, len(self.open), self.limit, "the way there")
        pending.id, pending.to, pending.ledger, pending.cycle = id, to, self, ()
        self.open[id] = pending

    def answered(self, answer: Answer) -> int:
        """Take in what the receiver said. Returns how many outcomes came of it."""
        if isinstance(answer, Reply):
            pending = self.open.get(answer.id)
            if pending is None or pending.awaits is not A_REPLY:
                return 0
            del self.open[answer.id]
            pending.settle(answer.value, None)
            return 1
        if isinstance(answer, Accepted):
            return self._accepted(answer.runs)
        if isinstance(answer, Refusal):
            pending = self.open.pop(answer.id, None)
            if pending is None:
                return 0
            pending.settle(None, refusal_error(pending.to, answer))
            return 1
        if isinstance(answer, Closing):
            return self._closing(answer.last)
        pending = self.open.get(answer.id)
        if pending is not None:
            pending.cycle = answer.chain
        return 0

    def _closing(self, last: int) -> int:
        """What the receiver has not seen it refuses, though it cannot say so of each."""
        self.is_closed = True
        left = [id for id in self.open if id > last]
        for id in left:
            pending = self.open.pop(id)
            pending.settle(None, untaken(pending))
        return len(left)

    def _accepted(self, runs: tuple[int, ...]) -> int:
        open, count = self.open, 0
        pairs = list(zip(runs[::2], runs[1::2], strict=False))
        if sum(last - first + 1 for first, last in pairs if first <= last) > len(open):
            ids: Iterable[int] = _covered(open, pairs)  # nobody owes so many: a peer that invents numbers
        else:
            ids = (id for first, last in pairs for id in range(first, last + 1))
        for id in ids:
            pending = open.get(id)
            if pending is not None and pending.awaits is AN_ACCEPTANCE:
                del open[id]
                pending.settle(None, None)
                count += 1
        return count

    def down(self, error: Callable[[Pending], MessageError]) -> int:
        """The receiver is dead and all that it ever said was taken in. Returns how many it leaves unanswered."""
        left, self.open = self.open, {}
        for pending in left.values():
            pending.settle(None, error(pending))
        return len(left)

    def give_up(self, pending: Pending, error: MessageError) -> bool:
        """Nobody waits for it any more (S190, S192); False when its outcome was there already, and stands (S191)."""
        if self.open.pop(pending.id, None) is None and pending.done:
            return False
        pending.again = None
        pending.settle(None, error)
        return True


def untaken(pending: Pending) -> Refused:
    """The error of a message that its receiver, who has stopped, has certainly never taken."""
    return Refused(SHUTDOWN, f"{pending.to}: it has stopped", {})


def is_untouched(error: MessageError | None) -> TypeGuard[Refused]:
    """Whether it says for certain that nobody has begun the message: who stops refuses what it has not begun."""
    return isinstance(error, Refused) and error.code == SHUTDOWN


def _covered(ids: Iterable[int], runs: list[tuple[int, int]]) -> list[int]:
    """Those in any of the runs, in time that grows with either number and not with their product."""
    runs = sorted(runs)
    firsts = [first for first, _ in runs]
    lasts = list(accumulate((last for _, last in runs), max))
    return [id for id in ids if (before := bisect_right(firsts, id)) and id <= lasts[before - 1]]


def refusal_error(to: str, refusal: Refusal) -> MessageError:
    """The error that a caller gets for what the receiver said."""
    details = refusal.details
    match refusal.code:
        case "backpressure":
            return full(to, details, "its mailbox")
        case "bad_request":
            return BadRequest(to, refusal.text, str(details.get("path", "")))
        case "remote_error":
            return RemoteError(to, str(details.get("type", "Exception")), refusal.text)
        case code:
            return Refused(code, f"{to}: {refusal.text or code}", details)


def full(to: str, details: Mapping[str, Any], where: str) -> Backpressure:
    """The error of one who was told so, with these details."""
    length, limit, size, limit_bytes = [number_in(details, key) for key in ("length", "limit", "size", "limit_bytes")]
    return Backpressure(to, length, limit, where, size=size, limit_bytes=limit_bytes)


def number_in(details: Mapping[str, Any], key: str) -> int:
    """Of the details of a refusal; 0 where there is none."""
    value = details.get(key, 0)
    return value if isinstance(value, int) else 0
