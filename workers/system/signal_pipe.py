"""
Signals as bytes in a pipe, for a loop that waits for descriptors.

Source: signal(7); Python's `signal.set_wakeup_fd`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from types import FrameType


class SignalPipe:
    """From now on `heard` come through the pipe, wherever they were blocked before, and `ignored` are."""

    def __init__(self, heard: Collection[signal.Signals], ignored: Collection[signal.Signals]) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _nothing) for number in heard}
        self._handlers |= {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)

    def fileno(self) -> int:
        return self._out

    def arrived(self) -> bytes:
        """The numbers of the signals that came since the last call."""
        try:
            return os.read(self._out, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Give the signals back."""
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._out)
        os.close(self._in)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Python writes the number to the wake-up descriptor; that is all that is wanted."""
