"""
What the logger cannot do at the moment, told to root once.
"""

from __future__ import annotations

from collections.abc import Callable

from regrow.workers.system.log_protocol import Fault, FaultCleared

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 5.0


class Faults:
    """The present faults by what they concern; `send` hears of the first, and when none is left."""

    def __init__(self, send: Callable[[Fault | FaultCleared], None]) -> None:
        self._send = send
        self._present: set[str] = set()

    def begin(self, about: str, text: str) -> None:
        """Note a fault; the same again changes nothing."""
        if not self._present:
            self._send(Fault(text))
        self._present.add(about)

    def end(self, about: str) -> None:
        """Note that it is over; idempotent."""
        if about in self._present:
            self._present.remove(about)
            if not self._present:
                self._send(FaultCleared())


def next_retry_s(delay_s: float) -> float:
    """Return the delay after one of `delay_s` (0: the first): doubling, to RETRY_MAX_S."""
    return min(max(RETRY_FIRST_S, delay_s * 2), RETRY_MAX_S)
