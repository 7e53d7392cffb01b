"""One of a chain: what it gets changes its state in a way that shows any other order or number, and is posted on."""

from __future__ import annotations

import hashlib
import os
import random
import signal

from regrow.ipc import points
from regrow.ipc.points import Point
from regrow.workers import Agent, handler

MEAN_PASSES = 4
"""How often a point is passed, on average, before an incarnation that means to die there does."""


class Chain(Agent):
    """`deaths`: the file in which it says where it is about to kill itself; "" never to."""

    max_attempts = 0

    def init(self, deaths: str = "", seed: int = 0) -> None:
        if deaths:
            points.install(Deaths(deaths, random.Random(f"{seed} {self.name} {os.getpid()}")))

    @handler
    def take(self, number: int, text: str, onto: list[str]) -> None:
        """Keep it, and post it on with what has become of it."""
        digest = hashlib.sha256(f"{self.state.get('digest', '')} {number} {text}".encode()).hexdigest()
        self.state["digest"] = digest
        self.state.add("count")
        self.state.space("number")[number] = digest[:8]
        self.state.setdefault("last", []).append(number)
        del self.state["last"][:-10]
        if onto:
            self.post(onto[0], "take", number, digest, onto[1:])

    @handler
    def count(self) -> int:
        count: int = self.state.get("count", 0)
        return count


class Deaths:
    """Five of six incarnations mean to die at a point that they choose."""

    def __init__(self, file: str, dice: random.Random) -> None:
        self._file = file
        passable = (
            Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT, Point.POST_BEGUN, Point.POST_HANDLED
        )  # fmt: skip
        self._point = dice.choice(passable) if dice.random() < 5 / 6 else None
        self._left = 1 + int(dice.expovariate(1 / MEAN_PASSES))

    def __call__(self, point: Point) -> None:
        if point is not self._point:
            return
        self._left -= 1
        if not self._left:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(fd, f"{point}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
