"""What a remote client publishes and is subscribed to. It outlives connections: a new one is told of all of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from regrow.ipc import hub_wire
from regrow.ipc.credit import WINDOW, Credit
from regrow.ipc.errors import Backpressure, BadRequest, DeliveryTimeout
from regrow.ipc.mailbox import Signal
from regrow.ipc.remote_steps import Steps
from regrow.ipc.remote_waits import Asking
from regrow.ipc.topics import TopicError, check_free_topic, check_pattern, is_event_pattern
from regrow.ipc.unsendable import bad_value
from regrow.ipc.verbs import deadline
from regrow.ipc.wire import UNREADABLE, UNSENDABLE

HUB = "the hub"
UNSENT = 10_000
"""Signals that wait for a connection to come back."""


class RemoteSignals:
    """The part of a remote client that has to do with signals; `asking` is shared with it."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._arrived = threading.Condition(asking.lock)
        self._patterns: dict[str, None] = {}
        self._unsent: deque[hub_wire.Signal] = deque()
        self._queue: deque[tuple[Signal, int]] = deque()
        self._lost = 0
        self._credit = Credit(lambda count: self._asking.say(hub_wire.Credit(count)))
        self._callbacks: list[Callable[[], None]] = []
        self.last_seq: int | None = None
        self.bad = 0

    def publish(self, topic: str, message: Any, timeout: float | None) -> Steps[int | None]:
        try:
            check_free_topic(topic)
        except (TopicError, TypeError) as error:
            raise BadRequest(str(topic), str(error)) from None
        try:
            value = hub_wire.pack(message)
        except UNSENDABLE as error:
            raise bad_value(topic, "the message", message, error) from None
        if timeout is not None:
            deadline(timeout)
            id, wait = self._asking.ask(HUB, f"publish {topic}", lambda id: hub_wire.Publish(id, topic, value))
            try:
                yield wait, timeout
            finally:
                self._asking.give_up(id)
            if not wait.done:
                raise DeliveryTimeout(HUB, f"what is published under {topic}", timeout)
            return int(wait.result(int))
        signal = hub_wire.Signal(topic, value)
        with self._asking.lock:
            if self._asking.say(signal, topic):
                return None
            if len(self._unsent) >= UNSENT:
                raise Backpressure(HUB, len(self._unsent), UNSENT, "the way to it")
            self._unsent.append(signal)
        return None

    def subscribe(self, pattern: str, since: int | None, timeout: float) -> Steps[bool]:
        deadline(timeout)
        try:
            check_pattern(pattern)
        except TopicError as error:
            raise BadRequest(HUB, str(error)) from None
        with self._asking.lock:
            is_first = not self._patterns
            self._patterns[pattern] = None
            if since is not None:
                self.last_seq = since
            if not self._asking.is_up():
                return False
            id, wait = self._asking.ask(HUB, f"subscribe {pattern}", lambda id: hub_wire.Subscribe(id, pattern))
            if since is not None:
                self._asking.say(hub_wire.Replay(self._asking.next_id(), since))
            if is_first:
                self._asking.say(hub_wire.Credit(WINDOW))
        try:
            yield wait, timeout
        finally:
            self._asking.give_up(id)
        if not wait.done:
            return False
        seq = wait.result(int)
        with self._asking.lock:
            if self.last_seq is None and is_event_pattern(pattern):
                self.last_seq = seq
        return True

    def unsubscribe(self, pattern: str, timeout: float) -> Steps[bool]:
        deadline(timeout)
        with self._asking.lock:
            if self._patterns.pop(pattern, ...) is ...:
                return False
            id, wait = self._asking.ask(HUB, f"unsubscribe {pattern}", lambda id: hub_wire.Unsubscribe(id, pattern))
        try:
            yield wait, timeout
        finally:
            self._asking.give_up(id)
        return True

    def next(self, timeout: float) -> Steps[Signal | None]:
        """The next signal; several may wait for one."""
        end_s, left_s = deadline(timeout), timeout
        while True:
            yield self, left_s
            with self._arrived:
                if self._queue:
                    signal, size = self._queue.popleft()
                    self._credit.handled(size)
                    return signal
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return None

    # as what is waited for: a signal that nobody has taken yet

    @property
    def done(self) -> bool:
        return bool(self._queue)

    def wait_until_done(self, timeout_s: float) -> object:
        with self._arrived:
            return self._arrived.wait_for(lambda: self._queue, min(timeout_s, threading.TIMEOUT_MAX))

    def tell(self, callback: Callable[[], None]) -> None:
        with self._arrived:
            self._callbacks.append(callback)
            if self._queue:
                callback()

    def tell_no_more(self, callback: Callable[[], None]) -> None:
        with self._arrived:
            self._callbacks.remove(callback)

    def came_up(self) -> None:
        """The hub knows nothing of this client; under the lock, in the link's thread."""
        self._credit.begin(len(self._queue))
        for pattern in self._patterns:
            self._asking.say(hub_wire.Subscribe(self._asking.next_id(), pattern))
        if self._patterns:
            if self.last_seq is not None:
                self._asking.say(hub_wire.Replay(self._asking.next_id(), self.last_seq))
            self._asking.say(hub_wire.Credit(WINDOW))
        while self._unsent:
            self._asking.say(self._unsent.popleft())

    def heard(self, message: hub_wire.Signal | hub_wire.Event | hub_wire.Lost) -> None:
        with self._arrived:
            if isinstance(message, hub_wire.Lost):
                self._lost += message.count
                return
            size = len(memoryview(message.message))
            if isinstance(message, hub_wire.Event):
                if self.last_seq is not None and message.seq <= self.last_seq:
                    self._credit.handled(size)  # it was replayed
                    return
                self.last_seq = message.seq
            try:
                value = msgspec.msgpack.decode(message.message)
            except UNREADABLE:
                self.bad += 1
                self._lost += 1
                self._credit.handled(size)
                return
            lost, self._lost = self._lost, 0
            self._queue.append((Signal(message.topic, value, lost), size))
            self._arrived.notify()
            for callback in self._callbacks:
                callback()
