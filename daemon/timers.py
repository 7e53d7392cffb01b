"""
The timers that the core arms: each comes back as an event, unless it is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from regrow.daemon.core.effects import ArmTimer, CancelTimer
from regrow.daemon.core.events import TimerElapsed, TimerKind
from regrow.daemon.loop import Loop, Timer


class Armed(Struct, frozen=True):
    """A timer as it goes through an exec; `due_s` is monotonic, and an exec does not stop that clock."""

    effect: ArmTimer
    due_s: float


class Timers:
    """
    The running timers of one supervisor, one of a kind for an incarnation.

    `excused(child)` says whether a start takes long for no fault of the child: it is then given its time again.
    """

    def __init__(self, loop: Loop, feed: Callable[[TimerElapsed], None], excused: Callable[[str], bool]) -> None:
        self._loop = loop
        self._feed = feed
        self._excused = excused
        self._timers: dict[tuple[str, str, int], tuple[ArmTimer, Timer]] = {}

    def arm(self, effect: ArmTimer, due_s: float | None = None) -> None:
        """Run it, from now on, or until `due_s`."""
        key = (effect.kind, effect.child, effect.incarnation)
        event = TimerElapsed(effect.kind, effect.child, effect.incarnation)

        def elapsed() -> None:
            if effect.kind is TimerKind.START and self._excused(effect.child):
                self._timers[key] = effect, self._loop.call_later(effect.after_s, elapsed)
                return
            self._timers.pop(key, None)
            self._feed(event)

        when_s = self._loop.now() + effect.after_s if due_s is None else due_s
        self._timers[key] = effect, self._loop.call_at(when_s, elapsed)

    def armed(self) -> tuple[Armed, ...]:
        """Those that run, to go through an exec."""
        return tuple(Armed(effect, timer.when_s) for effect, timer in self._timers.values())

    def cancel(self, effect: CancelTimer) -> None:
        _, timer = self._timers.pop((effect.kind, effect.child, effect.incarnation), (None, None))
        if timer is not None:
            timer.cancel()
