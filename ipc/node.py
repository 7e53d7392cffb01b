"""
A process among those that send each other messages: its mailbox, its peers, its waits.

Thread-safe. There is no thread of its own: whoever waits for something does the input and output for all (one
leads, the others wait for it), so that a single thread pays for no hand-over. Whoever touches the socket takes in
what has come before letting go of it, because ZeroMQ then says nothing more about that.

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
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from regrow.ipc import wire
from regrow.ipc.delivery import Awaits, Pending
from regrow.ipc.down import NOPROC, Down
from regrow.ipc.errors import (
    Backpressure,
    BadRequest,
    CallingSelf,
    ControlError,
    MessageError,
    NoProcess,
    ProcessDown,
    Unreachable,
)
from regrow.ipc.groups import Address, choose
from regrow.ipc.mailbox import LIMIT, Envelope, Item, Mailbox, Signal, closing
from regrow.ipc.monitor import Monitor
from regrow.ipc.names import Names, Record
from regrow.ipc.peers import Peer, Peers
from regrow.ipc.process import start_time
from regrow.ipc.transport import Full, Gone, Transport
from regrow.ipc.wire import Refusal, WireError

if TYPE_CHECKING:
    from regrow.ipc.link import Link

MBOX = "mbox"
HEARD_OUT_S = 0.25
"""How long a death waits for the last words of the dead, when something keeps a connection of theirs open."""

EXPLAIN_S = 2.0
LED_S = 0.05
"""How often a thread that would accept looks whether another, that waits here and so accepts already, still does."""

FRESH_S, HALF_FULL_S = 0.001, 0.02
"""
How long a mailbox with messages in it is not looked at for new ones; longer once it is half full, so that senders
which wait for acceptance are slowed down before anybody is refused.
"""

BATCH = 256
"""Messages taken in at once, before anything else is looked at."""

CHAIN: ContextVar[tuple[str, ...]] = ContextVar("chain", default=())
"""The agents that wait for what runs now: it goes with every call made meanwhile."""


class Awaited(Protocol):
    """What can be waited for: `callback` is called when `done` becomes True."""

    callback: Callable[[], None] | None

    @property
    def done(self) -> bool: ...


class Watcher(Protocol):
    """What has descriptors of its own that the node looks at. Its methods are called with the node's lock held."""

    def heard(self) -> None:
        """Something is readable, or was; must neither block nor raise."""

    def dropped(self) -> None:
        """The node looks no more: it was closed, or this process is a fork of the one that watched."""


class MailboxSpec(Struct, frozen=True):
    """A mailbox of this process. `admit` holds (user ids, group ids) that may connect; empty: everybody."""

    name: str
    incarnation: int
    group: str = ""
    replicas: int = 1
    limit: int = LIMIT
    admit: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class Stats:
    """Counters since the start: messages that could not be read, answers that nobody could be given."""

    __slots__ = ("bad", "unanswered")

    def __init__(self) -> None:
        self.bad = 0
        self.unanswered = 0


class Inbox:
    """What `receive` waits for."""

    __slots__ = ("callback", "mailbox", "woken")

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.callback: Callable[[], None] | None = None
        self.woken = False

    @property
    def done(self) -> bool:
        return self.woken or bool(self.mailbox.waiting)


