"""
Being sent to: a mailbox with a name that others find, and the answers to what came.

Source: architecture section 6; otp-rules S195, S220-S229.
"""

from __future__ import annotations

import os
import time
from typing import Any

from msgspec.structs import replace

from regrow.config.readable import readable
from regrow.ipc import partings, wire
from regrow.ipc.bell import MBOX, SUFFIX
from regrow.ipc.down import Down
from regrow.ipc.errors import NoProcess
from regrow.ipc.mailbox import Envelope, Item, Signal, closing
from regrow.ipc.names import Record
from regrow.ipc.points import Point, hit
from regrow.ipc.process import start_time
from regrow.ipc.seeker import Seeker
from regrow.ipc.wire import Refusal

MAX_TEXT = 1 << 16
"""
Characters of what an error says. One that came to more than a message may hold would cost its reader the connection.
"""

MAX_REPLY_BYTES = wire.MAX_MESSAGE_BYTES - 16
"""Of the value: what is put around it, on its way through the hub too, needs some room."""

FRESH_S, HALF_FULL_S = 0.001, 0.02
"""
How long a mailbox with messages in it is not looked at for new ones; longer once it is half full, so that senders
which wait for acceptance are slowed down before anybody is refused.
"""


NEVER_S = float("inf")
"""The end of a wait that has none."""


