"""
A moment by the clock on the wall, for whoever waits for messages too.

A time limit of the wait would not do: it goes by a clock that stands still while the machine sleeps, and nobody tells
it when the other one is set.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from regrow.ipc.clocks import SECOND
from regrow.workers.system.timerfd import WALL, TimerFd

if TYPE_CHECKING:
    from regrow.ipc.node import Node


class Alarm:
    """
    While it is entered, `node.receive` returns at that time (seconds since the epoch; inf: never), and when the clock
    is set.

    Raises:
        OSError: there is no descriptor for it.
    """

    def __init__(self, node: Node, at_s: float) -> None:
        self._node = node
        self._at = math.ceil(at_s * SECOND) + 1 if math.isfinite(at_s) else None  # not a moment before

    def __enter__(self) -> None:
        self._timer = TimerFd(WALL)
        self._timer.set(self._at)
        self._node.watch(self._timer.fileno(), self)

    def heard(self) -> None:
        """It is time, or the clock was set: then the same moment is another wait away."""
        if self._timer.take():
            self._timer.set(self._at)
        self._node.wake()

    def dropped(self) -> None:
        """Nobody waits any more."""

    def __exit__(self, *_error: object) -> None:
        self._node.unwatch(self._timer.fileno())
        self._timer.close()
