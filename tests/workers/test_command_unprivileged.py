"""The worker that runs commands as a user who is not root: what it can do without, and what nobody escapes."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import procs
import pytest
from commanding import TANGLE
from processes import await_no_children, children
from tree import short_directory
from wire import TIMEOUT_S

from regrow.config.spec import CommandsSpec
from regrow.ipc import CommandResult, ProcessDown, Refused
from regrow.ipc.commands import Command, run_command
from regrow.ipc.commands_request import request_of
from regrow.workers.system import commands

pytestmark = pytest.mark.root

USER = pwd.getpwnam("games")
_PR_SET_DUMPABLE = 4  # prctl(2)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Where such a worker listens."""
    others = frozenset(children())
    with short_directory() as directory:
        os.chown(directory, USER.pw_uid, USER.pw_gid)
        pid = os.fork()
        if pid == 0:
            be_worker(str(directory))
        try:
            assert run(directory, "true").ok
            yield directory
        finally:
            os.kill(pid, signal.SIGTERM)
            await_no_children(TIMEOUT_S, others)


def be_worker(directory: str) -> None:
    """Never returns into the test runner's frames."""
    status = 1
    try:
        os.setgroups([])
        os.setresgid(USER.pw_gid, USER.pw_gid, USER.pw_gid)
        os.setresuid(USER.pw_uid, USER.pw_uid, USER.pw_uid)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)  # which a change of user ends: a daemon that a user has started is
        commands.__dict__["_root_pid"] = os.getpid  # the test is no process of this tree
        commands.run(directory, directory, msgspec.to_builtins(CommandsSpec()))
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into the test runner's frames
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def run(directory: Path, *argv: str, **options: Any) -> CommandResult:
    """Run a command to its end."""
    return run_command(str(directory), "", argv, None, **options)


def sh(directory: Path, script: str, *arguments: str, **options: Any) -> CommandResult:
    """Run a script."""
    return run(directory, "sh", "-c", script, *arguments, **options)


def test_runs_as_the_daemon(run_dir: Path) -> None:
    """Whoever asks gets the rights that there are."""
    assert run(run_dir, "id", "-un").stdout == b"games\n"
    assert run(run_dir, "id", "-un", user="games").stdout == b"games\n"
    with pytest.raises(Refused, match="does not run as root") as raised:
        run(run_dir, "id", user="nobody")
    assert raised.value.code == "unavailable"


def test_whole_tree_ends(run_dir: Path) -> None:
    """Orphans in sessions of their own, without environment, end with the command."""
    sign = "94949494941"
    result = sh(run_dir, TANGLE, "tangle", sign, timeout=1.0)
    assert (result.reason, result.stdout) == ("timeout", b"up\n")
    assert procs.carrying(sign) == {}


def test_locked_directory(run_dir: Path) -> None:
    """Who forbids himself to enter his own directory does not keep it from being removed."""
    for options in ({}, {"isolate": ["tmp"]}):
        try:
            assert sh(run_dir, "mkdir in; touch in/file; chmod 0 in .", **options).ok
        except Refused:
            continue  # no user namespaces here
        end_s = time.monotonic() + TIMEOUT_S
        while os.listdir(run_dir / "commands"):  # where it is a mount, it goes after its runner
            assert time.monotonic() < end_s
            os.sched_yield()


def test_runner_killed(run_dir: Path) -> None:
    """What a killed runner leaves falls to the worker, who ends it before it tells."""
    sign = "94949494942"
    command = Command(str(run_dir), request_of(["sh", "-c", TANGLE, "tangle", sign], timeout=TIMEOUT_S))
    assert next(command.lines()) == ("stdout", b"up\n")
    stat = Path(f"/proc/{command.pid}/stat").read_text()
    procs.kill(int(stat.rpartition(")")[2].split()[1]))
    with pytest.raises(ProcessDown):
        command.wait()
    assert procs.carrying(sign) == {}


@pytest.mark.parametrize(
    ("word", "script", "seen"),
    [
        ("network", "wc -l < /proc/net/dev", b"3\n"),
        ("tmp", "ls /tmp | wc -l", b"1\n"),
        ("root", "touch /var/tmp/x 2>/dev/null || echo cannot", b"cannot\n"),
        ("processes", "echo $$", b"2\n"),
    ],
)
def test_isolation_by_user_namespace(run_dir: Path, word: str, script: str, seen: bytes) -> None:
    """What root does directly, others do in a user namespace, or are told that they cannot."""
    try:
        result = sh(run_dir, f"echo x > own && {script}", isolate=[word])
    except Refused as error:
        assert error.code == "unavailable"  # noqa: PT017 - a kernel that does not allow user namespaces
        return
    assert result.stdout == seen, result


BOMB = """
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
"""


def test_fork_bomb(run_dir: Path) -> None:
    """Within the limit of its user, a bomb of sessions is stopped as a whole, and is gone."""
    result = run(run_dir, "python3", "-c", BOMB, timeout=1.5, limits={"processes": 60})
    assert (result.reason, "do not die" in result.text) == ("timeout", False)
    assert run(run_dir, "true").ok


def test_runners_are_used_again(run_dir: Path) -> None:
    """As root's are; but not one that a command, whose user is the same, has changed."""
    runners = [sh(run_dir, "echo $PPID").stdout for _ in range(20)]
    assert len(set(runners)) < 10
    changed = sh(run_dir, "echo 0 > /proc/$PPID/coredump_filter; echo $PPID").stdout
    assert changed not in [sh(run_dir, "echo $PPID").stdout for _ in range(5)]
