"""
What a process publishes and what it is subscribed to, over its connection to the hub.

The connection comes about by itself, and again after each start of the hub. What is published while there is no hub
waits in this process, up to a limit, for the next one. Subscriptions are recorded beside the names, so that a new hub
knows them before this process is back; what it is sent is bounded by the credit that it gives.

Source: docs/protocol.md; architecture section 6.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.ipc import hub_wire
from regrow.ipc.credit import WINDOW, Credit
from regrow.ipc.errors import Backpressure, BadRequest, DeliveryTimeout, MessageError
from regrow.ipc.mailbox import Signal
from regrow.ipc.recorder import Recorder
from regrow.ipc.subscriptions import MAX_PATTERNS
from regrow.ipc.topics import TopicError, check_free_topic, check_pattern, is_event_pattern
from regrow.ipc.transport import Full, Gone
from regrow.ipc.unsendable import bad_value
from regrow.ipc.verbs import deadline
from regrow.ipc.wire import MAX_MESSAGE_BYTES, UNREADABLE, UNSENDABLE, WireError

if TYPE_CHECKING:
    from regrow.ipc.link import Link
    from regrow.ipc.node import Node

HUB = "the hub"
RECORDED_S = 1.0
"""How long a process that ends waits for its record to be gone; a hub drops those of the dead in any case."""


class Answer:
    """What the hub says to one request."""

    __slots__ = ("callback", "done", "error", "value")

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None
        self.done = False
        self.value: Any = None
        self.error: MessageError | None = None

    def settle(self, value: Any = None, error: MessageError | None = None) -> None:
        self.value, self.error, self.done = value, error, True
        if self.callback is not None:
            self.callback()


class Signals:
    """
    Args:
        node: the process's.
        deliver: takes each signal as it comes, under the node's lock, and must not block; whoever handles it says
            `handled` then. None: signals wait here for `receive`.
    """

    def __init__(self, node: Node, deliver: Callable[[Signal], None] | None = None) -> None:
        self._node = node
        self._deliver = deliver
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._token = os.urandom(8).hex()
        self._link: Link | None = None
        self._last_id = 0
        self._answers: dict[int, Answer] = {}
        self._patterns: dict[str, Answer] = {}
        self._subscribing: dict[int, str] = {}
        self._recorder = Recorder(self._node.names, self._token)
        self._is_up = False
        self._is_greeted = False
        self._queue: deque[Signal] = deque()
        self._lost = 0
        self._sizes: deque[int] = deque()
        self._credit = Credit(lambda count: self._try(hub_wire.Credit(count)))
        self.last_seq: int | None = None
        """Events are known up to this number; None before the first subscription to any."""
        self.bad = 0
        self.callback: Callable[[], None] | None = None

    # publishing

    def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """
        Publish a signal. With a `timeout` (seconds), wait for the hub to have handed it out: returns to how many.

        Raises:
            BadRequest: no topic, or nothing that can be encoded. Backpressure: too many wait for the hub.
            DeliveryTimeout: the hub has not answered; the signal may still be handed out.
        """
        try:
            check_free_topic(topic)
        except (TopicError, TypeError) as error:
            raise BadRequest(str(topic), str(error)) from None
        try:
            value = hub_wire.pack(message)
        except UNSENDABLE as error:
            raise bad_value(topic, "the message", message, error) from None
        size = len(memoryview(value))
        if size + 512 > MAX_MESSAGE_BYTES:
            raise BadRequest(topic, f"the message has {size} bytes, {MAX_MESSAGE_BYTES} are the limit")
        if timeout is None:
            self._send(hub_wire.Signal(topic, value), topic)
            return None
        with self._node.locked():
            id, answer = self._ask()
            self._send(hub_wire.Publish(id, topic, value), topic)
        count: int = self._result(id, answer, timeout, topic)
        return count

    # subscribing

    def subscribe(self, pattern: str, *, since: int | None = None, timeout: float = 5.0) -> bool:
        """
        Get what is published under `pattern` from now on; `since`: and the daemon's events after that number.

        Returns:
            Whether the hub has confirmed it in time; if it has not, it will know of it as soon as it is there.
        Raises:
            BadRequest: no pattern. Backpressure: too many subscriptions.
        """
        try:
            check_pattern(pattern)
        except TopicError as error:
            raise BadRequest(HUB, str(error)) from None
        with self._node.locked():
            self._connected()
            if len(self._patterns) >= MAX_PATTERNS:
                raise Backpressure(HUB, len(self._patterns), MAX_PATTERNS, "this process")
            answer = self._patterns[pattern] = Answer()
            self._record()
            if since is not None:
                self.last_seq = since
            if self._is_up:
                self._greet()
                self._say_subscribe(pattern)
                self._say_replay(since)
        end_s = deadline(timeout)
        confirmed = self._node.wait(answer, end_s)
        self._recorder.settle(max(end_s - time.monotonic(), 0.0))
        return confirmed

    def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """
        Get it no longer; whether there was such a subscription. What has come already may still be handed out.
        """
        with self._node.locked():
            self._connected()
            if self._patterns.pop(pattern, None) is None:
                return False
            self._record()
            id, answer = self._ask()
            self._try(hub_wire.Unsubscribe(id, pattern))
        end_s = deadline(timeout)
        self._node.wait(answer, end_s)
        self._answers.pop(id, None)
        self._recorder.settle(max(end_s - time.monotonic(), 0.0))
        return True

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(self._patterns)

    # receiving

    def receive(self, timeout_s: float = 60.0) -> Signal | None:
        """The next signal; None when none comes in time. Only where signals wait here."""
        self._node.wait(self, deadline(timeout_s))
        with self._node.locked():
            if not self._queue:
                return None
            self.handled()
            return self._queue.popleft()

    @property
    def done(self) -> bool:
        """Whether `receive` has something to return (what `Node.wait` looks at)."""
        return bool(self._queue)

    def handled(self) -> None:
        """One signal, the oldest of those delivered, needs no room any more: let the hub send another."""
        with self._node.locked():
            self._credit.handled(self._sizes.popleft() if self._sizes else 0)

    def _handled_at_once(self) -> None:
        """The newest signal is handed to nobody: a double, or none that can be read."""
        self._sizes.rotate(1)
        self.handled()

    def close(self) -> None:
        """End all subscriptions."""
        with self._node.locked():
            if self._link is None or self._pid != os.getpid() or self._node.closed:
                return
            if self._patterns:
                self._try(hub_wire.Bye())
                self._patterns.clear()
                self._record()
            self._link.close()
            self._link = None
        self._recorder.settle(RECORDED_S)

    # the connection

    def _connected(self) -> Link:
        """The connection to the hub; in a forked process a new one, without the parent's subscriptions."""
        if self._pid != os.getpid():
            self._begin()
        if self._link is None:
            self._link = self._node.link(hub_wire.ENDPOINT, self._heard, self._came_up)
            self._node.transport.watch_connections()  # ZeroMQ announces nothing before it was asked once
        return self._link

    def _came_up(self) -> None:
        """The hub is there, and knows of this process only what is recorded."""
        self._is_up = True
        self._is_greeted = False
        self._subscribing.clear()
        self._credit.begin(len(self._sizes))
        if self._patterns:
            self._record()  # the daemon itself may have been started anew, with a new table
            self._try(hub_wire.Hello(hub_wire.VERSION, self._token))
            self._is_greeted = True
            for pattern in self._patterns:
                self._say_subscribe(pattern)
            self._say_replay(self.last_seq)
            # Last, so that nothing new comes before what was missed.
            self._try(hub_wire.Credit(WINDOW))
            self._node.accept()  # sending may have used up the sign that something has come

    def _greet(self) -> None:
        """Before the first subscription on a connection that was only published over."""
        if not self._is_greeted:
            self._is_greeted = True
            self._try(hub_wire.Hello(hub_wire.VERSION, self._token))
            self._try(hub_wire.Credit(WINDOW))

    def _say_subscribe(self, pattern: str) -> None:
        self._last_id += 1
        self._subscribing[self._last_id] = pattern
        self._try(hub_wire.Subscribe(self._last_id, pattern))

    def _say_replay(self, since: int | None) -> None:
        if since is not None:
            self._last_id += 1
            self._try(hub_wire.Replay(self._last_id, since))

    def _record(self) -> None:
        """Write down what this process is subscribed to, for hubs to come."""
        self._recorder.record(tuple(self._patterns))

    def _ask(self) -> tuple[int, Answer]:
        self._last_id += 1
        answer = self._answers[self._last_id] = Answer()
        return self._last_id, answer

    def _send(self, message: hub_wire.ToHub, about: str) -> None:
        with self._node.locked():
            try:
                self._connected().send(hub_wire.encode(message))
            except Full:
                raise Backpressure(about, self._node.limit, self._node.limit, "the way to the hub") from None
            except Gone:
                self._link = None  # it was closed under us; the next message makes another
                raise Backpressure(about, 0, 0, "the way to the hub, which was just closed,") from None

    def _try(self, message: hub_wire.ToHub) -> None:
        """Say it if it can be said; what cannot be is said again when the hub comes up."""
        try:
            self._send(message, HUB)
        except Backpressure:
            pass

    def _result(self, id: int, answer: Answer, timeout: float, about: str) -> Any:
        if not self._node.wait(answer, deadline(timeout)):
            self._answers.pop(id, None)
            raise DeliveryTimeout(HUB, f"what is published under {about}", timeout)
        if answer.error is not None:
            raise answer.error
        return answer.value

    # what the hub says

    def _heard(self, frame: bytes) -> None:
        try:
            message = hub_wire.decode_from_hub(frame)
            match message:
                case hub_wire.Signal() | hub_wire.Event():
                    self._take(message, len(frame))
                case hub_wire.Lost():
                    self._lost += message.count
                case hub_wire.Done():
                    self._answered(message.id, msgspec.msgpack.decode(message.value), None)
                case hub_wire.Refusal():
                    self._answered(message.id, None, BadRequest(HUB, message.text))
                case _:
                    pass  # a welcome, which `_came_up` has been told of already
        except (WireError, *UNREADABLE):
            self.bad += 1

    def _answered(self, id: int, value: Any, error: MessageError | None) -> None:
        pattern = self._subscribing.pop(id, None)
        if pattern is not None:
            answer = self._patterns.get(pattern)
            if self.last_seq is None and isinstance(value, int) and is_event_pattern(pattern):
                self.last_seq = value  # none of those up to now was missed
        else:
            answer = self._answers.pop(id, None)
        if answer is not None and not answer.done:
            answer.settle(value, error)

    def _take(self, message: hub_wire.Signal | hub_wire.Event, size: int) -> None:
        self._sizes.append(size)
        if isinstance(message, hub_wire.Event):
            if self.last_seq is not None and message.seq <= self.last_seq:
                self._handled_at_once()
                return
            self.last_seq = message.seq
        lost, self._lost = self._lost, 0
        try:
            signal = Signal(message.topic, msgspec.msgpack.decode(message.message), lost)
        except UNREADABLE:
            self.bad += 1
            self._lost = lost + 1
            self._handled_at_once()
            return
        if self._deliver is not None:
            self._deliver(signal)
            return
        self._queue.append(signal)
        if self.callback is not None:
            self.callback()
