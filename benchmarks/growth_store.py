"""
The same in a store of 1 MB and in larger ones: what grows with it? The column `floor` is the store of 1 MB.

All of it is the state of the agent that is asked, in values of 1 kB, and any of them may be the next. 10 GB are made
with `--large` only.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

from benchmarks.contenders import HERE, UNLIMITED, clean_environ
from benchmarks.keeping import House, keeping
from benchmarks.measure import Row, Size, Summary
from benchmarks.post import regrow
from benchmarks.raw_fill import key
from benchmarks.state import above, micro
from regrow.config.spec import Durability
from regrow.ipc import Client
from regrow.ipc.store import read_info

VALUE_BYTES = 1000
MB = 1_000_000
SEED = 1


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    sizes = {"100 MB": 100 * MB, "1 GB": 1000 * MB} if not size.quick else {"10 MB": 10 * MB}
    if size.large:
        sizes["10 GB"] = 10_000 * MB
    small = figures(MB, size)
    return [
        Row(f"{named} against 1 MB: {name}", "µs", small[name], found)
        for named, count in sizes.items()
        for name, found in figures(count, size).items()
    ]


def figures(stored: int, size: Size) -> dict[str, Summary]:
    """What things take in a store that holds that many bytes, by their names; µs."""
    rows = stored // VALUE_BYTES
    with keeping(Durability.PROCESS, UNLIMITED) as house, Client(house.run_dir) as client:
        fill(house, rows)
        any_key = random.Random(SEED)

        def keys(count: int) -> list[str]:
            return [key(any_key.randrange(rows)) for _ in range(count)]

        count = size.of(2000, 20)
        client.call("ledger", "reads", keys(count))
        keep, leave = client.call("ask", "costs", "ledger", keys(count), timeout=120.0)
        found = {
            "commit of a handler": above(Summary.of(micro(keep)), Summary.of(micro(leave))),
            "state[key]": Summary.of(micro(client.call("ledger", "reads", keys(count), timeout=120.0))),
            "start of its agent": Summary.of([start_us(house) for _ in range(size.of(50, 3))]),
        }
        with regrow(house) as posting:
            total = size.of(20_000, 400)
            for batch in (1, 100):
                taken = [posting(1, total, batch) / total * 1e6 for _ in range(size.of(5, 1))]
                found[f"post, {batch} at once"] = Summary.of(taken)
    return found


def fill(house: House, rows: int) -> None:
    """In another process: LMDB is open here."""
    path = read_info(str(house.run_dir)).path
    command = [sys.executable, "-m", "benchmarks.raw_fill", path, "ledger", str(rows), str(VALUE_BYTES)]
    subprocess.run(command, check=True, cwd=HERE.parent, env=clean_environ())


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
