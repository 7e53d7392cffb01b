"""How much of the processors a command gets that makes many sessions."""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forks import in_fork

from regrow.workers.system import commands_below
from regrow.workers.system.commands_shares import CROWD, LEAST, Shares, level_of

WEIGHTS = (
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip
"""Of nice 0 to 19: the kernel's sched_prio_to_weight."""


@pytest.mark.parametrize("sessions", [1, 2, 3, 5, 10, 20, 40, 60])
def test_together_they_count_as_one(sessions: int) -> None:
    """Neither more than one session would, nor much less."""
    together = sessions * WEIGHTS[level_of(sessions)]
    assert 1024 * 0.75 <= together <= 1024 * 1.05


CLONE_NEWPID = 0x20000000


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
    with below_us() as (shares, fork):
        for count, level in ((1, 0), (9, 11)):
            pids = fork(count)
            shares.look()
            assert [nice_of(pid) for pid in pids] == [level] * len(pids)


@contextmanager
def below_us() -> Iterator[tuple[Shares, Callable[[int], list[int]]]]:
    """The shares of sessions below us, and what makes more of them; returns all there are."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    reader, writer = os.pipe()
    pids: list[int] = []

    def fork(count: int) -> list[int]:
        pids.extend(in_sessions(count, reader))
        while any(os.getsid(pid) != pid for pid in pids):
            os.sched_yield()
        return pids

    try:
        yield Shares(proc), fork
    finally:
        for fd in (writer, reader, proc):
            os.close(fd)
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is only one processor")
def test_a_crowd_has_one_processor() -> None:
    """The last; those before the crowd was one included."""
    in_fork(make_a_crowd)


def make_a_crowd() -> None:
    """Of one too few, and then of enough."""
    ours = os.sched_getaffinity(0)
    with below_us() as (shares, fork):
        for count, allowed in ((CROWD - 1, ours), (1, {max(ours)})):
            pids = fork(count)
            shares.look()
            assert {frozenset(os.sched_getaffinity(pid)) for pid in pids} == {frozenset(allowed)}


@pytest.mark.root
def test_numbers_in_a_namespace() -> None:
    """Those that a /proc of outside tells are not those that a process can be named by inside."""
    in_fork(look_from_inside)


def look_from_inside() -> None:
    """As the first of a pid namespace, with one child."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    ctypes.CDLL(None).unshare(CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if finds_its_child(proc) else 1)
    _, status = os.waitpid(pid, 0)
    os.close(proc)
    assert status == 0


def finds_its_child(proc: int) -> bool:
    """By its number here, and no longer when it is dead."""
    reader, writer = os.pipe()
    (child,) = in_sessions(1, reader)
    (outside,) = commands_below.below(proc)
    found = commands_below.pid_here(outside, proc)
    os.kill(child, 9)
    os.waitpid(child, 0)
    for fd in (reader, writer):
        os.close(fd)
    return (found, child, commands_below.pid_here(outside, proc)) == (2, 2, -1)
