"""Whoever dies, and whatever a command has done: nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import procs
import pytest
from commanding import MODES, TANGLE, WORKER, Desk, desk_of
from configs import Config
from processes import await_no_children
from tree import Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc import NoProcess, ProcessDown, Refused
from regrow.ipc.commands import Command
from regrow.workers.system.commands_below import children_of

T = TypeVar("T")

REQUESTER = """
import os
import sys
from regrow.ipc import Client
command = Client(sys.argv[1]).start_command(["sh", "-c", sys.argv[2], "tangle", sys.argv[3]],
                                            share_processes=sys.argv[4] == "shared")
print(next(command.lines()), flush=True)
os.fork()
sys.stdin.read()
"""


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A tree that runs commands, whose end leaves nothing."""
    with short_directory() as directory:
        directory.chmod(0o755)
        config = Config(directory)
        with desk_of(Tree(directory, config), config) as made:
            yield made.open()


def gone(sign: str) -> bool:
    """Whether nobody carries that sign, after the last ones have had the moment that a death takes."""
    end_s = time.monotonic() + TIMEOUT_S
    while found := procs.carrying(sign):
        if not procs.wait_dead(min(found), max(0.0, end_s - time.monotonic())):
            return False
    return True


@pytest.mark.parametrize("mode", MODES)
def test_deadline(desk: Desk, mode: str) -> None:
    """At the deadline all of it is killed; when that is told, it is so, and its directory is removed."""
    command, sign = desk.tangle(shared=MODES[mode], timeout=1.0)
    result = command.wait()
    assert procs.carrying(sign) == {}
    assert (result.reason, result.code, result.ok) == ("timeout", None, False)
    assert 0.5 < result.duration_s + result.queued_s < 5.0
    desk.tree.wait("command_ended", WORKER)
    desk.settle()


@pytest.mark.parametrize("mode", MODES)
def test_end_of_the_program(desk: Desk, mode: str) -> None:
    """What a program leaves behind when it ends by itself ends with it."""
    sign = "91919191919"
    script = "(setsid env -i tail -f -n $0 /dev/null &); tail -f -n $0 /dev/null & exit 3"
    result = desk.client.run_command(["sh", "-c", script, sign], share_processes=MODES[mode])
    assert procs.carrying(sign) == {}
    assert (result.reason, result.code) == ("exit", 3)


@pytest.mark.parametrize("mode", MODES)
def test_cancelled(desk: Desk, mode: str) -> None:
    """Cancelled, it ends, and its requester hears of that when it is so."""
    command, sign = desk.tangle(shared=MODES[mode])
    command.cancel()
    result = command.wait()
    assert procs.carrying(sign) == {}
    assert result.reason == "cancelled"


def test_left_block(desk: Desk) -> None:
    """The end of the `with` block is the end of the command."""
    command, sign = desk.tangle()
    with command:
        pass
    assert procs.carrying(sign) == {}


@pytest.mark.parametrize("mode", MODES)
def test_requester_killed(desk: Desk, mode: str) -> None:
    """SIGKILL to the requester ends what it has asked for, also when a child of it holds the connection open."""
    sign = "92929292929"
    arguments = [sys.executable, "-c", REQUESTER, str(desk.tree.run_dir), TANGLE, sign, mode]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as requester:
        assert requester.stdout is not None
        assert b"up" in requester.stdout.readline()
        requester.kill()
        requester.wait()
        desk.tree.wait("command_ended", WORKER)
    ended = desk.tree.wait("command_ended", WORKER)
    assert "cancelled" in ended["text"]
    assert gone(sign)


@pytest.mark.parametrize("mode", MODES)
def test_runner_killed(desk: Desk, mode: str) -> None:
    """A killed runner takes its command with it; the requester is told when nothing is left, the next command runs."""
    command, sign = desk.tangle(shared=MODES[mode])
    procs.kill(desk.runner(command))
    with pytest.raises(ProcessDown, match="runner of sh was killed") as raised:
        command.wait()
    assert raised.value.reason == "killed"
    assert procs.carrying(sign) == {}
    assert "killed" in desk.tree.wait("command_ended", WORKER)["text"]
    assert desk.client.run_command(["true"]).ok


@pytest.mark.parametrize("mode", MODES)
def test_runner_stopped(desk: Desk, mode: str) -> None:
    """A runner that is stopped does not see its requester go; the end of the worker ends it all the same."""
    command, sign = desk.tangle(shared=MODES[mode])
    procs.kill(desk.runner(command), signal.SIGSTOP)
    command.close()
    desk.tree.crash(WORKER)
    desk.tree.wait("ready", WORKER, count=2)
    assert gone(sign)


