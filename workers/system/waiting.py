"""What the logger's epoll waits for besides descriptors: the next timer."""

from __future__ import annotations

import time
from collections.abc import Callable


class Timers:
    """A handful of calls at moments, each under a key."""

    def __init__(self) -> None:
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._timers

    def after(self, delay_s: float, key: str, callback: Callable[[], None]) -> None:
        """Call back once, in `delay_s`; a timer that is there under the same key stays as it is."""
        self._timers.setdefault(key, (time.monotonic() + delay_s, callback))

    def cancel(self, key: str) -> None:
        """Forget a timer; idempotent."""
        self._timers.pop(key, None)

    def wait_s(self) -> float | None:
        """Return the time until the next one, None without any."""
        if not self._timers:
            return None
        return max(0.0, min(when_s for when_s, _ in self._timers.values()) - time.monotonic())

    def run(self) -> None:
        """Call those that are due."""
        if not self._timers:
            return
        now_s = time.monotonic()
        for key, (when_s, callback) in list(self._timers.items()):
            if when_s <= now_s and key in self._timers:
                del self._timers[key]
                callback()
