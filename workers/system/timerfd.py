"""
A descriptor that becomes readable at a time by one of the clocks.

Source: timerfd_create(2); the kernel's fs/timerfd.c on ECANCELED, which timerfd_settime gives too, with the timer set.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from regrow.ipc.clocks import SECOND

WALL, SINCE_BOOT = time.CLOCK_REALTIME, time.CLOCK_BOOTTIME

_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_NEVER = 4_102_444_800 * SECOND
"""The year 2100: a timer by the wall clock is always set, as it tells too when the clock is."""

_libc = ctypes.CDLL(None, use_errno=True)
_Spec = ctypes.c_long * 4  # interval and value, each in seconds and nanoseconds


class TimerFd:
    """
    Readable from the time on that was last given to `set`; by the wall clock also when that has been set.

    Raises:
        OSError: there is none to be had.
    """

    def __init__(self, clock: int) -> None:
        self._is_wall = clock == WALL
        self._fd: int = _libc.timerfd_create(clock, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error()

    def fileno(self) -> int:
        return self._fd

    def set(self, at: int | None) -> bool:
        """Wait for this time, in microseconds of its clock; None: for none. Whether the clock has been set."""
        flags = _ABSOLUTE
        if self._is_wall:
            flags |= _CANCEL_ON_SET
            at = _NEVER if at is None else min(at, _NEVER)
        seconds, rest = (0, 0) if at is None else divmod(max(at, 1), SECOND)
        if _libc.timerfd_settime(self._fd, flags, _Spec(0, 0, seconds, rest * 1000), None) < 0:
            error = _error()
            if error.errno != errno.ECANCELED:
                raise error
            return True
        return False

    def take(self) -> bool:
        """Take in that its time has come, if it has; whether the clock has been set."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            return True
        return False

    def close(self) -> None:
        os.close(self._fd)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
