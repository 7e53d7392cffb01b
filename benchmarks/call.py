"""
A call from one agent to another: how long until the answer is there?

Floor: DEALER and ROUTER of bare pyzmq over ipc, the same payload, without names, types, monitors or time limits. On
both sides the caller is kept on one processor and the called on another: where the scheduler happens to put two
processes that wait for each other makes a factor of two, for as long as they run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from benchmarks.contenders import Daemon, agent, supervisor, workspace
from benchmarks.measure import Row, Size, Summary, ratio_row
from benchmarks.raw import Raw
from regrow.ipc import Client

PAYLOADS = (1, 64, 1024, 64 * 1024, 1024 * 1024)

CALLER, CALLED = 0, min(1, (os.cpu_count() or 1) - 1)


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    tables = supervisor("app", ["echo", "driver"]) + agent("echo", "agents:Echo") + agent("driver", "agents:Driver")
    rows = []
    with workspace() as directory, Daemon(directory, tables) as daemon, Client(daemon.run_dir) as client:
        path = directory / "raw"
        with Raw("server", path, CALLED), Raw("driver", path, CALLER) as raw:
            client.call("echo", "stay_on", CALLED)
            client.call("driver", "stay_on", CALLER)

            def floor(count: int, payload: int) -> list[float]:
                return [float(word) for word in raw.ask(f"calls {count} {payload}").split()]

            def regrow(count: int, payload: int) -> list[float]:
                taken: list[float] = client.call("driver", "calls", "echo", count, payload, timeout=120.0)
                return taken

            for payload in PAYLOADS:
                count = size.of(1_000 if payload <= 1024 else 100, 20)
                below, above = in_turn((floor, regrow), size.of(10, 2), count, payload)
                rows.append(ratio_row(f"call, {named(payload)}", "µs", below, above, 1.5))
    return rows


def in_turn(
    sides: tuple[Callable[[int, int], list[float]], ...], rounds: int, count: int, payload: int
) -> list[Summary]:
    """Both sides by turns, the first round not counted; µs."""
    samples: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for side, taken in zip(sides, samples, strict=True):
            found = side(count, payload)
            if number:
                taken += (second * 1e6 for second in found)
    return [Summary.of(taken) for taken in samples]


def named(payload: int) -> str:
    """A size as people say it."""
    for unit, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if payload >= unit:
            return f"{payload // unit} {name}"
    return f"{payload} B"
