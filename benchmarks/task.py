"""
A task: from its start to its result in the hands of its owner.

Floor: a bare process forks, and its child writes a byte into a pipe. A task is asked for over the daemon's control
socket, forked from its supervisor, given its job over a connection, and answers over that; both ends are checked by
the kernel's word. `preloaded` has the function's module imported in the supervisor.
"""

from __future__ import annotations

import os
import select
import time
from itertools import count

from benchmarks.contenders import Daemon, Floor, workspace
from benchmarks.measure import Row, Sample, Size, Summary, interleave
from regrow.ipc import Client, TaskSupervisor

MODULE = "def double(number: int) -> int:\n    return 2 * number\n"
WIDTH = 2


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    tables = (
        '[supervisor.app]\nchildren = ["plain", "preloading"]\n[supervisor.plain]\nstrategy = "dynamic"\n'
        '[supervisor.preloading]\nstrategy = "dynamic"\npreload = ["jobs"]\n'
    )
    with workspace() as directory:
        (directory / "jobs.py").write_text(MODULE)
        with Floor("fork_once") as floor, Daemon(directory, tables) as daemon, Client(daemon.run_dir) as client:
            plain, preloading = client.tasks("plain"), client.tasks("preloading")
            contenders = {
                "floor": lambda: float(floor.ask("fork")),
                "task": one(plain),
                "preloaded": one(preloading),
                "stream": element(preloading),
            }
            found = interleave(contenders, size.of(100, 5), warm_up=size.of(10, 2))
            plain.close()
            preloading.close()
    rows = {"task": "task: start → result", "preloaded": "… with its module preloaded"}
    rows["stream"] = f"… as one of a stream, {WIDTH} at a time"
    return [row(text, found["floor"], found[name]) for name, text in rows.items()]


def row(name: str, floor: Summary, regrow: Summary) -> Row:
    """A row without a goal."""
    return Row(name, "µs", floor, regrow, "", None)


def one(tasks: TaskSupervisor) -> Sample:
    """One task after the other; the next only when the process of the last has ended."""
    numbers = count()

    def sample() -> float:
        number = next(numbers)
        began_s = time.perf_counter()
        task = tasks.async_nolink("jobs:double", number)
        assert task.wait() == 2 * number
        taken_s = time.perf_counter() - began_s
        until_dead(task.pid)
        return taken_s * 1e6

    return sample


def element(tasks: TaskSupervisor) -> Sample:
    """The share of one element in a stream of ten."""

    def sample() -> float:
        began_s = time.perf_counter()
        assert len(list(tasks.async_stream("jobs:double", range(10), max_concurrency=WIDTH))) == 10
        return (time.perf_counter() - began_s) * 1e6 / 10

    return sample


def until_dead(pid: int) -> None:
    """Wait for the end of a process that may have ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([fd], [], [], 10.0)
    os.close(fd)
