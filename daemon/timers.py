"""
The timers that the core arms: each comes back as an event, unless it is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from regrow.daemon.core.effects import ArmTimer, CancelTimer
from regrow.daemon.core.events import TimerElapsed, TimerKind
from regrow.daemon.loop import Loop, Timer


class Timers:
    """
    The running timers of one supervisor, one of a kind for an incarnation.

    `excused(child)` says whether a start takes long for no fault of the child: it is then given its time again.
    """

    def __init__(self, loop: Loop, feed: Callable[[TimerElapsed], None], excused: Callable[[str], bool]) -> None:
        self._loop = loop
        self._feed = feed
        self._excused = excused
        self._timers: dict[tuple[str, str, int], Timer] = {}

    def arm(self, effect: ArmTimer) -> None:
        key = (effect.kind, effect.child, effect.incarnation)
        event = TimerElapsed(effect.kind, effect.child, effect.incarnation)

        def elapsed() -> None:
            if effect.kind is TimerKind.START and self._excused(effect.child):
                self._timers[key] = self._loop.call_later(effect.after_s, elapsed)
                return
            self._timers.pop(key, None)
            self._feed(event)

        self._timers[key] = self._loop.call_later(effect.after_s, elapsed)

    def cancel(self, effect: CancelTimer) -> None:
        timer = self._timers.pop((effect.kind, effect.child, effect.incarnation), None)
        if timer is not None:
            timer.cancel()
