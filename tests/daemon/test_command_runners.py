"""A runner serves one command after the other, and none of them finds anything of those before it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import procs
import pytest
from commanding import MODES, WORKER, Desk, desk_of
from configs import Config
from tree import Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc.errors import Backpressure
from regrow.workers.system.commands_below import children_of
from regrow.workers.system.commands_crew import MOST_IDLE
from regrow.workers.system.commands_job import LONGEST, take_over
from regrow.workers.system.commands_space import _has_own_pid_max

SET_IO_PRIORITY = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine, -1)
KEYCTL = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine, -1)

PARENT = {
    "priority": "os.setpriority(os.PRIO_PROCESS, parent, 5)",
    "limits": "resource.prlimit(parent, resource.RLIMIT_NOFILE, (500, 500))",
    "disk": f"import ctypes; assert ctypes.CDLL(None).syscall({SET_IO_PRIORITY}, 1, parent, 3 << 13) == 0",
    "memory": "open(f'/proc/{parent}/oom_score_adj', 'w', 1).write('900\\n')",
    "core": "open(f'/proc/{parent}/coredump_filter', 'w', 1).write('0\\n')",
    "keys": f"import ctypes; call = ctypes.CDLL(None).syscall; call({KEYCTL}, 1, 0); assert call({KEYCTL}, 18) == 0",
    "policy": "os.sched_setscheduler(parent, os.SCHED_BATCH, os.sched_param(0))",
}
"""What a command may do to its runner, that the runner's next child would inherit."""

MOUNT = "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/mnt', b'tmpfs', 0, None) == 0"


@pytest.fixture
def closed() -> Iterator[Desk]:
    """To be opened."""
    with short_directory() as directory:
        directory.chmod(0o755)
        config = Config(directory)
        with desk_of(Tree(directory, config), config) as made:
            yield made


@pytest.fixture
def desk(closed: Desk) -> Desk:
    """A tree that runs commands."""
    return closed.open(max_parallel=MOST_IDLE + 4)


def served(desk: Desk, *argv: str, **options: Any) -> int:
    """Run it to its end, which must be a good one; the pid of its runner."""
    with desk.start(*argv, **options) as command:
        runner = desk.runner(command)
        command.end_input()
        assert command.wait().ok
    return runner


def ends_unused(desk: Desk, runner: int, **options: Any) -> bool:
    """Have more and more commands at once, so that all runners that wait get one, until this one has ended."""
    for count in range(2, MOST_IDLE + 4, 2):
        commands = [desk.start("cat", **options) for _ in range(count)]
        used = {desk.runner(command) for command in commands}
        for command in commands:
            command.end_input()
            assert command.wait().ok
        if runner in used:
            return False
        if procs.is_dead(runner):
            return True
    return procs.wait_dead(runner, TIMEOUT_S)


def python(code: str) -> tuple[str, ...]:
    """A program in this interpreter, without its packages, run at the end of its input; `parent` is its runner."""
    code = f"import os, resource, sys; parent = os.getppid(); sys.stdin.read(); {code}"
    return (sys.executable, "-I", "-S", "-c", code)


def descriptors(pid: int) -> set[str]:
    """Those that a process has open, by what they are; sockets and pipes without their numbers."""
    folder = Path(f"/proc/{pid}/fd")
    return {f"{fd} {os.readlink(folder / fd).partition('[')[0]}" for fd in os.listdir(folder)}


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
def test_one_after_the_other(desk: Desk, mode: str) -> None:
    """Thirty commands have two or three runners, each of which opens nothing that it does not close."""
    first = served(desk, "cat", shared=MODES[mode])
    assert not ends_unused(desk, first, shared=MODES[mode])  # with the others that wait: of those it may come last
    runners = [served(desk, "cat", shared=MODES[mode]) for _ in range(30)]
    assert len(set(runners)) < 10
    opened = [descriptors(pid) for pid in (runners[-1], served(desk, "cat", shared=not MODES[mode]))]
    desk.settle()
    assert all(len(names) < 26 for names in opened), opened


def test_at_once(desk: Desk) -> None:
    """Those that run at once have a runner each, of which some wait for more."""
    commands = [desk.start("cat") for _ in range(MOST_IDLE + 4)]
    runners = {desk.runner(command) for command in commands}
    assert len(runners) == len(commands)
    for command in commands:
        command.end_input()
        assert command.wait().ok
    worker = desk.tree.pid(WORKER)
    while len(left := children_of(worker)) > MOST_IDLE:
        procs.wait_dead(left[0], 0.05)
    assert set(left) <= runners


