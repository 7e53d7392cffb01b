"""
What the hub does with each message that comes to it. It waits for nobody, and nothing that comes can stop it.

Pure but for its ports: the processes that messages go to (`Calls`), the root (`ControlPort`), the recorded
subscribers (`Records`) and the clock.

Source: docs/protocol.md; architecture section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Raw

from regrow.ipc import hub_wire as wire
from regrow.ipc.down import reason_of
from regrow.ipc.errors import NoProcess
from regrow.ipc.subscriptions import MAX_PATTERNS
from regrow.ipc.topics import TopicError, check_free_topic, check_pattern
from regrow.ipc.wire import BACKPRESSURE, BAD_REQUEST, WireError
from regrow.workers.system.hub_board import Board, Subscriber
from regrow.workers.system.hub_peer import MAX_MONITORS, MAX_REQUESTS, Handle, Outstanding, Peer
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_topics import REMEMBERED_TOPICS

Answered = Callable[[Raw], None]
NotAnswered = Callable[[str, str, dict[str, Any]], None]
"""Takes a code, a text and details."""

Ask = Callable[[Answered, NotAnswered], Handle]

Died = Callable[[str, int, Mapping[str, Any]], None]
"""Takes a name, its incarnation (0: there was none) and its `last_exit`."""


class Calls(Protocol):
    """Messages to processes of this host. No method waits; what they call back, they do later."""

    def call(self, request: wire.Call | wire.Send, done: Answered, failed: NotAnswered) -> Handle: ...

    def cast(self, request: wire.Cast) -> None: ...

    def post(self, request: wire.Post, done: Answered, failed: NotAnswered) -> Handle: ...

    def monitor(self, name: str, down: Died) -> Handle: ...

    def whereis(self, name: str) -> Mapping[str, Any] | None:
        """Who has the name now; raises NoProcess when it cannot be told whether it lives."""


class ControlPort(Protocol):
    """The root's verbs. `request` never waits."""

    def request(self, verb: str, fields: Mapping[str, Any], done: Answered, failed: NotAnswered) -> Handle: ...


class Records(Protocol):
    """Subscribers that are recorded and outlive their connections."""

    def claim(self, token: str, pid: int) -> Subscriber | None:
        """The subscriber of that token, if it is that process's."""

    def forget(self, token: str) -> None:
        """It wants no signals any more."""


class Refuse(Exception):
    """Ends the handling of one message with a refusal."""

    def __init__(self, code: str, text: str, **details: Any) -> None:
        super().__init__(text)
        self.code = code
        self.details = details


