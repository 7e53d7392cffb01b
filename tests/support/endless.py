"""A value that is longer than any form that msgpack has, and takes no memory."""

from __future__ import annotations

import mmap


def longer_than_any_form() -> memoryview:
    """4 GiB that are never looked at."""
    return memoryview(mmap.mmap(-1, 1 << 32, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ))
