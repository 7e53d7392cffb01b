"""
200 commands are killed at once: how long until the first instruction of the last successor?

Floor: the same in the bare loop, which has a pidfd for each in one epoll and calls `os.posix_spawn`.
"""

from __future__ import annotations

import os
import signal
import time

from benchmarks.contenders import UNLIMITED, Daemon, Floor, command, supervisor, workspace
from benchmarks.measure import Row, Sample, Size, interleave, ratio_row
from benchmarks.programs import Announcements, tiny_program

COUNT = 200


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    with workspace() as directory:
        program = tiny_program(directory)
        kinds = ("floor", "sequential", "parallel")
        heard = {kind: Announcements(directory / f"{kind}.fifo") for kind in kinds}
        tables = (
            supervisor("app", ["one", "other"], UNLIMITED)
            + supervisor("one", ["sequential"], UNLIMITED)
            + supervisor("other", ["parallel"], UNLIMITED, 'start = "parallel"')
            + command("sequential", program, heard["sequential"].path, COUNT)
            + command("parallel", program, heard["parallel"].path, COUNT)
        )
        with Floor("spawn", COUNT, program, heard["floor"].path), Daemon(directory, tables):
            contenders = {kind: killing_all(heard[kind]) for kind in kinds}
            found = interleave(contenders, size.of(40, 3), settle_s=0.5)
    return [
        ratio_row(f"{COUNT} commands killed at once → successors run", "ms", found["floor"], found["sequential"], 2),
        ratio_row('… under start = "parallel"', "ms", found["floor"], found["parallel"], 2),
    ]


def killing_all(heard: Announcements) -> Sample:
    """Kill all that announced themselves last; the sample is the time until as many did so again, in ms."""
    latest = heard.next(COUNT)

    def sample() -> float:
        began_s = time.perf_counter()
        for pid in latest:
            os.kill(pid, signal.SIGKILL)
        latest[:] = heard.next(COUNT)
        return (time.perf_counter() - began_s) * 1e3

    return sample