class Receiver(Seeker):
    """What a process with a mailbox does; one without has an empty mailbox, and no name."""

    def announce(self) -> None:
        """
        From now on others find this process by its name.

        Raises:
            OSError: too many open files.
        """
        assert self.spec is not None
        spec = self.spec
        self.record = Record(
            spec.name, spec.incarnation, os.getpid(), start_time(os.getpid()), self._file, spec.group, spec.replicas
        )
        before = self.names.announce(spec.name, self.record)
        if before is not None and before.mailbox != self._file and _is_surely_dead(before):
            _remove(os.path.join(self.run_dir, MBOX, before.mailbox))
            _remove(os.path.join(self.run_dir, MBOX, before.mailbox + SUFFIX))

    def leave_group(self) -> None:
        """From now on nobody finds this process by the name of its group; by its own name it is found."""
        if self.is_member and self.record is not None:
            self.names.announce(self.record.name, replace(self.record, group=""))

    def withdraw(self) -> None:
        """From now on nobody finds this process; what comes still comes."""
        record, self.record = self.record, None
        if record is not None:
            for name in (record.name, *self._own_names):
                self.names.withdraw(name, record)

    def last_word(self) -> None:
        """
        Tell all who have sent something what was never taken: the mailbox is not looked into any more.

        For those whose first message still comes, it is noted beside the names.
        """
        with self._lock:
            self._turn()
            there: list[int] = []
            gone: list[int] = []
            for routing, id in self.account.close().items():
                (there if self._say(routing, wire.encode(wire.Closing(id))) else gone).append(id)
            hit(Point.LAST_WORD_SAID)
            if self.is_member and self.account.is_whole and len(there) <= partings.MAX_TAKEN:
                self._note_parting([*gone, *there][-partings.MAX_TAKEN :])

    def _note_parting(self, taken: list[int]) -> None:
        import lmdb

        try:
            partings.note(self.names, partings.Parting(self._file, tuple(taken)))
        except lmdb.Error:
            pass  # who has sent something too late takes this end for what it looks like

    def register(self, name: str) -> None:
        """
        Take another name besides (S220-S222); it goes with the process.

        Raises:
            Refused: `already_registered`, `bad_request`; OSError: whether its holder lives cannot be told.
        """
        if self.record is None:
            raise NoProcess(name, "only an agent that is ready can have names")
        self.names.register(name, self.record)
        self._own_names.append(name)

    def unregister(self, name: str) -> None:
        """Give such a name up; nothing happens when it is another's, or nobody's (S225)."""
        if name in self._own_names and self.record is not None:
            self._own_names.remove(name)
            self.names.withdraw(name, self.record)

    def receive(self, timeout_s: float | None = None) -> Item | None:
        """
        The next message, death or signal, in the order of arrival; None at the time-out, or after `wake`.

        `timeout_s` None: however long it takes.
        """
        waiting = self.mailbox.waiting
        if self._attending and not self.forked:
            self._recall()
        if not waiting:
            self.wait(self.inbox, NEVER_S if timeout_s is None else time.monotonic() + timeout_s)
        elif time.monotonic() >= self._fresh_s:
            with self._lock:
                if not self._leading:
                    self._heard(self.transport.epoll.poll(0))
                self._turn(self.inbox)
            half_full = 2 * len(waiting) > self.mailbox.limit
            self._fresh_s = time.monotonic() + (HALF_FULL_S if half_full else FRESH_S)
        if self.inbox.woken:
            self.inbox.woken = False
            return None
        with self._lock:
            return self.mailbox.next()

    def reply(self, envelope: Envelope, message: bytes) -> None:
        """Answer a call with an encoded `Reply`."""
        if not envelope.is_call:
            return
        with self._lock:
            may_be_too_large = len(message) > MAX_REPLY_BYTES
            if may_be_too_large and (length := len(wire.value_in(message, envelope.id))) > MAX_REPLY_BYTES:
                text = f"its answer has {length} bytes, {MAX_REPLY_BYTES} are the limit"
                self.refuse(envelope, wire.REMOTE_ERROR, text, type="OversizedReply")
            else:
                self._say(envelope.routing, message)
            if self._leading or self.by_loop:
                self._take_in()  # sending may have used up the sign that something has come

    def refuse(self, envelope: Envelope, code: str, text: str, **details: Any) -> None:
        """Answer with an error; only a call awaits one after it was accepted. Of a long text, its beginning."""
        if envelope.is_call and envelope.id is not None:
            details = {key: _sendable(value) for key, value in details.items()}
            with self._lock:
                self._say(envelope.routing, wire.encode(Refusal(envelope.id, code, _sendable(text), details)))
                self.touched()

    def waiting(self, envelope: Envelope) -> None:
        """Tell a caller that its call closes a circle of calls."""
        if envelope.id is not None:
            with self._lock:
                self._say(envelope.routing, wire.encode(wire.Waiting(envelope.id, (*envelope.chain, self.name))))
                self.touched()

    def refuse_all(self, code: str = wire.SHUTDOWN, text: str = "") -> list[str]:
        """
        Refuse what is queued and whatever still comes.

        Returns:
            The handlers of casts, and of sends that were accepted before: nobody can be told of those any more.
        """
        dropped = []
        with self._lock:
            for envelope in self.mailbox.close(code, text):
                refusal = closing(envelope, code, text) if envelope.is_call else None
                if refusal is not None:
                    self._say(envelope.routing, wire.encode(refusal))
                else:
                    dropped.append(envelope.handler)
            self._turn()
        return dropped

    def deliver(self, news: Signal | Down) -> None:
        """Queue a signal, or a death that is no monitor's, for `receive`."""
        with self._lock:
            self.mailbox.tell(news)
            if self.inbox.callback is not None:
                self.inbox.callback()

    def close(self, linger_s: float = 1.0) -> None:
        """End all of it, the names first and the file of the mailbox last: ZeroMQ leaves it where it is."""
        own = self._file if not self.closed and not self.forked else ""
        if own:
            self.withdraw()
        super().close(linger_s)
        if own:
            _remove(os.path.join(self.run_dir, MBOX, own))


def _sendable(value: Any) -> Any:
    """A text as it can be sent: not longer than anybody reads, without halves of characters (`os.fsdecode`)."""
    if not isinstance(value, str):
        return value
    text = value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"
    return readable(text)


def _is_surely_dead(record: Record) -> bool:
    try:
        return not record.is_alive()
    except OSError:
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # another has, or may not
