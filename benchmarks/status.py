"""
`regrow status` of a tree with 100 children, the whole process, against `python3 -c pass`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.contenders import Daemon, clean_environ, command, command_line, supervisor, workspace
from benchmarks.measure import Row, Size, interleave, ratio_row, timed_ms
from benchmarks.programs import Announcements, tiny_program

COUNT = 100
BARE = (sys.executable, "-c", "pass")


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    with workspace() as directory:
        heard = Announcements(directory / "fifo")
        tables = supervisor("app", ["one"], 'start = "parallel"')
        tables += command("one", tiny_program(directory), heard.path, COUNT)
        with Daemon(directory, tables) as daemon:
            found = interleave(
                {"floor": lambda: run_ms(BARE), "status": lambda: run_ms(status_line(daemon.run_dir))},
                size.of(60, 4),
                warm_up=3,
            )
    return [ratio_row(f"regrow status with {COUNT} children", "ms", found["floor"], found["status"], 4)]


def status_line(run_dir: Path) -> tuple[str, ...]:
    """The command."""
    return (command_line(), "status", "--run-dir", str(run_dir))


def run_ms(argv: tuple[str, ...]) -> float:
    """Milliseconds from the start of a program to its end."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return timed_ms(lambda: _run(argv, null))
    finally:
        os.close(null)


def _run(argv: tuple[str, ...], null: int) -> None:
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
    pid = os.posix_spawn(argv[0], argv, clean_environ(), file_actions=actions)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}")
