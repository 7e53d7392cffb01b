"""How much of the processors a command gets that makes many sessions."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from forks import in_fork

from regrow.workers.system.commands_shares import LEAST, Shares, level_of

WEIGHTS = (
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip
"""Of nice 0 to 19: the kernel's sched_prio_to_weight."""


@pytest.mark.parametrize("sessions", [1, 2, 3, 5, 10, 20, 40, 60])
def test_together_they_count_as_one(sessions: int) -> None:
    """Neither more than one session would, nor much less."""
    together = sessions * WEIGHTS[level_of(sessions)]
    assert 1024 * 0.75 <= together <= 1024 * 1.05


def test_there_is_a_least_share() -> None:
    """However many there are."""
    assert level_of(1_000_000) == LEAST


def in_sessions(count: int, reader: int) -> list[int]:
    """Children of ours, each in a session of its own, that wait for the end of a pipe."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            select.select([reader], [], [])
            os._exit(0)
        pids.append(pid)
    return pids


def nice_of(pid: int) -> int:
    """That of its session."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


@pytest.mark.skipif(not os.path.exists("/proc/self/autogroup"), reason="this kernel has no autogroups")
def test_sessions_are_lowered() -> None:
    """As soon as it is looked at; one that has been there alone keeps what it had."""
    in_fork(lower_them)  # who has no other children


def lower_them() -> None:
    """With one child, and then with ten."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    reader, writer = os.pipe()
    shares, pids = Shares(proc), []
    try:
        for count, level in ((1, 0), (9, 11)):
            pids += in_sessions(count, reader)
            while any(os.getsid(pid) != pid for pid in pids):
                os.sched_yield()
            shares.look()
            assert [nice_of(pid) for pid in pids] == [level] * len(pids)
    finally:
        for fd in (writer, reader, proc):
            os.close(fd)
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
