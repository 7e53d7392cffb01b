"""
One socket for a whole process, led by whoever waits.

Thread-safe. There is no thread of its own: whoever waits for something does the input and output for all (one
leads, the others wait for it), so that a single thread pays for no hand-over. Whoever touches the socket takes in
what has come before anybody waits for its sign, because ZeroMQ says nothing more about that.

Source: architecture section 6; zmq_getsockopt(3), ZMQ_FD and ZMQ_EVENTS.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from regrow.ipc import partings, wire
from regrow.ipc.account import Account
from regrow.ipc.awaited import Awaited, Inbox, MailboxSpec, Stats, Watcher
from regrow.ipc.bell import MBOX
from regrow.ipc.delivery import Pending, untaken
from regrow.ipc.down import Down
from regrow.ipc.errors import MessageError, NoProcess, ProcessDown, Unreachable
from regrow.ipc.explain import last_exit
from regrow.ipc.forks import from_first_use
from regrow.ipc.mailbox import LIMIT, Mailbox
from regrow.ipc.names import Names, Record
from regrow.ipc.peers import Peer, Peers
from regrow.ipc.transport import Full, Gone, Transport
from regrow.ipc.unclosed import watch_over
from regrow.ipc.wire import Refusal, WireError

if TYPE_CHECKING:
    from regrow.ipc.link import Link
    from regrow.ipc.monitor import Monitor

HEARD_OUT_S = 1.0
"""How long a death waits for the last words of the dead, when something keeps a connection of theirs open."""

BATCH = 256
"""Messages taken in at once, before anything else is looked at."""

BATCHES = 16
"""After so many, deadlines and deaths are looked at, however much comes."""


class Engine:
    """
    It only asks, until it is bound to a mailbox.

    Args:
        run_dir: the daemon's.
        mailbox: what it is bound to at once; None: to nothing, or later, by `bind`.
        limit: how many messages may be on their way to one receiver.
    Raises:
        Unreachable: there is no daemon; OSError: the mailbox cannot be made.
    """

    def __init__(self, run_dir: str, mailbox: MailboxSpec | None = None, *, limit: int = LIMIT) -> None:
        self.run_dir = os.path.abspath(run_dir)
        self.spec: MailboxSpec | None = None
        self.name = ""
        self.is_member = False
        self.limit = limit
        self.stats = Stats()
        self.names = Names(self.run_dir)
        self.mailbox = Mailbox(LIMIT)
        self.record: Record | None = None
        self._own_names: list[str] = []
        self._file = ""
        self._lock = threading.RLock()
        try:
            self._begin()
        except BaseException:
            self.names.close()
            raise
        _heed_forks()
        _nodes.add(self)
        if mailbox is not None:
            try:
                self.bind(mailbox)
            except BaseException:
                self.close(0.0)
                raise

    def bind(self, mailbox: MailboxSpec) -> None:
        """
        Be the one to whom others send, once; they find it when it has been announced.

        Raises:
            OSError: the mailbox cannot be made.
        """
        file = f"{mailbox.name}.{mailbox.incarnation}.{os.urandom(4).hex()}"
        self.transport.bind(file, mailbox.admit)
        self.spec, self.name, self._file = mailbox, mailbox.name, file
        self.is_member = bool(mailbox.group)
        self.mailbox.limit = mailbox.limit

    def _begin(self) -> None:
        self.transport = Transport(os.path.join(self.run_dir, MBOX))
        self.peers = Peers(self.limit)
        self.links: dict[bytes, Link] = {}
        self._watchers: dict[int, Watcher] = {}
        self.inbox = Inbox(self.mailbox)
        self.closed = False
        self.forked = False
        self.on_full: Callable[[str], None] | None = None
        """Called each time that the mailbox has filled up, under the lock; must not block."""
        self._is_signed = False
        """The kernel has just said that something has come: to ask ZeroMQ costs as much as to take it."""
        self._leading = False
        self._leader = 0
        self._led = threading.Event()
        self._attending = False
        self._sent = 0
        self._is_glancing = False
        """Whether who attends looks from time to time, because messages are sent meanwhile."""
        self.by_loop = False
        """An event loop watches this node, and is woken when something may have come without a sign of it."""
        self.recall_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._followers: set[threading.Event] = set()
        self._first_id = int.from_bytes(os.urandom(8)) >> 2
        """Nobody else's ids are near it: a mailbox that has stopped leaves word of what it has taken (`partings`)."""
        self._ids = itertools.count(self._first_id)
        self.account = Account()
        """Of a member of a group; empty for others."""
        self._strays: list[tuple[Pending, MessageError]] = []
        """Messages to a group that the chosen member has not begun, to be sent to another."""
        self._turns: dict[str, int] = {}
        self._fresh_s = 0.0
        self._held = watch_over(self)

    @property
    def mailbox_file(self) -> str:
        """The file name of the own mailbox, "" for none."""
        return self._file

    def locked(self) -> threading.RLock:
        """What must be held while the transport is used."""
        return self._lock

    # what is heard

    def _heard(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            if fd == self.transport.router_fd:
                self._is_signed = True
            elif fd == self.transport.wake_fd:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass  # another thread has
            elif fd == self.transport.monitor_fd:
                self.transport.watch_connections()
            elif fd in self.peers.by_pidfd:
                if self.peers.by_pidfd[fd].is_dead():  # the number may be another's by now
                    self.transport.epoll.unregister(fd)
                    self.peers.dies(fd, time.monotonic())
            elif fd in self._watchers:
                self._watchers[fd].heard()

    def _next_s(self) -> float:
        """When something is due even if nothing is heard."""
        dying = self.peers.dying
        return dying[0].dying_since + HEARD_OUT_S if dying and dying[0].dying_since is not None else float("inf")

    def _turn(self, until: Awaited | None = None) -> bool:
        """
        Take in what has come, or what came until something is done; tell of deaths whose last words are among it.

        Returns:
            Whether something may be left in the socket: that is not announced again, so who stops here looks again
            before waiting.
        """
        more = self._take_in(until)
        if self.peers.dying or self.transport.met or self._strays:
            more = self._look_after(until, more)
        return more

    def _look_after(self, until: Awaited | None, more: bool) -> bool:
        """The dying, new connections, and messages to be sent again; returns as `_turn`."""
        for peer in list(self.peers.dying):
            assert peer.dying_since is not None
            late_s = peer.dying_since + HEARD_OUT_S
            if self.transport.is_heard_out(peer.record.pid) or time.monotonic() >= late_s:
                more = self._take_in()
                while more and time.monotonic() < late_s:
                    more = self._take_in()
                self._bury(peer)
        for file in self.transport.handshakes():
            for link in list(self.links.values()):
                if link.file.endswith(file):
                    link.came_up()
                    more = self._take_in(until)  # what it has sent may have used up the sign of what has come
        while self._strays:
            self._send_again(*self._strays.pop())
            more = self._take_in(until)
        return more

    def _send_again(self, pending: Pending, error: MessageError) -> None:
        """Send to another member of the group what nobody has begun, or let it end with `error`."""
        raise NotImplementedError

    def _bury(self, peer: Peer) -> None:
        record = peer.record
        last = None
        if peer.ledger.open and self.transport.connections(record.mailbox) <= 1:  # of earlier ones not all is noted
            last = partings.newest(self.names, record.mailbox, self._first_id)
        self.peers.forget(peer)
        if peer.alias:
            self.transport.disconnect(record.mailbox)

        def error(pending: Pending) -> MessageError:
            if last is not None and pending.id > last:
                return untaken(pending)
            return ProcessDown(Down(record.name, record.incarnation, self.explain))

        peer.ledger.down(error)
        for monitor in peer.monitors:
            self._tell(monitor, Down(record.name, record.incarnation, self.explain))

    # accepting, while nobody waits

    def accept(self) -> None:
        """Take in what has come, so that its senders know; never blocks for long."""
        with self._lock:
            if self.forked:
                self._leave_to_parent()
            elif not self.closed:
                self._turn()

    def _hand_to_loop(self) -> None:
        """The deadlines of the dying are the loop's, whoever has heard of their deaths."""
        if self.by_loop and self.peers.dying and not self.closed:
            self.transport.wake()

    def touched(self) -> None:
        """
        What was sent may have used up the sign that something has come: let whoever waits look again.

        For those who may be in the middle of taking in; the others take in themselves.
        """
        if self._leading or self._attending or self.by_loop:
            self.transport.wake()

    def wake(self) -> None:
        """Let `receive` return None; may be called from any thread and any signal handler."""
        self.inbox.woken = True
        self.transport.wake()

    # taking in

    def _take_in(self, until: Awaited | None = None) -> bool:
        """
        Take in what has come, though not for ever; returns whether something may be left.

        What was waited for is not held up by the question whether there is more, when it is one outcome, or the first
        message in an empty mailbox: whoever waits next, or minds the door meanwhile, asks that first.
        """
        is_signed, self._is_signed = self._is_signed, False
        more = is_signed or self.transport.has_input()
        if more:
            is_first = until is not None and (is_signed or type(until) is Pending) and not until.done
            found = self.transport.receive()
            more = found is not None
            if found is not None:
                accepted: dict[bytes, list[int]] = {}
                self._take(found[0], found[1], accepted)
                if until is None or not (is_first and until.done):
                    # A single message is the rule, and an exception dearer than a question.
                    more = self.transport.has_input() and self._take_more(until, accepted)
                if accepted:
                    self._say_accepted(accepted)
                    more = more or self.transport.has_input()  # saying so may have used up the sign of the next
        if more or self._strays:  # strays are sent again by whoever waits, for not everybody who takes in does
            self.touched()
        inbox = self.inbox
        if inbox.callback is not None and self.mailbox.waiting:
            inbox.callback()
        return more

    def _take_more(self, until: Awaited | None, accepted: dict[bytes, list[int]]) -> bool:
        """What else has come, batch by batch; of the last one the caller tells its senders. Returns as `_take_in`."""
        receive = self.transport.receive
        for _ in range(BATCHES):
            for _ in range(BATCH):
                found = receive()
                if found is None:
                    return False
                self._take(found[0], found[1], accepted)
            self._say_accepted(accepted)
            if until is not None and until.done:
                break
        return True

    def _say_accepted(self, accepted: dict[bytes, list[int]]) -> None:
        """To each sender its runs of ids; nothing is left of them here."""
        for routing, runs in accepted.items():
            self._say(routing, wire.encode((0x20, runs)))
        accepted.clear()

    def _take(self, routing: bytes, frame: bytes | memoryview, accepted: dict[bytes, list[int]]) -> None:
        peer = self.peers.by_alias.get(routing)
        if peer is not None:
            ledger = peer.ledger
            try:
                ledger.answered(wire.decode_answer(frame))
            except WireError:
                self.stats.bad += 1
            if ledger.is_closed:
                self.peers.unname(peer)
            return
        if routing in self.links:
            self.links[routing].heard(bytes(frame))
            return
        try:
            request = wire.decode_request(frame)
        except WireError as error:
            self.stats.bad += 1
            if error.id is not None:
                self._say(routing, wire.encode(Refusal(error.id, wire.BAD_REQUEST, str(error))))
            return
        if self.is_member and not isinstance(request, wire.Cast):
            self.account.note(routing, request.id, self._is_there)
        refusal = self.mailbox.take(routing, request, len(frame))
        if refusal is not None:
            if self.mailbox.refused_in_a_row == 1 and refusal.code == wire.BACKPRESSURE and self.on_full is not None:
                self.on_full(refusal.text)
            if refusal.id >= 0:
                self._say(routing, wire.encode(refusal))
        elif type(request) is wire.Send:
            _add(accepted.setdefault(routing, []), request.id)

    def _say(self, routing: bytes, frame: bytes) -> bool:
        """Answer; who does not listen gets none. False: that connection is over."""
        try:
            self.transport.send(routing, frame)
        except Gone:
            self.stats.unanswered += 1
            return False
        except Full:
            self.stats.unanswered += 1
        return True

    def _is_there(self, routing: bytes) -> bool:
        return self._say(routing, _NOTHING)

    # the dead

    def _tell(self, monitor: Monitor, down: Down) -> None:
        monitor.settle(down)
        if self.spec is not None:
            self.mailbox.tell(down)
            if self.inbox.callback is not None:
                self.inbox.callback()

    def explain(self, name: str, incarnation: int) -> Mapping[str, Any] | None:
        """The `last_exit` of an incarnation, from the root; None when it cannot say."""
        return last_exit(self.run_dir, name, incarnation)

    # event loops, and the end

    def fileno(self) -> int:
        """Readable when `on_readable` should be called."""
        return self.transport.epoll.fileno()

    def on_readable(self) -> float:
        """What an event loop calls; returns when it wants to be called in any case (monotonic seconds)."""
        with self._lock:
            if self.closed:
                return float("inf")
            if not self._leading:  # a thread that leads is told the same, and sleeps on if it is taken from under it
                self._heard(self.transport.epoll.poll(0))
            return time.monotonic() if self._turn() else self._next_s()

    def watch(self, fd: int, watcher: Watcher) -> None:
        """From now on `watcher` hears when `fd` is readable, from whoever waits in this process."""
        if self.forked:
            self._begin_anew()
        with self._lock:
            self._watchers[fd] = watcher
            self.transport.epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """No more; to be called before `fd` is closed."""
        with self._lock:
            if self._watchers.pop(fd, None) is not None and not self.closed:
                self.transport.epoll.unregister(fd)

    def close(self, linger_s: float = 1.0) -> None:
        """End all of it; open messages end as `NoProcess`. What was answered is given `linger_s` to leave."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            _nodes.discard(self)
            if self.forked:
                self.forked = False
                self._leave_to_parent()
                self.names.close()
                return
            for peer in self.peers.clear():
                peer.ledger.down(lambda pending: NoProcess(pending.to, "this side was closed"))
                for monitor in peer.monitors:
                    monitor.settle(None)
            for pending, error in self._strays:
                pending.again = None
                pending.settle(None, error)
            for watcher in set(self._watchers.values()):
                watcher.dropped()
            self._dismiss()
            self._held.detach()
            self.transport.close(linger_s)
            self.names.close()
            os.close(self.recall_fd)

    def _dismiss(self) -> None:
        """Let go of the threads that wait here."""
        for follower in self._followers:
            follower.set()
        if self._leading:
            self.transport.wake()
            self._lock.release()  # it waits on a descriptor, which must not be closed before it is back
            try:
                self._led.wait(1.0)
            finally:
                self._lock.acquire()

    def _begin_anew(self) -> None:
        """
        In a forked process, at its first use: go on as one that only asks.

        Names and peers are the parent's, and so are open messages: here they end as NoProcess.

        Raises:
            NoProcess: there is no daemon any more.
        """
        with self._lock:
            if not self.forked:
                return  # another thread has
            self._leave_to_parent()
            self.spec, self.name, self._file, self.record, self._own_names = None, "", "", None, []
            self.mailbox = Mailbox(LIMIT)
            try:
                self.names.reopen()
                self._begin()
            except (Unreachable, OSError) as error:
                raise NoProcess("anybody", f"the daemon is gone: {error}") from None

    def _leave_to_parent(self) -> None:
        """Close what is ours of what a fork has got, without touching what it shares. May be repeated."""
        self._held.detach()
        self.transport.forget()
        if self.recall_fd >= 0:
            os.close(self.recall_fd)
            self.recall_fd = -1
        watchers, self._watchers = set(self._watchers.values()), {}
        for watcher in watchers:
            watcher.dropped()
        for peer in self.peers.clear():
            for pending in peer.ledger.open.values():
                pending.callback = None  # of a thread that is not here
            peer.ledger.down(lambda pending: NoProcess(pending.to, "this process was forked after it was sent"))
            for monitor in peer.monitors:
                monitor.callback = None
                monitor.settle(None)


def _add(runs: list[int], id: int) -> None:
    if runs and runs[-1] == id - 1:
        runs[-1] = id
    else:
        runs += (id, id)


_NOTHING = wire.encode((0x20, ()))
"""That none was accepted."""

_nodes: weakref.WeakSet[Engine] = weakref.WeakSet()


def _forked() -> None:
    for node in _nodes:
        node.forked = True
        node._lock = threading.RLock()  # a thread that is not here may have held it


_heed_forks = from_first_use(after_in_child=_forked)
