"""
Special cases of a storm: everything at once, and the root at the worst moments. Every moment comes from one seed.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import procs
from wire import TIMEOUT_S, CallError

from storm.garden import Entries, Garden
from storm.violation import Violation

START_S = 1.6
STOP_S = 0.8
RESTART_S = 0.5
BATCH_S = 0.08
"""Within how many seconds something is struck while it starts, stops, restarts, restarts a batch."""


class Crashes:
    """Strikes a planted garden; after each blow it has to be whole again."""

    def __init__(self, garden: Garden, seed: int) -> None:
        self._garden = garden
        self._random = random.Random(seed)

    def everything(self) -> None:
        """SIGKILL to the root, all supervisors and the logger in one sweep, in any order; then `up`."""
        garden = self._garden
        entries = garden.entries()
        pids = [garden.lives.pid, *(int(entries[name]["pid"]) for name in self._supporting(entries))]
        self._random.shuffle(pids)
        self._kill(*pids)
        garden.lives.die()
        self._up()

    def root_starting(self) -> None:
        """SIGKILL to the root while it takes over and starts its tree, after it was killed while that ran."""
        lives = self._garden.lives
        lives.die()
        lives.launch()
        lives.ended_within(self._random.uniform(0, START_S))
        lives.die()
        self._up()

    def root_stopping(self) -> None:
        """SIGKILL to the root in the middle of an orderly stop, or just after it."""
        lives = self._garden.lives
        lives.control.call("down")
        lives.ended_within(self._random.uniform(0, STOP_S))
        lives.die()
        self._up()

    def root_restarting(self) -> None:
        """SIGKILL to the root while a part of the tree is being restarted."""
        entries = self._garden.entries()
        self._kill(int(entries[self._random.choice(sorted(entries))]["pid"]))
        self._garden.lives.ended_within(self._random.uniform(0, RESTART_S))
        self._garden.lives.die()
        self._up()

    def supervisor_restarting(self) -> None:
        """SIGKILL to a group's supervisor while it stops and starts the group for the death of one child."""
        supervisor, child = self._random.choice((("ofa", "ofa-f1"), ("rfo", "rfo-f1"), ("nest2", "nest2-f1")))
        entries = self._garden.entries()
        self._kill(int(entries[child]["pid"]))
        self._garden.lives.ended_within(self._random.uniform(0, BATCH_S))
        self._kill(int(entries[supervisor]["pid"]))
        self._garden.settle()

    def asked_and_killed(self) -> None:
        """SIGKILL to a supervisor while an operator's `restart` of its subtree is under way."""
        garden = self._garden
        name = self._random.choice(("ofa", "par", "nest"))
        entries = garden.entries()
        request = garden.lives.control.send("restart", names=[name])
        garden.lives.ended_within(self._random.uniform(0, BATCH_S))
        self._kill(int(entries[name]["pid"]))
        try:
            garden.lives.control.answer(request)
        except CallError as error:
            raise Violation(f"restart of {name}, which was killed meanwhile: {error}") from None
        garden.settle()

    def _up(self) -> None:
        self._garden.rise()
        self._garden.settle()

    @staticmethod
    def _supporting(entries: Entries) -> Iterator[str]:
        return (name for name, entry in entries.items() if entry["kind"] == "supervisor" or name == "regrow.logger")

    @staticmethod
    def _kill(*pids: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it went with its parent, which was struck before
                procs.kill(pid)
        for pid in pids:
            assert procs.wait_dead(pid, TIMEOUT_S)
