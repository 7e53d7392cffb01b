"""
What happened in the whole tree, in one order: the last events, their causes, and who is told.

Supervisors number their reports themselves; the root gives every event one sequence number, and turns the
causes, which reports name by their own numbers, into those.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

KEEP = 10_000
"""Events kept in memory; older ones are gone, their numbers are not used again."""

_NUMBERS = 4_096
"""Reports of one supervisor whose sequence numbers are remembered: causes are recent."""

COMMANDS = frozenset({"command_started", "command_ended", "command_left", "command_refused"})
"""What the worker that runs commands tells of; each is written down, however many there are."""

ASIDE = frozenset(
    {
        "backpressure", *COMMANDS, "dead_letter", "listening", "listening_ended", "signals_lost", "standby_failed",
        "standby_ready", "store",
    }
)  # fmt: skip
"""Events that change no child's state; `latest` does not speak of them."""

Event = dict[str, Any]


class Log(Struct, frozen=True):
    """All events as they go through an exec; `numbers` are (supervisor, pid, sequence numbers of its reports)."""

    events: tuple[Event, ...]
    next: int
    numbers: tuple[tuple[str, int, dict[int, int]], ...]
    latest: dict[str, int]


class EventLog:
    """The last `KEEP` events. `subscribe` gets each new one, as it is appended."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEEP)
        self._next = 1
        self._subscribers: dict[object, Callable[[Event], None]] = {}
        self._numbers: dict[tuple[str, int], dict[int, int]] = {}
        self._latest: dict[str, int] = {}

    def carried(self) -> Log:
        """All of it, to go through an exec."""
        numbers = tuple((name, pid, known) for (name, pid), known in self._numbers.items())
        return Log(tuple(self._events), self._next, numbers, self._latest)

    def take_up(self, log: Log) -> None:
        """Go on with what was `carried`."""
        self._events.extend(log.events)
        self._next = log.next
        self._numbers = {(name, pid): known for name, pid, known in log.numbers}
        self._latest = log.latest

    def append(
        self,
        event: str,
        name: str,
        *,
        mono_s: float,
        path: str = "",
        incarnation: int = 0,
        pid: int | None = None,
        cause: int | None = None,
        reason: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Event:
        """Add one event; `cause` is a sequence number, `mono_s` the monotonic moment of the transition."""
        made: Event = {
            "seq": self._next,
            "at": round(time.time(), 6),
            "mono": round(mono_s, 6),
            "event": event,
            "name": name,
            "path": path,
            "incarnation": incarnation,
            "pid": pid,
            "cause": cause,
            "reason": reason,
            **(extra or {}),
        }
        self._next += 1
        self._events.append(made)
        if event not in ASIDE:
            self._latest[name] = made["seq"]
        for subscriber in list(self._subscribers.values()):
            subscriber(made)
        return made

    # causes

    def remember(self, supervisor: str, pid: int, number: int, seq: int) -> None:
        """Report `number` of that supervisor process is known as event `seq` from now on."""
        numbers = self._numbers.setdefault((supervisor, pid), {})
        numbers[number] = seq
        if len(numbers) > _NUMBERS:
            for old in list(numbers)[: _NUMBERS // 2]:
                del numbers[old]

    def seq_of(self, supervisor: str, pid: int, number: int | None) -> int | None:
        return None if number is None else self._numbers.get((supervisor, pid), {}).get(number)

    def forget_process(self, supervisor: str, pid: int | None) -> None:
        """The supervisor process is gone; nothing will name its reports any more."""
        if pid is not None:
            self._numbers.pop((supervisor, pid), None)

    def latest(self, name: str) -> int | None:
        """The newest event about `name` that tells why it is as it is."""
        return self._latest.get(name)

    def forget_name(self, name: str) -> None:
        self._latest.pop(name, None)

    # reading

    def get(self, seq: int | None) -> Event | None:
        """The event with that number, as long as it is kept."""
        if seq is None or not self._events:
            return None
        index = seq - self._events[0]["seq"]
        return self._events[index] if 0 <= index < len(self._events) else None

    def newest(self, name: str, kinds: tuple[str, ...]) -> Event | None:
        """The newest kept event about `name` that is one of `kinds`."""
        found = (event for event in reversed(self._events) if event["name"] == name and event["event"] in kinds)
        return next(found, None)

    def since(self, seq: int = 0, names: Iterable[str] = (), limit: int | None = None) -> list[Event]:
        """Kept events after `seq`, oldest first; only about `names` when given; the last `limit` of them."""
        wanted = frozenset(names)
        found = [event for event in self._events if event["seq"] > seq and (not wanted or event["name"] in wanted)]
        return found if limit is None else found[len(found) - limit if limit < len(found) else 0 :]

    def subscribe(self, key: object, subscriber: Callable[[Event], None]) -> None:
        self._subscribers[key] = subscriber

    def unsubscribe(self, key: object) -> None:
        self._subscribers.pop(key, None)
