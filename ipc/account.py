"""
What a member of a group has taken: the newest id that each connection has brought.

Pure. When it stops it says so to each, and notes it for those whose first message comes too late (`partings`).
"""

from __future__ import annotations

from collections.abc import Callable

MAX_NOTED = 65_536
"""Connections that are known; the oldest is forgotten for one more."""

LOOKS = 8
"""How many of them are asked then whether they are still there."""


class Account:
    """`taken` is by connection. `is_whole`: no connection that was there has been forgotten."""

    __slots__ = ("is_whole", "taken")

    def __init__(self) -> None:
        self.taken: dict[bytes, int] = {}
        self.is_whole = True

    def note(self, routing: bytes, id: int, is_there: Callable[[bytes], bool]) -> None:
        """It has brought this one now. `is_there`: whether a connection is."""
        if routing not in self.taken and len(self.taken) >= MAX_NOTED:
            self._make_room(is_there)
        self.taken[routing] = id

    def close(self) -> dict[bytes, int]:
        """All of it; from now on nothing is taken."""
        taken, self.taken = self.taken, {}
        return taken

    def _make_room(self, is_there: Callable[[bytes], bool]) -> None:
        """Forget a connection that is over, or, where the oldest are not, one that is there."""
        for _ in range(LOOKS):
            routing = next(iter(self.taken))
            id = self.taken.pop(routing)
            if not is_there(routing):
                return
            self.taken[routing] = id  # the last to be asked again
        del self.taken[next(iter(self.taken))]
        self.is_whole = False
