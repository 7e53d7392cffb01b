"""
What it costs an agent to keep something: a commit for each handler, commits in a row, and reads.

Floor: bare LMDB, one put in one transaction, or one get, which survives as much (`keeping.FLOORS`). A handler that
changes a key is called by turns with one that does not, and the difference is the row; the same for the floor.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from benchmarks.keeping import FLOORS, keeping
from benchmarks.measure import Row, Size, Summary
from benchmarks.raw import Told
from regrow.config.spec import Durability
from regrow.ipc import Client

FIRST, SECOND = 0, min(1, (os.cpu_count() or 1) - 1)
KEYS = 100
MARGIN_US = 5.0


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    rows: list[Row] = []
    for level in Durability:
        with ExitStack() as stack:
            house = stack.enter_context(keeping(level))
            client = stack.enter_context(Client(house.run_dir))
            client.call("ask", "stay_on", FIRST)
            client.call("ledger", "stay_on", SECOND)
            path = house.directory / "raw"
            alone = stack.enter_context(Told("raw_queue", "lmdb", path, FLOORS[level], SECOND))
            called = stack.enter_context(Told("raw_called", f"{path}.called", FLOORS[level], FIRST, SECOND))
            rows += one_level(level, Sides(client, alone, called), size)
            if level is Durability.SYSTEM:
                unsynced, synced = rows[:2], rows[-3:-1]
                rows += [
                    Row(f"… {ours.name}, beside LMDB without sync", "µs", floor.floor, ours.regrow)
                    for floor, ours in zip(unsynced, synced, strict=True)
                ]
    return rows


class Sides:
    """Both of them, each as what takes a number of samples; µs."""

    def __init__(self, client: Client, alone: Told, called: Told) -> None:
        self._client = client
        self._alone = alone
        self._called = called

    def costs(self, count: int) -> dict[str, list[float]]:
        """One round of everything."""
        keys = [f"key{number % KEYS:02}" for number in range(count)]
        below, without = self._called.ask(f"costs {count}").split("|")
        keep, leave = self._client.call("ask", "costs", "ledger", keys, timeout=120.0)
        return {
            "raw keep": numbers(below),
            "raw leave": numbers(without),
            "keep": micro(keep),
            "leave": micro(leave),
            "raw commit": numbers(self._alone.ask(f"commits {count}")),
            "commit": micro(self._client.call("ledger", "commits", keys, timeout=120.0)),
            "raw read": numbers(self._alone.ask(f"reads {count}")),
            "read": micro(self._client.call("ledger", "reads", keys, timeout=120.0)),
        }


def one_level(level: Durability, sides: Sides, size: Size) -> list[Row]:
    """The rows of one level."""
    count, rounds = size.of(1000 if level is Durability.PROCESS else 200, 20), size.of(10, 2)
    samples: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, taken in sides.costs(count).items():
            if number:
                samples.setdefault(name, []).extend(taken)
    found = {name: Summary.of(taken) for name, taken in samples.items()}
    return [
        row(f"commit of a handler, {level}", above(found["raw keep"], found["raw leave"]),
            above(found["keep"], found["leave"])),
        row(f"with self.transaction(), one after the other, {level}", found["raw commit"], found["commit"]),
        Row(f"state[key], {level}", "µs", found["raw read"], found["read"]),
    ]  # fmt: skip


def row(name: str, floor: Summary, regrow: Summary) -> Row:
    """One with the goal of a commit."""
    return Row(name, "µs", floor, regrow, f"≤ 2 x + {MARGIN_US:g} µs", regrow.p50 <= 2 * floor.p50 + MARGIN_US)


def above(whole: Summary, without: Summary) -> Summary:
    """What a part of it takes, when the rest is known."""
    return Summary(whole.p50 - without.p50, whole.p99 - without.p50, whole.count)


def numbers(line: str) -> list[float]:
    """What a raw process has answered, in µs."""
    return micro([float(word) for word in line.split()])


def micro(seconds: list[float]) -> list[float]:
    """Seconds in µs."""
    return [second * 1e6 for second in seconds]
