"""
The hub's subscribers, connected or not, and what is published to them.

A subscriber is a connection, or a process of this host that has recorded its subscriptions: that one stays when its
connection ends, and what is published meanwhile waits for it, until it returns or dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from regrow.ipc.hub_wire import Event, encode
from regrow.ipc.subscriptions import MAX_PATTERNS
from regrow.workers.system.hub_outlet import Outlet, Transmit
from regrow.workers.system.hub_topics import Subscriptions

KEPT_EVENTS = 10_000
"""As many as the root keeps."""


class Kept(Struct, frozen=True):
    """An event that can be asked for again."""

    seq: int
    topic: str
    frame: bytes


class Subscriber:
    """Who gets signals. `label` is how it is called where it is spoken of; `token` is empty unless it is recorded."""

    __slots__ = ("label", "outlet", "patterns", "token")

    def __init__(self, label: str, token: str = "", transmit: Transmit | None = None) -> None:
        self.label = label
        self.token = token
        self.patterns: set[str] = set()
        self.outlet = Outlet(transmit)


class Board:
    """
    All subscriptions. `on_lost(subscriber, count)` is told whenever signals are dropped.
    """

    def __init__(self, on_lost: Callable[[Subscriber, int], None]) -> None:
        self._on_lost = on_lost
        self._subscriptions: Subscriptions[Subscriber] = Subscriptions()
        self._events: deque[Kept] = deque(maxlen=KEPT_EVENTS)
        self.last_seq = 0

    def subscribe(self, subscriber: Subscriber, pattern: str) -> bool:
        """Idempotent; False when it has too many already."""
        if pattern not in subscriber.patterns:
            if len(subscriber.patterns) >= MAX_PATTERNS:
                return False
            subscriber.patterns.add(pattern)
            self._subscriptions.add(pattern, subscriber)
        return True

    def unsubscribe(self, subscriber: Subscriber, pattern: str) -> bool:
        """Whether there was such a subscription."""
        if pattern not in subscriber.patterns:
            return False
        subscriber.patterns.discard(pattern)
        self._subscriptions.remove(pattern, subscriber)
        return True

    def drop(self, subscriber: Subscriber) -> None:
        """It will never come back."""
        for pattern in list(subscriber.patterns):
            self.unsubscribe(subscriber, pattern)

    def publish(self, topic: str, frame: bytes) -> int:
        """Hand an encoded signal to everybody who is subscribed; returns to how many."""
        subscribers = self._subscriptions.subscribers(topic)
        for subscriber in subscribers:
            if dropped := subscriber.outlet.put(frame):
                self._on_lost(subscriber, dropped)
        return len(subscribers)

    def happened(self, event: Event) -> None:
        """Keep an event, and hand it to everybody who is subscribed; one that is known already is left out."""
        if event.seq <= self.last_seq:
            return
        self.last_seq = event.seq
        kept = Kept(event.seq, event.topic, encode(event))
        self._events.append(kept)
        for subscriber in self._subscriptions.subscribers(event.topic):
            if dropped := subscriber.outlet.put(kept.frame, is_event=True):
                self._on_lost(subscriber, dropped)

    def replay(self, subscriber: Subscriber, since: int) -> int:
        """
        Hand out the kept events after `since` that this one is subscribed to, before any that come.

        Returns the number of the oldest that is kept: if it is not `since + 1` or less, some are gone for good.
        """
        own: Subscriptions[Subscriber] = Subscriptions()
        for pattern in subscriber.patterns:
            own.add(pattern, subscriber)
        subscriber.outlet.drop_events()
        for kept in self._events:
            if kept.seq <= since or not own.subscribers(kept.topic):
                continue
            if dropped := subscriber.outlet.put(kept.frame, is_event=True):
                self._on_lost(subscriber, dropped)
        return self._events[0].seq if self._events else self.last_seq + 1
