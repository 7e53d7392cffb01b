"""How much of the processors a command gets that makes many sessions."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forks import in_fork

from regrow.workers.system import commands_below, commands_shares
from regrow.workers.system.commands_crowd import Crowd
from regrow.workers.system.commands_shares import COMMAND, CROWD, FIRST, LEAST, Shares, carries_much, level_of

WEIGHTS = (
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip
"""Of nice 0 to 19: the kernel's sched_prio_to_weight."""


@pytest.mark.parametrize("sessions", [1, 2, 3, 5, 10, 20, 40, 60])
def test_together_they_count_as_one(sessions: int) -> None:
    """Not much less than one session of a command, and as long as levels go down, no more; never more than any one."""
    together = sessions * WEIGHTS[level_of(sessions)]
    assert WEIGHTS[COMMAND] * 0.75 <= together <= (WEIGHTS[COMMAND] if level_of(sessions) < LEAST else 1024) * 1.05


@pytest.mark.parametrize(
    ("cpu_s", "elapsed_s", "much"), [(0.0, 0.05, False), (0.01, 0.05, False), (0.03, 0.05, True), (0.1, 0.5, False)]
)
def test_what_is_much(cpu_s: float, elapsed_s: float, much: bool) -> None:
    """A quarter of a processor."""
    assert carries_much(cpu_s, elapsed_s) == much


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists("/proc/self/autogroup"), reason="this kernel has no autogroups")
def test_who_carries_much_is_not_first() -> None:
    """A runner is first while it looks after its command, and not while it carries output; nor when it clears away."""
    in_fork(carry)


def carry() -> None:
    """With a child of ours as the command."""
    os.setsid()
    with below_us() as (shares, fork), pytest.MonkeyPatch.context() as patched:
        (pid,) = fork(1)
        shares.begin(pid)
        assert (nice_of(os.getpid()), nice_of(pid)) == (FIRST, COMMAND)
        for used, level in ((1.0, COMMAND), (1.0, COMMAND), (0.0, FIRST)):
            patched.setattr(commands_shares, "carries_much", lambda _cpu_s, _elapsed_s, used=used: used > 0.5)
            while shares.due_s > time.monotonic():
                os.sched_yield()
            shares.attend()
            assert nice_of(os.getpid()) == level
        shares.end()
        assert nice_of(os.getpid()) == COMMAND


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
        for count, level in ((1, COMMAND), (9, COMMAND + 11)):
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
        new = in_sessions(count, reader)
        pids.extend(new)
        until(lambda: all(os.getsid(pid) == pid and state(pid) == "S" for pid in new))
        return pids

    try:
        yield Shares(proc), fork
    finally:
        for fd in (writer, reader, proc):
            os.close(fd)
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_a_crowd_is_held_back() -> None:
    """From so many sessions on, whoever of them wants to run takes turns; below that, nobody does."""
    in_fork(make_a_crowd)


def make_a_crowd() -> None:
    """Two that are busy, with one sleeper too few for a crowd, and then with enough; and then fewer again."""
    os.setsid()  # that of the busy ones is lowered, too
    with below_us() as (shares, fork), busy(2) as pids:
        asleep = fork(CROWD - 2)  # the busy ones share one session
        shares.look()
        assert not any(map(is_stopped, pids))
        fork(1)
        shares.look()
        until(lambda: sum(map(is_stopped, pids)) == 1)
        assert not any(map(is_stopped, asleep))
        os.kill(asleep[0], 9)
        os.waitpid(asleep.pop(0), 0)
        shares.look()
        until(lambda: not any(map(is_stopped, pids)))


def test_those_who_want_to_run_take_turns() -> None:
    """One at a time, who has waited longest first; sleepers are left alone, and who was stopped by somebody else."""
    in_fork(take_turns)


def take_turns() -> None:
    """Three that are busy, one that sleeps, and one that was stopped before."""
    with below_us() as (_, fork), busy(4) as pids, a_crowd() as crowd:
        (asleep,) = fork(1)
        stopped = pids.pop()
        os.kill(stopped, signal.SIGSTOP)
        os.waitpid(stopped, os.WUNTRACED)
        ran: list[int] = []
        for turn in range(1, 7):
            assert crowd.take_turns([*pids, asleep, stopped]) == (2 if turn == 1 else 1)
            ran += [pid for pid in pids if pid not in crowd.held]
            assert len(ran) == turn
            until(lambda: {pid for pid in pids if is_stopped(pid)} == crowd.held)
            assert (is_stopped(asleep), is_stopped(stopped)) == (False, True)
        assert sorted(ran[:3]) == sorted(pids)
        assert ran[3:] == ran[:3]
        crowd.disperse()
        until(lambda: not any(map(is_stopped, pids)))
        assert is_stopped(stopped)


def test_the_turn_of_who_has_ended_is_the_next_ones() -> None:
    """Before the next look; as long as somebody runs, nobody else does."""
    in_fork(pass_on)


def pass_on() -> None:
    """Three that are busy, of which the one ends that runs."""
    with busy(3) as pids, a_crowd() as crowd:
        crowd.take_turns(pids)
        (first,) = set(pids) - crowd.held
        crowd.pass_on()
        assert len(crowd.held) == 2
        os.kill(first, 9)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        crowd.pass_on()
        (second,) = set(pids) - crowd.held - {first}
        until(lambda: not is_stopped(second))
        crowd.pass_on()
        assert len(crowd.held) == 1


def test_who_was_overlooked_is_not_stopped_for_good() -> None:
    """A list of processes that come and go may lack one: it goes on until it is found again, and then has its turns."""
    in_fork(overlook_one)


def overlook_one() -> None:
    """Of three that are busy, one that was stopped."""
    with busy(3) as pids, a_crowd() as crowd:
        crowd.take_turns(pids)
        overlooked = min(crowd.held)
        until(lambda: is_stopped(overlooked))
        crowd.take_turns([pid for pid in pids if pid != overlooked])
        assert overlooked not in crowd.held
        until(lambda: not is_stopped(overlooked))
        crowd.take_turns(pids)
        until(lambda: {pid for pid in pids if is_stopped(pid)} == crowd.held)
        assert len(crowd.held) == 2


def test_nobody_else_is_stopped() -> None:
    """A number that has gone to a process that is none of ours is left alone."""
    in_fork(meet_a_stranger)


def meet_a_stranger() -> None:
    """Our parent, which waits for us."""
    with a_crowd() as crowd:
        crowd.held.add(os.getppid())
        crowd.disperse()
        assert not crowd._signal(os.getppid(), signal.SIGSTOP)


@contextmanager
def a_crowd() -> Iterator[Crowd]:
    """One of processes below us."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        yield Crowd(proc)
    finally:
        os.close(proc)


@contextmanager
def busy(count: int) -> Iterator[list[int]]:
    """Children that do nothing but use a processor, by now."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            while True:
                pass
        pids.append(pid)
    every = list(pids)
    try:
        yield pids
    finally:
        for pid in every:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def until(true: Callable[[], bool]) -> None:
    """As soon as the kernel has come to it."""
    while not true():
        os.sched_yield()


def is_stopped(pid: int) -> bool:
    """By a signal."""
    return state(pid) == "T"


def state(pid: int) -> str:
    """As the kernel says it in one letter."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


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
