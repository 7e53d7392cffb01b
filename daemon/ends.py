"""
How incarnations ended, for whoever asks later, or too early: the last few of each name.

Source: architecture section 6 (the exact reason of a DOWN is filled in from the supervisor's report).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

KEEP_OF_A_NAME = 4
KEEP_NAMES = 2_500
"""Of these names at most, so 10,000 in all; the one that has not ended for longest is forgotten first."""

LastExit: TypeAlias = dict[str, Any]


class Ends:
    """The `last_exit` objects of incarnations. Its length is how many ends are waited for."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, dict[int, LastExit]] = OrderedDict()
        self._waiting: dict[tuple[str, int], dict[object, Callable[[LastExit], None]]] = {}
        self._waits = 0

    def __len__(self) -> int:
        return self._waits

    def carried(self) -> dict[str, dict[int, LastExit]]:
        """What is known, to go through an exec."""
        return dict(self._ends)

    def take_up(self, ends: Mapping[str, dict[int, LastExit]]) -> None:
        """Go on with what was `carried`."""
        self._ends.update(ends)

    def waiting(self) -> list[object]:
        """The keys of all that wait."""
        return [key for keys in self._waiting.values() for key in keys]

    def ended(self, name: str, incarnation: int, last_exit: LastExit) -> None:
        """Write one down, and tell those who wait for it."""
        of_name = self._ends.setdefault(name, {})
        of_name[incarnation] = last_exit
        self._ends.move_to_end(name)
        if len(of_name) > KEEP_OF_A_NAME:
            del of_name[min(of_name)]
        if len(self._ends) > KEEP_NAMES:
            self._ends.popitem(last=False)
        waiting = self._waiting.pop((name, incarnation), {})
        self._waits -= len(waiting)
        for told in waiting.values():
            told(last_exit)

    def get(self, name: str, incarnation: int) -> LastExit | None:
        """How that incarnation ended; None when it has not, or it was forgotten."""
        return self._ends.get(name, {}).get(incarnation)

    def wait(self, key: object, name: str, incarnation: int, told: Callable[[LastExit], None]) -> None:
        """Call `told` once, when that incarnation ends, unless `key` gives up before."""
        self._waiting.setdefault((name, incarnation), {})[key] = told
        self._waits += 1

    def give_up(self, key: object, name: str, incarnation: int) -> None:
        """Wait no more."""
        waiting = self._waiting.get((name, incarnation), {})
        if waiting.pop(key, None) is not None:
            self._waits -= 1
        if not waiting:
            self._waiting.pop((name, incarnation), None)
