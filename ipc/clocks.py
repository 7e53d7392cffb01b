"""
The two clocks that timers go by: that of the wall, which may be set, and the time since boot, which nobody sets.

Source: clock_gettime(2) on CLOCK_BOOTTIME: it goes on while the machine sleeps.
"""

from __future__ import annotations

import time
from functools import cache
from uuid import UUID

from msgspec import Struct

from regrow.ipc.process import boot_id

SECOND = 1_000_000
"""All times are whole microseconds."""


class Now(Struct, frozen=True):
    """A moment: `wall` since the epoch; `elapsed` since the boot whose identity is `boot`, 16 bytes."""

    wall: int
    elapsed: int
    boot: bytes

    @property
    def offset(self) -> int:
        """What the wall clock is ahead of the time since boot; changes when it is set."""
        return self.wall - self.elapsed


class Due(Struct, frozen=True):
    """When something is due: by the time since boot if `by_elapsed`, else by the wall clock."""

    at: int
    by_elapsed: bool = False

    def wall(self, offset: int) -> int:
        """The same by the wall clock, where that is ahead by `offset`."""
        return self.at + offset if self.by_elapsed else self.at


def now() -> Now:
    """The moment of the call."""
    elapsed = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return Now(time.time_ns() // 1000, elapsed, boot())


@cache
def boot() -> bytes:
    """The identity of this boot."""
    return UUID(boot_id()).bytes
