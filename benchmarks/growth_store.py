"""
The same in a store of 1 MB and in larger ones: what grows with it?

All of it is the state of the agent that is asked, in values of 1 kB, and any of them may be the next. The floor is bare
LMDB in the same store; for the start of the agent, that with 1 MB. 10 GB are made with `--large` only.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.contenders import HERE, UNLIMITED, clean_environ
from benchmarks.keeping import FLOORS, House, keeping
from benchmarks.measure import Row, Size, Summary
from benchmarks.post import RawQueue, regrow
from benchmarks.raw import Told
from benchmarks.raw_fill import key
from benchmarks.send import in_turn
from benchmarks.state import micro, numbers
from regrow.config.spec import Durability
from regrow.ipc import Client
from regrow.ipc.store import read_info

VALUE_BYTES = 1000
MB = 1_000_000
SEED = 1
START = "start of its agent"


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    sizes = {"1 MB": MB, "100 MB": 100 * MB, "1 GB": 1000 * MB} if not size.quick else {"1 MB": MB, "10 MB": 10 * MB}
    if size.large:
        sizes["10 GB"] = 10_000 * MB
    rows: list[Row] = []
    for named, stored in sizes.items():
        with keeping(Durability.PROCESS, UNLIMITED) as house:
            path = fill(house, stored // VALUE_BYTES)
            rows += [replace(row, name=f"{named}: {row.name}") for row in figures(house, path, stored, size)]
    smallest = next(row.regrow for row in rows if row.name.endswith(START))
    return [replace(row, floor=smallest) if row.name.endswith(START) else row for row in rows]


def figures(house: House, path: Path, stored: int, size: Size) -> list[Row]:
    """What things take in a store that holds that many bytes."""
    with (
        Client(house.run_dir) as client,
        RawQueue("lmdb", house, FLOORS[Durability.PROCESS], path) as raw,
        regrow(house) as posting,
    ):
        found = [Row(START, "µs", None, Summary.of([start_us(house) for _ in range(size.of(50, 3))]))]
        found += rows_at_random(client, raw.receiver, stored // VALUE_BYTES, size)
        total = size.of(20_000, 400)
        for batch in (1, 100):
            sides = (partial(raw.run_s, 1, total, batch), partial(posting, 1, total, batch))
            floor, ours = in_turn(sides, size.of(5, 1), total)
            found.append(Row(f"post, {batch} at once", "µs each", floor, ours))
    return found


def rows_at_random(client: Client, raw: Told, rows: int, size: Size) -> list[Row]:
    """Commits and reads of any of them."""
    any_key = random.Random(SEED)
    raw.ask(f"among {rows}")
    samples: dict[str, list[float]] = {}
    count = size.of(1000, 20)
    for number in range(size.of(10, 2) + 1):
        keys = [key(any_key.randrange(rows)) for _ in range(count)]
        for verb in ("reads", "commits"):
            floor, ours = numbers(raw.ask(f"{verb} {count}")), client.call("ledger", verb, keys, timeout=120.0)
            if number:
                samples.setdefault(f"raw {verb}", []).extend(floor)
                samples.setdefault(verb, []).extend(micro(ours))
    found = {name: Summary.of(taken) for name, taken in samples.items()}
    return [
        Row("with self.transaction()", "µs", found["raw commits"], found["commits"]),
        Row("state[key]", "µs", found["raw reads"], found["reads"]),
    ]


def fill(house: House, rows: int) -> Path:
    """In another process: LMDB is open here."""
    path = read_info(str(house.run_dir)).path
    command = [sys.executable, "-m", "benchmarks.raw_fill", path, "ledger", str(rows), str(VALUE_BYTES)]
    subprocess.run(command, check=True, cwd=HERE.parent, env=clean_environ())
    return Path(path)


def start_us(house: House) -> float:
    """Kill the agent; the sample is the time until its successor has read something of its state."""
    began_s = time.perf_counter()
    os.kill(house.pid, signal.SIGKILL)
    house.pid = house.heard.next()[0]
    taken_s = time.perf_counter() - began_s
    with Client(house.run_dir) as client:
        while client.whereis("ledger") is None:
            time.sleep(0.001)
    return taken_s * 1e6
