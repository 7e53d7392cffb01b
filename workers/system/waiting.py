"""
What the logger's epoll waits for besides descriptors: the next timer, and signals.

Source: signal(7); Python's `signal.set_wakeup_fd`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from regrow.workers.system.tail import on_alarm


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


class Signals:
    """SIGTERM and SIGHUP as bytes in a pipe; SIGALRM for slow searches; those that must not kill ignored."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # EFBIG is wanted, not SIGXFSZ
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, on_alarm)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGALRM})

    def fileno(self) -> int:
        """Return the pipe's read end, for epoll."""
        return self._out

    def arrived(self) -> bytes:
        """Return the numbers of the signals that came since the last call. Call when readable."""
        return os.read(self._out, 4096)

    def close(self) -> None:
        """Close the pipe."""
        signal.set_wakeup_fd(-1)
        os.close(self._out)
        os.close(self._in)