class Gateway:
    """Serves all peers. `bad` counts messages that could not be read, `refused` those that were not granted."""

    def __init__(self, board: Board, timers: Timers, calls: Calls, control: ControlPort, records: Records) -> None:
        self._board = board
        self._timers = timers
        self._calls = calls
        self._control = control
        self._records = records
        self.received = 0
        self.bad = 0
        self.refused = 0
        self._free_topics: set[str] = set()
        self._handlers: dict[type, Callable[[Peer, Any], None]] = {
            wire.Credit: self._credit,
            wire.Call: self._call,
            wire.Send: self._call,
            wire.Cast: self._cast,
            wire.Post: self._post,
            wire.Cancel: self._cancel,
            wire.Monitor: self._monitor,
            wire.Demonitor: self._demonitor,
            wire.Publish: self._publish,
            wire.Subscribe: self._subscribe,
            wire.Unsubscribe: self._unsubscribe,
            wire.Replay: self._replay,
            wire.Control: self._ask_root,
            wire.Whereis: self._whereis,
            wire.Hello: self._hello,
            wire.Ping: lambda peer, message: peer.done(message.id, wire.NIL),
            wire.Bye: self._bye,
        }

    def receive(self, peer: Peer, frame: bytes) -> None:
        """Do what a message asks for. Raises nothing, whatever it is."""
        self.received += 1
        if not frame:
            return  # how ZeroMQ can announce a connection (ZMQ_PROBE_ROUTER); it has been welcomed
        try:
            message = wire.decode_to_hub(frame)
        except WireError as error:
            self.bad += 1
            text = str(error)
            peer.refuse(error.id or wire.NOBODY, BAD_REQUEST, text, {"path": _path_in(text)})
            return
        if not peer.open and (peer.is_expelled or not isinstance(message, wire.Signal | wire.Publish | wire.Cast)):
            return  # its connection has ended meanwhile: nobody is there to be answered
        try:
            if type(message) is wire.Signal:
                self._check_topic(message.topic, at=1)
                self._board.publish(message.topic, frame)
            else:
                self._handlers[type(message)](peer, message)
        except Refuse as refusal:
            self.refused += 1
            peer.refuse(getattr(message, "id", wire.NOBODY), refusal.code, str(refusal), refusal.details)

    def close(self, peer: Peer) -> None:
        """Its connection has ended, and everything that it asked for with it."""
        peer.open = False
        self._let_go(peer, peer.release())

    def expel(self, peer: Peer) -> None:
        """It may no longer be here: nothing of it is heard any more."""
        peer.is_expelled = True
        self.close(peer)

    def _let_go(self, peer: Peer, subscriber: Subscriber | None) -> None:
        if subscriber is None:
            return
        if not subscriber.token:
            self._board.drop(subscriber)
        elif subscriber.outlet.transmit is peer.transmit:  # not when its process is back by another connection already
            subscriber.outlet.detach()

    # the connection itself

    def _hello(self, peer: Peer, hello: wire.Hello) -> None:
        if hello.version != wire.VERSION:
            text = f"cannot speak version {hello.version}: this hub speaks version {wire.VERSION}"
            raise Refuse("bad_version", text, versions=[wire.VERSION])
        subscriber = self._records.claim(hello.token, peer.pid) if hello.token else None
        if peer.subscriber is not None and peer.subscriber is not subscriber:
            self._let_go(peer, peer.subscriber)
            peer.subscriber = None
        if subscriber is not None:  # else it is not recorded, or not this process's: it is served like any other
            peer.subscriber = subscriber
            subscriber.outlet.attach(peer.transmit)

    def _bye(self, peer: Peer, _message: wire.Bye) -> None:
        subscriber = peer.release()
        if subscriber is not None:
            self._board.drop(subscriber)
            if subscriber.token:
                self._records.forget(subscriber.token)

    # messages to processes

    def _call(self, peer: Peer, request: wire.Call | wire.Send) -> None:
        late = f"no answer of {request.to} to {request.handler}"
        self._pass_on(peer, request, late, lambda done, failed: self._calls.call(request, done, failed))

    def _cast(self, _peer: Peer, request: wire.Cast) -> None:
        _check_arguments(request, at=3)
        self._calls.cast(request)

    def _post(self, peer: Peer, request: wire.Post) -> None:
        late = f"no word that the post to {request.to} is kept"
        self._pass_on(peer, request, late, lambda done, failed: self._calls.post(request, done, failed))

    def _pass_on(self, peer: Peer, request: wire.Call | wire.Send | wire.Post, late: str, ask: Ask) -> None:
        """Have a process answer; `ask` may have called one of its two ways to answer already when it returns."""
        _check_arguments(request, at=4)
        outstanding = self._owe(peer, request.id, request.timeout_s, late)
        handle = ask(*self._answers(peer, request.id, outstanding))
        if peer.requests.get(request.id) is outstanding:
            outstanding.handle = handle

    def _cancel(self, peer: Peer, message: wire.Cancel) -> None:
        outstanding = peer.requests.pop(message.id, None)
        if outstanding is not None:
            outstanding.cancel()

    def _owe(self, peer: Peer, id: int, timeout_s: float, late: str) -> Outstanding:
        """Note that this request is to be answered, within its time limit at the latest."""
        if id in peer.requests or id in peer.monitors:
            raise Refuse(BAD_REQUEST, f"id {id} is in use; use each once", path="$[1]")
        if len(peer.requests) >= MAX_REQUESTS:
            text = f"{len(peer.requests)} requests of this connection are not answered yet"
            raise Refuse(BACKPRESSURE, text, length=len(peer.requests), limit=MAX_REQUESTS)
        outstanding = Outstanding()

        def too_late() -> None:
            if peer.requests.pop(id, None) is outstanding:
                outstanding.cancel()
                peer.refuse(id, wire.TIMEOUT, f"{late} within {timeout_s:g} s", {"within_s": timeout_s})

        peer.requests[id] = outstanding
        outstanding.timer = self._timers.after(timeout_s, too_late)
        return outstanding

    @staticmethod
    def _answers(peer: Peer, id: int, outstanding: Outstanding) -> tuple[Answered, NotAnswered]:
        """The two ways to answer a request: whichever is called first counts."""

        def is_first() -> bool:
            if peer.requests.get(id) is not outstanding:
                return False
            del peer.requests[id]
            outstanding.stop_timer()
            return True

        def done(value: Raw) -> None:
            if is_first():
                peer.done(id, value)

        def failed(code: str, text: str, details: dict[str, Any]) -> None:
            if is_first():
                peer.refuse(id, code, text, details)

        return done, failed

    def _whereis(self, peer: Peer, message: wire.Whereis) -> None:
        try:
            found = self._calls.whereis(message.name)
        except NoProcess as error:
            raise Refuse(wire.NOPROC, str(error), name=error.to) from None
        peer.done(message.id, wire.pack(found))

    # monitors

    def _monitor(self, peer: Peer, message: wire.Monitor) -> None:
        id = message.id
        if id in peer.requests or id in peer.monitors:
            raise Refuse(BAD_REQUEST, f"id {id} is in use; use each once", path="$[1]")
        if len(peer.monitors) >= MAX_MONITORS:
            text = f"this connection has {len(peer.monitors)} monitors"
            raise Refuse(BACKPRESSURE, text, length=len(peer.monitors), limit=MAX_MONITORS)
        mine = peer.monitors

        def down(name: str, incarnation: int, exit: Mapping[str, Any]) -> None:
            if peer.monitors is mine and id in mine:
                del mine[id]
                peer.transmit(wire.encode(wire.Down(id, name, incarnation, reason_of(exit), dict(exit))))

        mine[id] = None
        handle = self._calls.monitor(message.name, down)
        if id in mine:
            mine[id] = handle

    def _demonitor(self, peer: Peer, message: wire.Demonitor) -> None:
        found = message.monitor in peer.monitors
        handle = peer.monitors.pop(message.monitor, None)
        if handle is not None:
            handle.cancel()
        peer.done(message.id, wire.pack(found))

    # signals

    def _check_topic(self, topic: str, at: int) -> None:
        """As publishers use the same topics again and again, the good ones are remembered."""
        if topic in self._free_topics:
            return
        try:
            check_free_topic(topic)
        except TopicError as error:
            raise Refuse(BAD_REQUEST, str(error), path=f"$[{at}]") from None
        if len(self._free_topics) >= REMEMBERED_TOPICS:
            self._free_topics.clear()
        self._free_topics.add(topic)

    def _publish(self, peer: Peer, message: wire.Publish) -> None:
        self._check_topic(message.topic, at=2)
        count = self._board.publish(message.topic, wire.encode(wire.Signal(message.topic, message.message)))
        peer.done(message.id, wire.pack(count))

    def _subscribe(self, peer: Peer, message: wire.Subscribe) -> None:
        try:
            check_pattern(message.pattern)
        except TopicError as error:
            raise Refuse(BAD_REQUEST, str(error), path="$[2]") from None
        if not self._board.subscribe(self._subscriber(peer), message.pattern):
            text = f"this connection has {MAX_PATTERNS} subscriptions"
            raise Refuse(BACKPRESSURE, text, length=MAX_PATTERNS, limit=MAX_PATTERNS)
        peer.done(message.id, wire.pack(self._board.last_seq))

    def _unsubscribe(self, peer: Peer, message: wire.Unsubscribe) -> None:
        subscriber = peer.subscriber
        found = subscriber is not None and self._board.unsubscribe(subscriber, message.pattern)
        peer.done(message.id, wire.pack(found))

    def _credit(self, peer: Peer, message: wire.Credit) -> None:
        self._subscriber(peer).outlet.grant(message.count)

    def _replay(self, peer: Peer, message: wire.Replay) -> None:
        oldest = self._board.replay(self._subscriber(peer), message.since)
        peer.done(message.id, wire.pack(oldest))

    def _subscriber(self, peer: Peer) -> Subscriber:
        if peer.subscriber is None:
            peer.subscriber = Subscriber(peer.label, transmit=peer.transmit)
        return peer.subscriber

    # the root

    def _ask_root(self, peer: Peer, message: wire.Control) -> None:
        if peer.verbs is not None and message.verb not in peer.verbs:
            raise Refuse(wire.FORBIDDEN, f"{peer.label} may not {message.verb}, only {', '.join(sorted(peer.verbs))}")
        if message.fields.get("follow"):
            raise Refuse(BAD_REQUEST, "events are followed by a subscription to regrow.event.>", path="$[3].follow")
        outstanding = self._owe(peer, message.id, message.timeout_s, f"no answer of the daemon to {message.verb}")
        done, failed = self._answers(peer, message.id, outstanding)
        handle = self._control.request(message.verb, message.fields, done, failed)
        if peer.requests.get(message.id) is outstanding:
            outstanding.handle = handle


def _check_arguments(request: wire.Call | wire.Send | wire.Cast | wire.Post, at: int) -> None:
    """
    Arguments are handed on as they are; that they are an array and a map shows in their first bytes.

    Raises:
        Refuse.
    """
    first = bytes(request.args)[0]
    if not (0x90 <= first <= 0x9F or first in (0xDC, 0xDD)):
        raise Refuse(BAD_REQUEST, f"arguments are an array - at `$[{at}]`", path=f"$[{at}]")
    first = bytes(request.kwargs)[0]
    if not (0x80 <= first <= 0x8F or first in (0xDE, 0xDF)):
        raise Refuse(BAD_REQUEST, f"named arguments are a map - at `$[{at + 1}]`", path=f"$[{at + 1}]")


def _path_in(text: str) -> str:
    """The place of the fault, as msgspec ends its messages with it."""
    return text.rpartition(" - at `")[2].rstrip("`") if " - at `" in text else "$"
