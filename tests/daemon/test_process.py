"""Why a main process ended, from what the kernel tells of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regrow.config.spec import Kind, WorkerSpec
from regrow.daemon.core.events import ExitReason
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.process import Process


def killed() -> os.waitid_result:
    """What waitid says of a child that was killed."""
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), 9)
    info = os.waitid(os.P_PID, pid, os.WEXITED)
    assert info is not None
    return info


@pytest.mark.parametrize(
    ("before", "after", "reason"), [(0, 1, ExitReason.OOM), (2, 2, ExitReason.SIGNAL), (2, 3, ExitReason.OOM)]
)
def test_out_of_memory(tmp_path: Path, before: int, after: int, reason: ExitReason) -> None:
    """Killed by the kernel for want of memory is told from killed by somebody, by what its group has counted since."""
    process = Process("one", 1, WorkerSpec(name="one", kind=Kind.COMMAND, command=("true",)), 1)
    process.group, process.oom_kills = Group(str(tmp_path)), before
    (tmp_path / "memory.events").write_text(f"low 0\nhigh 0\nmax 9\noom 2\noom_kill {after}\noom_group_kill 1\n")
    ended = process.exit(killed())
    assert (ended.reason, ended.signal, ended.code) == (reason, 9, None)
