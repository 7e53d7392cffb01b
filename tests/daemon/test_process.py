"""Why a main process ended, from what the kernel tells of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regrow.config.spec import Kind, Limits, SupervisorSpec, WorkerSpec
from regrow.daemon.core.events import ExitReason
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.spawn import NO_LIMITS
from regrow.daemon.process import Process

EVENTS = "low 0\nhigh 0\nmax 9\noom {}\noom_kill {}\noom_group_kill 1\n"


def ended(number: int = 9, code: int = 0) -> os.waitid_result:
    """What waitid says of a child that was killed by that signal, or has exited if there is none."""
    pid = os.fork()
    if pid == 0:
        if number:
            os.kill(os.getpid(), number)
        os._exit(code)
    info = os.waitid(os.P_PID, pid, os.WEXITED)
    assert info is not None
    return info


def process_in(folder: Path, *, limits: Limits = NO_LIMITS, oom: int = 0, kills: int = 0, forks: int = 0) -> Process:
    """A worker whose control group has counted that."""
    process = Process("one", 1, WorkerSpec(name="one", kind=Kind.COMMAND, command=("true",), limits=limits), 1)
    process.group = Group(str(folder))
    (folder / "memory.events").write_text(EVENTS.format(oom, kills))
    (folder / "pids.events").write_text(f"max {forks}\n")
    return process


@pytest.mark.parametrize(
    ("before", "after", "reason"), [(0, 1, ExitReason.OOM), (2, 2, ExitReason.SIGNAL), (2, 3, ExitReason.OOM)]
)
def test_out_of_memory(tmp_path: Path, before: int, after: int, reason: ExitReason) -> None:
    """Killed by the kernel for want of memory is told from killed by somebody, by what its group has counted since."""
    process = process_in(tmp_path, oom=2, kills=after)
    process.oom_kills = before
    exit = process.exit(ended())
    assert (exit.reason, exit.signal, exit.code) == (reason, 9, None)


@pytest.mark.parametrize(
    ("limits", "oom", "text"),
    [
        (Limits(memory_bytes=64 << 20), 1, "all its processes needed more memory than 64MiB, its limit"),
        (Limits(memory_bytes=64 << 20), 0, "a group above its own, or the machine, was out of memory"),
        (NO_LIMITS, 0, "a group above its own, or the machine, was out of memory"),
    ],
)
def test_whose_memory_it_was(tmp_path: Path, limits: Limits, oom: int, text: str) -> None:
    """A child that has met its own limit is told from one that died for others."""
    process = process_in(tmp_path, limits=limits, oom=oom, kills=1)
    assert process.exit(ended()).text == f"killed by the kernel: {text}"


def test_the_limit_is_of_the_whole_group(tmp_path: Path) -> None:
    """A worker that divides its control group, as a daemon does, is within: the limit is met above."""
    home = tmp_path / "daemon"
    home.mkdir()
    (home / "memory.events").write_text(EVENTS.format(0, 1))
    process = process_in(tmp_path, limits=Limits(memory_bytes=64 << 20), oom=1, kills=1)
    assert "more memory than 64MiB, its limit" in process.exit(ended()).text


def test_supervisor_does_not_die_of_its_childrens_memory(tmp_path: Path) -> None:
    """Of a killed supervisor whose children were out of memory before, only its own death counts."""
    process = Process("app", 1, SupervisorSpec(name="app"), 1)
    process.group = Group(str(tmp_path))
    (tmp_path / "memory.events").write_text(EVENTS.format(3, 3))
    home = tmp_path / "daemon"
    home.mkdir()
    (home / "memory.events").write_text(EVENTS.format(0, 0))
    assert process.exit(ended()).reason is ExitReason.SIGNAL
    (home / "memory.events").write_text(EVENTS.format(0, 1))
    assert process.exit(ended()).reason is ExitReason.OOM


@pytest.mark.parametrize(
    ("number", "code", "kills", "forks", "said"),
    [
        (0, 137, 1, 0, "the kernel has killed 1 of its processes, out of memory"),
        (0, 1, 0, 4, "4 processes or threads could not be made: there were as many as may be"),
        (6, 0, 0, 1, "1 processes or threads could not be made: there were as many as may be"),
        (11, 0, 2, 0, "the kernel has killed 2 of its processes, out of memory"),
        (0, 0, 2, 2, ""),
        (0, 1, 0, 0, ""),
    ],
)
def test_what_it_lacked_is_said(tmp_path: Path, number: int, code: int, kills: int, forks: int, said: str) -> None:
    """A failure of its own, after the kernel had refused its processes something, has that beside it."""
    exit = process_in(tmp_path, kills=kills, forks=forks).exit(ended(number, code))
    assert (exit.reason, exit.text) == (ExitReason.SIGNAL if number else ExitReason.EXIT, said)


def test_what_was_stopped_lacked_nothing(tmp_path: Path) -> None:
    """The end of a child that was told to stop needs no explanation."""
    process = process_in(tmp_path, forks=1)
    process.told_to_stop = True
    assert process.exit(ended(15)).text == ""