def test_signals_that_the_daemon_ignores(request: pytest.FixtureRequest) -> None:
    """What whoever has started the daemon ignores, programs find at its default, SIGXCPU for one."""
    numbers = (signal.SIGXCPU, signal.SIGWINCH, signal.SIGTSTP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        desk: Desk = request.getfixturevalue("desk")
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    found = desk.client.run_command(["grep", "SigIgn", "/proc/self/status"]).stdout
    assert int(found.split()[1], 16) == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_worker_has_died(when: str) -> None:
    """A runner that is free for a worker which was killed ends as one that is needed no more, without complaint."""
    worker, here = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here:
        if when == "after":
            worker.shutdown(socket.SHUT_WR)
        else:
            worker.close()
        assert take_over(here) is None
    worker.close()


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", PARENT)
def test_runner_is_changed(desk: Desk, what: str, mode: str) -> None:
    """A command of root can change its runner: that serves nobody any more."""
    runner = served(desk, *python(PARENT[what]), shared=MODES[mode])
    assert ends_unused(desk, runner, shared=MODES[mode])


@pytest.mark.root
@pytest.mark.skipif(not _has_own_pid_max(), reason="pid_max is the whole machine's here")
def test_limit_of_processes_is_changed(desk: Desk) -> None:
    """Root can change how many processes there may be beside it, for itself alone."""
    show = ["cat", "/proc/sys/kernel/pid_max"]
    before = desk.client.run_command(show).stdout
    runner = served(desk, *python("open('/proc/sys/kernel/pid_max', 'w', 1).write('5000\\n')"))
    assert ends_unused(desk, runner)
    assert desk.client.run_command(show).stdout == before != b"5000\n"


@pytest.mark.root
def test_mounts_are_changed(desk: Desk) -> None:
    """What root has mounted, the next one does not see."""
    runner = served(desk, *python(MOUNT))
    assert ends_unused(desk, runner)
    mounts = desk.client.run_command(["cat", "/proc/self/mounts"]).stdout.decode()
    assert not any(line.split()[1] == "/mnt" for line in mounts.splitlines())


def test_queue(desk: Desk) -> None:
    """Who has waited gets a runner that has become free, and no new one."""
    commands = [desk.start("sh", "-c", "echo $PPID", shared=True) for _ in range(5 * (MOST_IDLE + 4))]
    for command in commands:
        command.end_input()
    runners = {command.wait().stdout for command in commands}
    assert len(runners) <= 2 * (MOST_IDLE + 4)


def test_no_queue(closed: Desk) -> None:
    """Who has heard the end of the only command that there may be is not refused the next one."""
    client = closed.open(max_parallel=1, queue=0).client
    for _ in range(30):
        assert client.run_command(["true"]).ok
        assert client.run_command(["true"], share_processes=True).ok
    with closed.start("cat") as command:
        command.wait_started()
        with pytest.raises(Backpressure):
            client.run_command(["true"])
        command.end_input()


def test_requester_that_takes_no_end(desk: Desk) -> None:
    """It holds up nobody: the next one has its turn."""
    idle = [desk.start("true") for _ in range(MOST_IDLE + 4)]
    assert desk.client.run_command(["true"], timeout=TIMEOUT_S).ok
    for command in idle:
        assert command.wait().ok


def test_waiting_runner_is_killed(desk: Desk) -> None:
    """Another one runs the next command."""
    runner = served(desk, "cat")
    procs.kill(runner)
    assert procs.wait_dead(runner, TIMEOUT_S)
    desk.tree.call("status")
    assert served(desk, "cat") != runner


def test_waiting_runners_end(desk: Desk) -> None:
    """With the worker, and by themselves when nothing comes."""
    runner = served(desk, "cat")
    assert procs.wait_dead(runner, TIMEOUT_S)
    runner = served(desk, "cat")
    desk.tree.call("terminate_child", supervisor="regrow.system", child=WORKER)
    assert procs.wait_dead(runner, TIMEOUT_S)


@pytest.mark.root
def test_each_as_its_own(desk: Desk) -> None:
    """User, directory, environment, limits, input and output are those of the command, not of the one before it."""
    show = "id -u; pwd; echo $A; ulimit -n; cat"
    found = []
    for number, user in enumerate(("nobody", "root", "games")):
        options: dict[str, Any] = {"user": user, "env": {"A": f"a{number}"}, "limits": {"open_files": 100 + number}}
        found.append(desk.client.run_command(["sh", "-c", show], input=b"in%d" % number, **options).stdout.split())
    assert [row[0] for row in found] == [b"65534", b"0", b"5"]
    assert len({row[1] for row in found}) == 3
    assert [row[2:] for row in found] == [[b"a%d" % n, b"%d" % (100 + n), b"in%d" % n] for n in range(3)]


def test_long_arguments(desk: Desk) -> None:
    """
    What is too long to be handed to a runner that waits, one is forked for, which serves nobody else: the kernel would
    count its memory as theirs.
    """
    served(desk, "cat")
    word = "x" * LONGEST
    assert desk.client.run_command(["echo", word]).stdout == word.encode() + b"\n"
    carrier = served(desk, "sh", "-c", "cat", "sh", word)
    assert carrier not in [served(desk, "cat") for _ in range(5)]
