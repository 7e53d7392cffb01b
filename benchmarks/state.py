"""
What it costs an agent to keep something: a commit for each handler, reads, and a start with much of it.

Floor of a commit: bare LMDB, one put in one transaction, which survives as much (`keeping.FLOORS`); a handler that
changes a key is called by turns with one that does not, and the difference is the row. Floor of a read: one get in a
transaction of its own.
"""

from __future__ import annotations

import os

from benchmarks.keeping import FLOORS, House, keeping
from benchmarks.measure import Row, Size, Summary
from benchmarks.raw import Told
from regrow.config.spec import Durability
from regrow.ipc import Client

FIRST, SECOND = 0, min(1, (os.cpu_count() or 1) - 1)
KEYS = 100
MARGIN_US = 5.0


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    rows = []
    for level in Durability:
        with keeping(level) as house, Client(house.run_dir) as client:
            path = house.directory / "raw"
            client.call("ask", "stay_on", FIRST)
            client.call("ledger", "stay_on", SECOND)
            with Told("raw_queue.py", "lmdb", path, FLOORS[level], SECOND) as raw:
                rows += commits(level, house, client, raw, size)
    return rows


def commits(level: Durability, house: House, client: Client, raw: Told, size: Size) -> list[Row]:
    """One level."""
    count, rounds = size.of(1000 if level is Durability.PROCESS else 200, 20), size.of(10, 2)
    keys = [f"key{number % KEYS:02}" for number in range(count)]
    below: list[float] = []
    kept: list[float] = []
    left: list[float] = []
    got: list[float] = []
    read: list[float] = []
    for number in range(rounds + 1):
        put = numbers(raw.ask(f"commits {count}"))
        changing, other = client.call("ask", "costs", "ledger", keys, timeout=120.0)
        get = numbers(raw.ask(f"reads {count}"))
        reading = client.call("ledger", "reads", keys, timeout=120.0)
        if number:
            for samples, taken in ((below, put), (kept, changing), (left, other), (got, get), (read, reading)):
                samples += (second * 1e6 for second in taken)
    floor, without = Summary.of(below), Summary.of(left)
    whole = Summary.of(kept)
    commit = Summary(whole.p50 - without.p50, whole.p99 - without.p50, whole.count)
    most = 2 * floor.p50 + MARGIN_US
    rows = [Row(f"commit of a handler, {level}", "µs", floor, commit, "≤ 2 x + 5 µs", commit.p50 <= most)]
    rows.append(Row("… the call without it", "µs", None, without))
    rows.append(Row(f"state[key], {level}", "µs", Summary.of(got), Summary.of(read)))
    return rows


def numbers(line: str) -> list[float]:
    """What a raw process has answered."""
    return [float(word) for word in line.split()]
