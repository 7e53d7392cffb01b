"""
A process among those that send each other messages.

In five parts, each building on the one before: `engine` (one socket), `waits`, `seeker` (names and deaths),
`receiver` (the mailbox), and here, sending.

Source: architecture section 6; otp-rules S183-S197.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from regrow.ipc import wire
from regrow.ipc.awaited import Awaited as Awaited
from regrow.ipc.awaited import MailboxSpec as MailboxSpec
from regrow.ipc.awaited import Watcher as Watcher
from regrow.ipc.delivery import A_REPLY, Awaits, Pending
from regrow.ipc.errors import Backpressure, CallingSelf, MessageError, NoProcess
from regrow.ipc.groups import Address, ByKey
from regrow.ipc.link import Link
from regrow.ipc.peers import Peer
from regrow.ipc.receiver import Receiver
from regrow.ipc.transport import SEND_HWM, Full, Gone
from regrow.ipc.unsendable import bad_arguments, too_large

CHAIN: ContextVar[tuple[str, ...]] = ContextVar("chain", default=())
"""The agents that wait for what runs now: it goes with every call made meanwhile."""


class Elsewhere:
    """
    How a message to a group is sent to another member when the chosen one has not begun it.

    `tried` are the mailboxes of those who were asked.
    """

    __slots__ = ("_strays", "chain", "said", "to", "tried")

    def __init__(
        self,
        strays: list[tuple[Pending, MessageError]],
        to: str | Address,
        said: tuple[str, Any, Any],
        chain: tuple[str, ...],
        peer: Peer,
    ) -> None:
        self._strays = strays
        self.to = to
        self.said = said
        self.chain = chain
        self.tried = {peer.record.mailbox}

    def __call__(self, pending: Pending, error: MessageError) -> bool:
        """Have it sent again at the next opportunity."""
        self._strays.append((pending, error))
        return True


class Node(Receiver):
    """The whole: what clients, agents and the hub have one of."""

    def submit(self, awaits: Awaits, to: str | Address, handler: str, args: Any, kwargs: Any) -> Pending:
        """
        Send a message that is to be accepted, or answered.

        Raises:
            NoProcess, CallingSelf, Backpressure, BadRequest (the arguments cannot be encoded).
        """
        if self.forked:
            self._begin_anew()
        with self._lock:
            if self.closed:
                raise NoProcess(str(to), "this side was closed")
            peer = self._peer(to)
            name = peer.record.name
            ledger = peer.ledger
            id = next(self._ids)
            if awaits is A_REPLY:
                if name == self.name:
                    raise CallingSelf(name)
                chain = CHAIN.get()
                frame = self._encode(name, handler, (0x12, id, handler, args, kwargs, chain), args, kwargs)
            else:
                chain = ()
                frame = self._encode(name, handler, (0x11, id, handler, args, kwargs), args, kwargs)
            if len(ledger.open) >= self.limit:
                self._turn()
            pending = ledger.sent(id, awaits, name, handler)
            if to != name and not isinstance(to, ByKey):
                pending.again = Elsewhere(self._strays, to, (handler, args, kwargs), chain, peer)
            try:
                try:
                    if ledger.is_closed:
                        raise NoProcess(name, "it has stopped")
                    self._hand_over(peer, frame)
                except NoProcess as error:  # its mailbox has just been closed
                    ledger.open.pop(id, None)
                    if pending.again is None or not pending.again(pending, error):
                        raise
                    self._turn()
                if self._leading or self._attending or self.by_loop:
                    self._has_sent()
            except BaseException:
                ledger.open.pop(id, None)
                raise
            return pending

    def _send_again(self, pending: Pending, error: MessageError) -> None:
        elsewhere = pending.again
        assert isinstance(elsewhere, Elsewhere)
        try:
            if self.names.get(str(elsewhere.to)) is not None:
                raise NoProcess(str(elsewhere.to), "it is a name, and not that of a group")
            peer = self._member(elsewhere.to, elsewhere.tried)
            if peer.record.name == self.name:
                raise CallingSelf(self.name)
            elsewhere.tried.add(peer.record.mailbox)
            id = next(self._ids)
            kind = 0x12 if pending.awaits is A_REPLY else 0x11
            chain = (elsewhere.chain,) if pending.awaits is A_REPLY else ()
            said = elsewhere.said
            frame = self._encode(peer.record.name, pending.handler, (kind, id, *said, *chain), said[1], said[2])
            peer.ledger.take_over(pending, id, peer.record.name)
            try:
                self._hand_over(peer, frame)
            except BaseException:
                peer.ledger.open.pop(id, None)
                raise
        except NoProcess:  # nobody else is there: it stands as the first has said
            pending.again = None
            pending.settle(None, error)
        except (MessageError, OSError) as found:
            pending.again = None
            pending.settle(None, found if isinstance(found, MessageError) else error)

    def cast(self, to: str | Address, handler: str, args: Any, kwargs: Any) -> bool:
        """
        Send a message that nobody waits for (S196).

        Returns:
            Whether it went out; False when nobody has that name, or so much is on its way there already.
        Raises:
            BadRequest: the arguments cannot be encoded.
        """
        try:
            if self.forked:
                self._begin_anew()
            with self._lock:
                if self.closed:
                    return False
                peer = self._peer(to)
                frame = self._encode(peer.record.name, handler, (0x10, handler, args, kwargs), args, kwargs)
                self._hand_over(peer, frame)
                if self._leading or self._attending or self.by_loop:
                    self._has_sent()
        except (NoProcess, Backpressure):
            return False
        return True

    def _encode(self, to: str, handler: str, message: tuple[Any, ...], args: Any, kwargs: Any) -> bytes:
        try:
            frame = wire.encode(message)
        except wire.UNSENDABLE as error:
            raise bad_arguments(to, handler, args, kwargs, error) from None
        if len(frame) > wire.MAX_MESSAGE_BYTES:
            raise too_large(to, handler, len(frame), wire.MAX_MESSAGE_BYTES)
        return frame

    def _hand_over(self, peer: Peer, frame: bytes) -> None:
        try:
            if not peer.alias:
                self.peers.connected(peer, self.transport.connect(peer.record.mailbox))
            try:
                self.transport.send(peer.alias, frame)
            except Gone:  # ZeroMQ ends a connection over which it cannot read, and makes no other
                self.peers.connected(peer, self.transport.connect(peer.record.mailbox))
                self.transport.send(peer.alias, frame)
        except Full:
            self._turn()
            raise Backpressure(peer.record.name, SEND_HWM, SEND_HWM, "the way there") from None
        except Gone:
            raise NoProcess(peer.record.name, "its mailbox is closed") from None

    def give_up(self, pending: Pending, error: MessageError) -> None:
        """Nobody waits for this one any more; what has come until now still counts (S191)."""
        with self._lock:
            if self.forked:
                self._leave_to_parent()
            elif not self.closed:
                self._turn()
            pending.ledger.give_up(pending, error)

    def link(self, file: str, heard: Callable[[bytes], None], came_up: Callable[[], None]) -> Link:
        """
        A lasting connection to a fixed place in run_dir, made again by itself whenever somebody listens there.

        Raises:
            NoProcess: this side was closed.
        """
        if self.forked:
            self._begin_anew()
        with self._lock:
            if self.closed:
                raise NoProcess(file, "this side was closed")
            link = Link(self, f"../{file}", heard, came_up)
            self.links[link.alias] = link
            return link
