"""
A command is killed: how long until its successor's first instruction?

Floor: a single-threaded loop that waits on a pidfd and calls `os.posix_spawn` of the same program.
"""

from __future__ import annotations

from benchmarks.contenders import UNLIMITED, Daemon, Floor, command, supervisor, workspace
from benchmarks.measure import Row, Size, interleave, ratio_row
from benchmarks.programs import Announcements, tiny_program
from benchmarks.restart_function import killing


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
            + command("sequential", program, heard["sequential"].path)
            + command("parallel", program, heard["parallel"].path)
        )
        with Floor("spawn", 1, program, heard["floor"].path), Daemon(directory, tables):
            contenders = {kind: killing(heard[kind], lambda: None) for kind in kinds}
            found = interleave(contenders, size.of(400, 20), warm_up=size.of(20, 3))
    return [
        ratio_row("command killed → successor's first instruction", "µs", found["floor"], found["sequential"], 1.7),
        ratio_row('… under start = "parallel"', "µs", found["floor"], found["parallel"], 1.7),
    ]
