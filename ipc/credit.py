"""
What a subscriber owes to the hub: credit for the signals that it has room for again.

Pure. Source: docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW = 500
"""Signals that may be on their way here, or wait here to be handled."""

CREDIT_BYTES = 1024 * 1024
"""Credit is given back after half a window, or after so much: large signals are not to be many at a time."""


class Credit:
    """
    Args:
        grant: tells the hub how many more it may send.
    """

    __slots__ = ("_bytes", "_count", "_grant", "_stale")

    def __init__(self, grant: Callable[[int], object]) -> None:
        self._grant = grant
        self._stale = self._count = self._bytes = 0

    def begin(self, waiting: int) -> None:
        """A connection begins; `waiting` signals are of an earlier one, which has taken its credit with it."""
        self._stale = waiting
        self._count = self._bytes = 0

    def handled(self, size: int) -> None:
        """A signal of `size` bytes, the oldest that waits, needs no room any more."""
        if self._stale:
            self._stale -= 1
            return
        self._count += 1
        self._bytes += size
        if self._count >= WINDOW // 2 or self._bytes >= CREDIT_BYTES:
            self._grant(self._count)
            self._count = self._bytes = 0