class Node:
    """
    Args:
        run_dir: the daemon's.
        mailbox: what others send to; None for a process that only asks.
        limit: how many messages may be on their way to one receiver.
    Raises:
        Unreachable: there is no daemon; OSError: the mailbox cannot be made.
    """

    def __init__(self, run_dir: str, mailbox: MailboxSpec | None = None, *, limit: int = LIMIT) -> None:
        self.run_dir = os.path.abspath(run_dir)
        self.spec = mailbox
        self.name = mailbox.name if mailbox is not None else ""
        self.limit = limit
        self.stats = Stats()
        self.names = Names(self.run_dir)
        self.mailbox = Mailbox(mailbox.limit if mailbox is not None else LIMIT)
        self.record: Record | None = None
        self._own_names: list[str] = []
        self._file = f"{self.name}.{mailbox.incarnation}.{os.urandom(4).hex()}" if mailbox is not None else ""
        self._begin()
        _nodes.add(self)

    def _begin(self) -> None:
        admit = self.spec.admit if self.spec is not None else ((), ())
        self.transport = Transport(os.path.join(self.run_dir, MBOX), self._file, admit)
        self.peers = Peers(self.limit)
        self.links: dict[bytes, Link] = {}
        self._watchers: dict[int, Watcher] = {}
        self.inbox = Inbox(self.mailbox)
        self.closed = False
        self.forked = False
        self._lock = threading.RLock()
        self._leading = False
        self._attending = False
        self._recall_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._followers: set[threading.Event] = set()
        self._ids = itertools.count(1)
        self._turns: dict[str, int] = {}
        self._fresh_s = 0.0

    def locked(self) -> threading.RLock:
        """What must be held while the transport is used."""
        return self._lock

    # sending

    def submit(self, awaits: Awaits, to: str | Address, handler: str, args: Any, kwargs: Any) -> Pending:
        """
        Send a message that is to be accepted, or answered.

        Raises:
            NoProcess, CallingSelf, Backpressure, BadRequest (the arguments cannot be encoded).
        """
        if self.forked:
            self._begin_anew()
        with self._lock:
            peer = self._peer(to)
            name = peer.record.name
            ledger = peer.ledger
            id = next(self._ids)
            if awaits is Awaits.REPLY:
                if name == self.name:
                    raise CallingSelf(name)
                frame = self._encode(name, handler, (0x12, id, handler, args, kwargs, CHAIN.get()))
            else:
                frame = self._encode(name, handler, (0x11, id, handler, args, kwargs))
            if len(ledger.open) >= self.limit:
                self._turn()
            pending = ledger.sent(id, awaits, name, handler)
            try:
                self._hand_over(peer, frame)
            except MessageError:
                del ledger.open[id]
                raise
            if self._leading:
                self._take_in()
            return pending

    def cast(self, to: str | Address, handler: str, args: Any, kwargs: Any) -> bool:
        """
        Send a message that nobody waits for (S196).

        Returns:
            Whether it went out; False when nobody has that name, or so much is on its way there already.
        Raises:
            BadRequest: the arguments cannot be encoded.
        """
        if self.forked:
            self._begin_anew()
        with self._lock:
            try:
                peer = self._peer(to)
                self._hand_over(peer, self._encode(peer.record.name, handler, (0x10, handler, args, kwargs)))
            except (NoProcess, Backpressure):
                return False
            return True

    def _encode(self, to: str, handler: str, message: tuple[Any, ...]) -> bytes:
        try:
            frame = wire.encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadRequest(to, f"cannot encode the arguments of {handler}: {error}") from None
        if len(frame) > wire.MAX_MESSAGE_BYTES:
            raise BadRequest(to, f"the message has {len(frame)} bytes, {wire.MAX_MESSAGE_BYTES} are the limit")
        return frame

    def _hand_over(self, peer: Peer, frame: bytes) -> None:
        try:
            if not peer.alias:
                self.peers.connected(peer, self.transport.connect(peer.record.mailbox))
            self.transport.send(peer.alias, frame)
        except Full:
            self._turn()
            raise Backpressure(peer.record.name, len(peer.ledger.open), self.limit, "the way there") from None
        except Gone:
            raise NoProcess(peer.record.name, "its mailbox is closed") from None

    # finding

    def _peer(self, to: str | Address) -> Peer:
        if isinstance(to, str):
            known = self.peers.by_name.get(to)
            if known is not None and known.lived_lately():
                return known
            found = self._find(to)
            if found is not None:
                return found
        name = choose(self, to, self._turns)
        if name is None:
            raise NoProcess(str(to))
        found = self._find(name)
        if found is None:
            raise NoProcess(name)
        return found

    def _find(self, name: str) -> Peer | None:
        """The living process that has the name now."""
        peer = self._lookup(name)
        if peer is None and self.names.is_stale():
            self._reopen_names(name)
            peer = self._lookup(name)
        return peer

    def _lookup(self, name: str) -> Peer | None:
        record = self.names.get(name)
        if record is None:
            return None
        peer = self.peers.meet(record)
        if peer is None:
            return None
        self._witness(peer)
        if record.name == name:  # another name may be given up, or passed on, while its holder lives
            self.peers.by_name[name] = peer
        return peer

    def _witness(self, peer: Peer) -> None:
        try:
            self.transport.epoll.register(peer.pidfd, select.EPOLLIN)
        except FileExistsError:
            pass  # it is one that is known

    def _reopen_names(self, name: str) -> None:
        try:
            self.names.reopen()
        except Unreachable as error:
            raise NoProcess(name, str(error)) from None

    def members(self, group: str) -> list[str]:
        """The names in a group of those that live, by their number."""
        with self._lock:
            names = self.names.members(group)
            if not names and self.names.is_stale():
                self._reopen_names(group)
                names = self.names.members(group)
            return [name for name in names if self._is_up(name)]

    def _is_up(self, name: str) -> bool:
        peer = self.peers.by_name.get(name)
        if peer is not None and not peer.is_dead():
            return True
        return self._lookup(name) is not None

    def outstanding(self, name: str) -> int:
        """How many of this process's messages `name` has not answered yet."""
        peer = self.peers.by_name.get(name)
        return len(peer.ledger.open) if peer is not None else 0

    # waiting

    def wait(self, thing: Awaited, deadline_s: float) -> bool:
        """Wait until `thing.done`, at most until `deadline_s` (monotonic; inf: for ever); returns `thing.done`."""
        if self._attending:
            self._recall()
        try:
            while not _is_done(thing):
                with self._lock:
                    self._turn(thing)
                    now_s = time.monotonic()
                    if _is_done(thing) or deadline_s <= now_s:
                        break
                    left_s = min(deadline_s, self._next_s()) - now_s
                    follower = threading.Event() if self._leading else None
                    if follower is None:
                        self._leading = True
                        thing.callback = self.transport.wake
                    else:
                        self._followers.add(follower)
                        thing.callback = follower.set
                if follower is None:
                    self._lead(left_s, thing)
                else:
                    follower.wait(min(max(left_s, 0.0), threading.TIMEOUT_MAX))
                    self._followers.discard(follower)
        finally:
            with self._lock:
                if self._followers and not self._leading:
                    next(iter(self._followers)).set()  # somebody else has to lead now
        return thing.done

    def _lead(self, left_s: float, thing: Awaited) -> None:
        """Wait for the kernel, for all who wait in this process."""
        try:
            events = self.transport.epoll.poll(_epoll_timeout(left_s))
        finally:
            with self._lock:
                self._leading = False
                thing.callback = None
        with self._lock:
            self._heard(events)
            self._turn(thing)

    def _heard(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            if fd == self.transport.wake_fd:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass  # another thread has
            elif fd == self.transport.monitor_fd:
                self.transport.watch_connections()
            elif fd in self.peers.by_pidfd:
                self.transport.epoll.unregister(fd)
                self.peers.dies(fd, time.monotonic())
            elif fd in self._watchers:
                self._watchers[fd].heard()

    def _next_s(self) -> float:
        """When something is due even if nothing is heard."""
        dying = self.peers.dying
        return dying[0].dying_since + HEARD_OUT_S if dying and dying[0].dying_since is not None else float("inf")

    def _turn(self, until: Awaited | None = None) -> None:
        """
        Take in all that has come, or what came until something is done; tell of deaths whose last words are among it.

        What is left in the socket then is not announced again: who stops here looks again before waiting.
        """
        self._take_in(until)
        for peer in list(self.peers.dying):
            assert peer.dying_since is not None
            late = time.monotonic() >= peer.dying_since + HEARD_OUT_S
            if self.transport.is_heard_out(peer.record.pid) or late:
                self._take_in()
                self._bury(peer)
        for file in self.transport.handshakes():
            for link in list(self.links.values()):
                if link.file.endswith(file):
                    link.came_up()

    def _bury(self, peer: Peer) -> None:
        record = peer.record
        self.peers.forget(peer)
        if peer.alias:
            self.transport.disconnect(record.mailbox)

        def error(_pending: Pending) -> MessageError:
            return ProcessDown(Down(record.name, record.incarnation, self.explain))

        peer.ledger.down(error)
        for monitor in peer.monitors:
            self._tell(monitor, Down(record.name, record.incarnation, self.explain))

    # taking in

    def _take_in(self, until: Awaited | None = None) -> None:
        while self.transport.has_input():
            self._take_batch(until)
            if until is not None and until.done:
                break
        inbox = self.inbox
        if inbox.callback is not None and self.mailbox.waiting:
            inbox.callback()

    def _take_batch(self, until: Awaited | None = None) -> None:
        receive = self.transport.receive
        accepted: dict[bytes, list[int]] = {}
        for number in range(BATCH):
            if number == 1 and (_has_come(until) or not self.transport.has_input()):
                break  # a single message is the rule, and an exception dearer than a question
            found = receive()
            if found is None:
                break
            self._take(found[0], found[1], accepted)
        for routing, runs in accepted.items():
            self._say(routing, wire.encode((0x20, runs)))

    def _take(self, routing: bytes, frame: bytes | memoryview, accepted: dict[bytes, list[int]]) -> None:
        peer = self.peers.by_alias.get(routing)
        if peer is not None:
            try:
                peer.ledger.answered(wire.decode_answer(frame))
            except WireError:
                self.stats.bad += 1
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
        refusal = self.mailbox.take(routing, request, len(frame))
        if refusal is not None:
            if refusal.id >= 0:
                self._say(routing, wire.encode(refusal))
        elif type(request) is wire.Send:
            _add(accepted.setdefault(routing, []), request.id)

    def _say(self, routing: bytes, frame: bytes) -> None:
        """Answer; who is gone, or does not listen, gets none."""
        try:
            self.transport.send(routing, frame)
        except (Gone, Full):
            self.stats.unanswered += 1

    # being sent to

    def announce(self) -> None:
        """From now on others find this process by its name."""
        assert self.spec is not None
        spec = self.spec
        self.record = Record(
            spec.name, spec.incarnation, os.getpid(), start_time(os.getpid()), self._file, spec.group, spec.replicas
        )
        before = self.names.announce(spec.name, self.record)
        if before is not None and before.mailbox != self._file and not before.is_alive():
            _remove(os.path.join(self.run_dir, MBOX, before.mailbox))

    def withdraw(self) -> None:
        """From now on nobody finds this process; what comes still comes."""
        record, self.record = self.record, None
        if record is not None:
            for name in (record.name, *self._own_names):
                self.names.withdraw(name, record)

    def register(self, name: str) -> None:
        """
        Take another name besides (S220-S222); it goes with the process.

        Raises:
            Refused: `already_registered`, `bad_request`.
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
        if self._attending:
            self._recall()
        if not waiting:
            self.wait(self.inbox, float("inf") if timeout_s is None else time.monotonic() + timeout_s)
        elif time.monotonic() >= self._fresh_s:
            with self._lock:
                self._take_batch()
            half_full = 2 * len(waiting) > self.mailbox.limit
            self._fresh_s = time.monotonic() + (HALF_FULL_S if half_full else FRESH_S)
        if self.inbox.woken:
            self.inbox.woken = False
            return None
        with self._lock:
            return self.mailbox.next()

    def accept(self) -> None:
        """Take in what has come, so that its senders know; never blocks for long."""
        with self._lock:
            self._turn()

    def attend(self, still: Callable[[], bool]) -> None:
        """
        Go on accepting, in a thread of its own, until somebody else waits on this node, or not `still()`.

        While somebody does, there is nothing to do here, and two who take in each other's messages are slower than one.
        """
        if self._leading:
            time.sleep(LED_S)
            return
        self._attending = True
        poll = select.poll()
        poll.register(self.transport.epoll.fileno(), select.POLLIN)
        poll.register(self._recall_fd, select.POLLIN)
        while self._attending and still():
            ready = poll.poll(1000)
            if any(fd == self._recall_fd for fd, _ in ready):
                break
            with self._lock:
                if not self._leading:
                    self._heard(self.transport.epoll.poll(0))
                self._turn()
        self._attending = False
        try:
            os.eventfd_read(self._recall_fd)
        except BlockingIOError:
            pass  # it ended by itself

    def _recall(self) -> None:
        self._attending = False
        os.eventfd_write(self._recall_fd, 1)

    def wake(self) -> None:
        """Let `receive` return None; may be called from any thread and any signal handler."""
        self.inbox.woken = True
        self.transport.wake()

    def reply(self, envelope: Envelope, value: bytes) -> None:
        """Answer a call with an encoded value."""
        if not envelope.is_call:
            return
        id = wire.encode(envelope.id)
        with self._lock:
            if len(value) > wire.MAX_MESSAGE_BYTES - 16:
                text = f"its answer has {len(value)} bytes, {wire.MAX_MESSAGE_BYTES} are the limit"
                self.refuse(envelope, wire.REMOTE_ERROR, text, type="OversizedReply")
            else:
                self._say(envelope.routing, b"\x93\x21" + id + value)

    def refuse(self, envelope: Envelope, code: str, text: str, **details: Any) -> None:
        """Answer with an error; only a call awaits one after it was accepted."""
        if envelope.is_call and envelope.id is not None:
            with self._lock:
                self._say(envelope.routing, wire.encode(Refusal(envelope.id, code, text, details)))

    def waiting(self, envelope: Envelope) -> None:
        """Tell a caller that its call closes a circle of calls."""
        if envelope.id is not None:
            with self._lock:
                self._say(envelope.routing, wire.encode(wire.Waiting(envelope.id, (*envelope.chain, self.name))))

    def refuse_all(self, code: str = wire.SHUTDOWN, text: str = "") -> None:
        """Refuse what is queued and whatever still comes."""
        with self._lock:
            self._turn()
            for envelope in self.mailbox.close(code, text):
                refusal = closing(envelope, code, text) if envelope.is_call else None
                if refusal is not None:
                    self._say(envelope.routing, wire.encode(refusal))

    def deliver(self, news: Signal | Down) -> None:
        """Queue a signal, or a death that is no monitor's, for `receive`."""
        with self._lock:
            self.mailbox.tell(news)
            if self.inbox.callback is not None:
                self.inbox.callback()

    # monitors

    def monitor(self, name: str) -> Monitor:
        """Be told of the death of whoever has the name now; at once, and with `noproc`, where nobody has (S201)."""
        if self.forked:
            self._begin_anew()
        with self._lock:
            peer = self._named(name)
            monitor = Monitor(self, name, peer)
            if peer is None:
                self._tell(monitor, Down(name, 0, reason=NOPROC))
            else:
                peer.monitors.append(monitor)
            return monitor

    def _named(self, name: str) -> Peer | None:
        try:
            return self._peer(name)
        except NoProcess:
            return self._unnamed(name)

    def _unnamed(self, name: str) -> Peer | None:
        """A command or a function has no record of its own: the daemon knows its process."""
        record = self._ask_control(lambda control: _record_of(control.request("status", names=[name]), name))
        peer = self.peers.meet(record) if record is not None else None
        if peer is not None:
            self._witness(peer)
        return peer

    def _tell(self, monitor: Monitor, down: Down) -> None:
        monitor.settle(down)
        if self.spec is not None:
            self.mailbox.tell(down)
            if self.inbox.callback is not None:
                self.inbox.callback()

    def heard(self, down: Down) -> None:
        """Somebody has waited for this one, and need not be told again."""
        with self._lock:
            self.mailbox.untell(down)

    def demonitor(self, monitor: Monitor, flush: bool) -> bool:
        with self._lock:
            if monitor.done:
                if flush and monitor.down is not None:
                    self.mailbox.untell(monitor.down)
                return False
            if monitor.peer is not None:
                monitor.peer.monitors.remove(monitor)
            monitor.settle(None)
            return True

    def explain(self, name: str, incarnation: int) -> Mapping[str, Any] | None:
        """The `last_exit` of an incarnation, from the root; None when it cannot say."""
        found = self._ask_control(
            lambda control: control.request("exit_reason", name=name, incarnation=incarnation, within_s=EXPLAIN_S)
        )
        return found if isinstance(found, dict) and "reason" in found else None

    def _ask_control(self, ask: Callable[[Any], Any]) -> Any:
        from regrow.ipc.control import ControlClient

        try:
            with ControlClient(self.run_dir, timeout_s=EXPLAIN_S + 1.0) as control:
                return ask(control)
        except ControlError:
            return None

    # event loops, and the end

    def fileno(self) -> int:
        """Readable when `on_readable` should be called."""
        return self.transport.epoll.fileno()

    def on_readable(self) -> float:
        """What an event loop calls; returns when it wants to be called in any case (monotonic seconds)."""
        with self._lock:
            self._heard(self.transport.epoll.poll(0))
            self._turn()
            return self._next_s()

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
            if self._watchers.pop(fd, None) is not None:
                self.transport.epoll.unregister(fd)

    def link(self, file: str, heard: Callable[[bytes], None], came_up: Callable[[], None]) -> Link:
        """A lasting connection to a fixed place in run_dir, made again by itself whenever somebody listens there."""
        from regrow.ipc.link import Link

        if self.forked:
            self._begin_anew()
        with self._lock:
            link = Link(self, f"../{file}", heard, came_up)
            self.links[link.alias] = link
            return link

    def give_up(self, pending: Pending, error: MessageError) -> None:
        """Nobody waits for this one any more; what has come until now still counts (S191)."""
        with self._lock:
            self._turn()
            pending.ledger.give_up(pending, error)

    def close(self, linger_s: float = 1.0) -> None:
        """End all of it; open messages end as `NoProcess`. What was answered is given `linger_s` to leave."""
        with self._lock:
            if self.closed or self.forked:
                return
            self.closed = True
            self.withdraw()
            for peer in self.peers.clear():
                peer.ledger.down(lambda pending: NoProcess(pending.to, "this side was closed"))
                for monitor in peer.monitors:
                    monitor.settle(None)
            for watcher in set(self._watchers.values()):
                watcher.dropped()
            self.transport.close(linger_s)
            self.names.close()
            os.close(self._recall_fd)
            _nodes.discard(self)

    def _begin_anew(self) -> None:
        """
        In a forked process, at its first use: go on as one that only asks.

        Names, peers and open messages are the parent's.
        """
        self.transport.forget()
        for peer in list(self.peers.by_process.values()):
            os.close(peer.pidfd)
        os.close(self._recall_fd)
        watchers, self._watchers = set(self._watchers.values()), {}
        for watcher in watchers:
            watcher.dropped()
        self.spec, self.name, self._file, self.record, self._own_names = None, "", "", None, []
        self.mailbox = Mailbox(LIMIT)
        try:
            self.names.reopen()
        except Unreachable:
            pass  # found again, or reported, when it is needed
        self._begin()


def _has_come(thing: Awaited | None) -> bool:
    """Whether it is a message that was waited for, and is answered; of an inbox, more is always welcome."""
    return type(thing) is Pending and thing.done


def _is_done(thing: Awaited) -> bool:
    return thing.done


def _add(runs: list[int], id: int) -> None:
    if runs and runs[-1] == id - 1:
        runs[-1] = id
    else:
        runs += (id, id)


def _epoll_timeout(left_s: float) -> float:
    return -1 if left_s == float("inf") else max(left_s, 0.0)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # another has, or may not


def _record_of(rows: Any, name: str) -> Record | None:
    for row in rows if isinstance(rows, list) else ():
        if row["name"] == name and row["pid"] is not None:
            return Record(name, row["incarnation"], row["pid"], start_time(row["pid"]), "")
    return None


_nodes: weakref.WeakSet[Node] = weakref.WeakSet()


def _forked() -> None:
    for node in _nodes:
        node.forked = True


os.register_at_fork(after_in_child=_forked)
