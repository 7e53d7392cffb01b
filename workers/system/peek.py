"""
Looking at what is in a pipe without taking it out.

Source: tee(2), which Python does not offer.
"""

from __future__ import annotations

import ctypes
import os

WINDOW_BYTES = 64 * 1024
SPLICE_F_NONBLOCK = 2


class Peek:
    """Copies references to a pipe's first bytes into a pipe of its own, and reads them there."""

    def __init__(self) -> None:
        self._tee = ctypes.CDLL(None, use_errno=True).tee
        self._tee.restype = ctypes.c_ssize_t
        self._tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __call__(self, pipe: int) -> bytes:
        """
        Return up to WINDOW_BYTES; b"" is the pipe's end.

        Raises:
            BlockingIOError: it is empty.
            OSError: EINVAL, not a pipe.
        """
        copied: int = self._tee(pipe, self._in, WINDOW_BYTES, SPLICE_F_NONBLOCK)
        if copied < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return os.read(self._out, copied) if copied else b""

    def close(self) -> None:
        """Close the own pipe."""
        os.close(self._out)
        os.close(self._in)
