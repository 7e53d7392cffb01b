"""
What a process does with memory that large messages leave behind.

glibc gives the top of a heap back to the kernel as soon as it is larger than the last large buffer or two, and takes it
again for the next message: a message of 1 MiB costs a thousand page faults, several times its copying.

Source: mallopt(3).
"""

from __future__ import annotations

LARGE_BYTES = 1 << 17
"""From here on glibc asks the kernel for each buffer, unless it is told otherwise."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _MAPPED_BYTES = 8 << 20, 4 << 20


def keep_freed() -> None:
    """Keep up to 8 MiB of freed memory in each heap from now on. Where there is no glibc, nothing happens."""
    import ctypes  # most processes see no large message

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