@pytest.mark.parametrize("mode", MODES)
def test_worker_killed(desk: Desk, mode: str) -> None:
    """SIGKILL to the worker ends all commands; a new one serves, in a clean directory."""
    commands = [desk.tangle(shared=MODES[mode]) for _ in range(3)]
    desk.tree.crash(WORKER)
    for command, sign in commands:
        with contextlib.suppress(ProcessDown):  # or its runner has still been able to say so
            assert command.wait().reason == "cancelled"
        assert gone(sign)
    desk.tree.wait("ready", WORKER, count=2)
    result = desk.client.run_command(["pwd"])
    assert result.stdout.endswith(b"/1\n")
    desk.settle()


def test_root_killed(desk: Desk) -> None:
    """SIGKILL to the root ends everything below it, commands with numbers of their own whatever they have done."""
    command, sign = desk.tangle()
    root = desk.tree._process
    assert root is not None
    root.kill()
    with pytest.raises(ProcessDown):
        command.wait()
    assert gone(sign)
    with pytest.raises(NoProcess):
        desk.client.run_command(["true"])
    await_no_children()


def test_stop(desk: Desk) -> None:
    """An orderly stop of the worker ends its commands, and tells their requesters what happened."""
    command, sign = desk.tangle()
    desk.tree.call("terminate_child", supervisor="regrow.system", child=WORKER)
    result = command.wait()
    assert (result.reason, result.text) == ("cancelled", "the commands worker ends")
    assert gone(sign)
    with pytest.raises(NoProcess, match="runs no commands"):
        desk.client.run_command(["true"])


BOMB = """
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
"""


def test_fork_bomb(desk: Desk) -> None:
    """A bomb whose every process makes itself a session stays within its limit, and is gone at the deadline."""
    with desk.start("python3", "-c", BOMB, timeout=2.0, limits={"processes": 400}) as bomb:
        pid = bomb.wait_started()
        others = [desk.client.run_command(["true"], timeout=TIMEOUT_S).duration_s for _ in range(5)]
        assert len(os.listdir("/proc")) < 1500
        assert bomb.wait().reason == "timeout"
    assert procs.is_dead(pid)
    assert max(others) < 2.0


def test_fork_bomb_of_a_user(desk: Desk) -> None:
    """Where processes are shared, a user's own limit holds it."""
    with desk.start("python3", "-c", BOMB, timeout=1.0, shared=True, user="games", limits={"processes": 50}) as bomb:
        assert bomb.wait().reason == "timeout"
    assert not [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if owner(pid) == "games"]


def owner(pid: int) -> str:
    """The name of the user that a process runs as."""
    try:
        return Path(f"/proc/{pid}").owner()
    except (KeyError, OSError):
        return ""


def soon(begin: Callable[[], T]) -> T:
    """What comes of it once there is a worker."""
    end_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return begin()
        except (NoProcess, ProcessDown):
            assert time.monotonic() < end_s


def victims(desk: Desk, victim: str) -> list[int]:
    """The worker, or all its runners: one of them has the command, if that has begun."""
    pid: int | None = desk.tree.entry(WORKER)["pid"]
    if pid is None:
        return []
    return [pid] if victim == "worker" else children_of(pid)


def strike(desk: Desk, command: Command, victim: str) -> None:
    """Kill it, and wait for what that comes to."""
    if victim == "requester":
        command.close()
        return
    for pid in victims(desk, victim):
        with contextlib.suppress(ProcessLookupError):
            procs.kill(pid)
    command.cancel()
    with contextlib.suppress(ProcessDown, Refused):
        command.wait()


@pytest.mark.timeout(180)
def test_storm(desk: Desk) -> None:
    """Requesters, runners and the worker killed at any moment of a command: nothing is left, and the next one runs."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    for number in range(24):
        sign = f"93{number:04d}{seed}"
        argv = ("sh", "-c", "(setsid tail -f -n $0 /dev/null &); tail -f -n $0 /dev/null", sign)
        command = soon(partial(desk.start, *argv, shared=bool(number % 2)))
        for _ in range(chance.randrange(400)):
            os.sched_yield()
        strike(desk, command, chance.choice(("requester", "requester", "runner", "runner", "worker")))
        assert gone(sign), f"seed {seed}"
    assert soon(lambda: desk.client.run_command(["true"])).ok


@pytest.mark.timeout(180)
def test_thousand_runs(desk: Desk) -> None:
    """A thousand commands leave no descriptor, no process, no directory, and no memory to speak of."""
    pid = desk.tree.pid(WORKER)

    def held() -> tuple[int, int]:
        """With no runner: those that wait for the next command have descriptors, and how many do is chance."""
        desk.settle()
        for runner in children_of(pid):
            assert procs.wait_dead(runner, TIMEOUT_S)
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(os.listdir(f"/proc/{pid}/fd")), resident

    for number in range(50):
        assert desk.client.run_command(["true"], share_processes=bool(number % 2)).ok
    desk.tree.wait("command_ended", WORKER, count=50)
    before = held()
    for number in range(1000):
        assert desk.client.run_command(["true"], share_processes=bool(number % 2)).ok
    desk.tree.wait("command_ended", WORKER, count=1050)
    after = held()
    assert after[0] <= before[0] + 3
    assert after[1] - before[1] < 2 << 20
    desk.settle()
