"""
One connection to the hub: who it is, what it is owed, and what it may have.

Source: docs/protocol.md.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Raw

from regrow.ipc.hub_wire import NOBODY, VERSION, Done, Refusal, Welcome, encode
from regrow.ipc.subscriptions import MAX_PATTERNS
from regrow.ipc.wire import MAX_MESSAGE_BYTES
from regrow.workers.system.hub_board import Subscriber
from regrow.workers.system.hub_outlet import MAX_CREDIT, QUEUE, Transmit
from regrow.workers.system.hub_timers import Timer

MAX_REQUESTS = 1_000
"""Of one connection, not answered yet."""

MAX_MONITORS = 1_000
LIMITS = {
    "requests": MAX_REQUESTS,
    "monitors": MAX_MONITORS,
    "subscriptions": MAX_PATTERNS,
    "credit": MAX_CREDIT,
    "queue": QUEUE,
    "message_bytes": MAX_MESSAGE_BYTES,
}


class Handle(Protocol):
    """Something under way that may be given up."""

    def cancel(self) -> bool:
        """Give up; whether there was still something to give up. Nothing is called back after that."""


class Outstanding:
    """A request that is not answered yet."""

    __slots__ = ("handle", "timer")

    def __init__(self) -> None:
        self.handle: Handle | None = None
        self.timer: Timer | None = None

    def cancel(self) -> None:
        self.stop_timer()
        if self.handle is not None:
            self.handle.cancel()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Peer:
    """
    One connection.

    `label` names it to people, `verbs` are the control verbs that it may use (None: all), `pid` is its process's where
    the kernel knows it (0: it is not on this host). `transmit` never waits, and is False when the connection takes no
    more. `is_expelled` says that nothing of it is heard any more.
    """

    __slots__ = ("is_expelled", "label", "monitors", "open", "pid", "requests", "session", "subscriber", "transmit",
                 "verbs")  # fmt: skip

    def __init__(
        self, transmit: Transmit, session: str, *, label: str, verbs: frozenset[str] | None, pid: int = 0
    ) -> None:
        self.transmit = transmit
        self.session = session
        self.label = label
        self.verbs = verbs
        self.pid = pid
        self.open = True
        self.is_expelled = False
        self.requests: dict[int, Outstanding] = {}
        self.monitors: dict[int, Handle | None] = {}
        self.subscriber: Subscriber | None = None

    def welcome(self) -> None:
        """Say that the connection is new to the hub."""
        self.transmit(encode(Welcome(VERSION, self.session, LIMITS)))

    def done(self, id: int, value: Raw) -> None:
        """The good answer to a request."""
        if self.open and id != NOBODY:
            self.transmit(encode(Done(id, value)))

    def refuse(self, id: int, code: str, text: str, details: dict[str, Any] | None = None) -> None:
        """The other answer; id 0 for what cannot be said to be about any request."""
        if self.open:
            self.transmit(encode(Refusal(id, code, text, details or {})))

    def release(self) -> Subscriber | None:
        """Give up everything that was asked for. Returns what it was subscribed with, which is the caller's now."""
        requests, self.requests = self.requests, {}
        monitors, self.monitors = self.monitors, {}
        for request in requests.values():
            request.cancel()
        for monitor in monitors.values():
            if monitor is not None:
                monitor.cancel()
        subscriber, self.subscriber = self.subscriber, None
        return subscriber
