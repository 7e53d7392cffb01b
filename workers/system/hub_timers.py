"""Calls at moments, thousands of them, most of which are cancelled before their time."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    """One call to come; `cancel` is idempotent, and harmless afterwards."""

    __slots__ = ("_timers", "callback")

    def __init__(self, timers: Timers, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._timers.forget_one()


class Timers:
    """A heap by monotonic time; what was cancelled is swept out once it is most of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay_s` seconds from now."""
        timer = Timer(self, callback)
        heapq.heappush(self._heap, (self._clock() + delay_s, next(self._numbers), timer))
        return timer

    def wait_s(self) -> float | None:
        """How long until the next one; None without any."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None

    def run(self) -> None:
        """Call those that are due."""
        while (wait_s := self.wait_s()) is not None and wait_s == 0.0:
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def forget_one(self) -> None:
        """One of them was cancelled (`Timer.cancel`)."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
