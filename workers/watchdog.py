"""
Telling the supervisor that work goes forward, no more often than it needs to be told.

Source: sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from regrow.workers.notify import progress

LEAST = 0.1
"""Of the interval: what happens sooner after the last word than this is not told."""


class Watchdog:
    """
    Fed by whoever does the work, and by nothing that would go on ticking beside it.

    `interval_s` is half of what the supervisor allows, 0 when it does not watch.
    """

    __slots__ = ("_fed_s", "interval_s")

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        usec = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.interval_s = int(usec) / 2_000_000 if mine and usec.isdecimal() else 0.0
        self._fed_s = time.monotonic()

    def turn_s(self) -> float:
        """Between two messages: feed it if it is time; how long to wait for the next message at most."""
        left_s = self._fed_s + self.interval_s - time.monotonic()
        if left_s > 0.0:
            return left_s
        self.feed()
        return self.interval_s

    def progress(self) -> None:
        """In the middle of a message: feed it, unless that was done just before."""
        if self.interval_s and time.monotonic() - self._fed_s >= LEAST * self.interval_s:
            self.feed()

    def feed(self) -> None:
        """Say it now."""
        progress()
        self._fed_s = time.monotonic()
