"""Single attempts by real programs: what they are given, and how they end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from probing import ENV, World, await_end, program, shell

from regrow.config.spec import Credentials
from regrow.daemon.linux.probes import Surroundings


def test_exec_exit_status_decides(world: World) -> None:
    """Exit 0 passes; another status, or a signal, is named."""
    assert world.outcome(program("true")) == ""
    assert world.outcome(program("false")) == "false exited with status 1"
    assert world.outcome(shell("exit 7")) == "/bin/sh exited with status 7"
    assert world.outcome(shell("kill -SEGV $$")) == "/bin/sh was killed by SIGSEGV"


def test_exec_failures_are_precise(world: World, tmp_path: Path) -> None:
    """What cannot be executed says so, instead of an exit status."""
    assert world.outcome(program("/no/such")) == "cannot execute /no/such: No such file or directory"
    (tmp_path / "f").touch()
    assert world.outcome(program(str(tmp_path / "f"))) == f"cannot execute {tmp_path / 'f'}: Permission denied"
    assert world.outcome(program("true", "a\0b")) == "cannot start the check: embedded null byte"
    world.around = Surroundings(world.processes, ENV, cwd="/no/such")
    assert world.outcome(program("true")) == "cannot change to /no/such: No such file or directory"


def test_exec_surroundings(world: World, tmp_path: Path) -> None:
    """A check has the given environment and nothing else, its own session, clean signals, cwd and no descriptors."""
    world.around = Surroundings(world.processes, ENV, cwd=str(tmp_path))
    with open(tmp_path / "open", "w") as held:
        os.set_inheritable(held.fileno(), True)
        for line in (
            'test "$REGROW_CHILD" = token:web:3 && test -z "$HOME"',
            f'test "$(pwd -P)" = {tmp_path.resolve()}',
            f"test ! -e /proc/self/fd/{held.fileno()}",
            'test "$(cut -d" " -f6 /proc/$$/stat)" = $$',
            "grep -Eq '^SigIgn:.0+$' /proc/self/status && grep -Eq '^SigBlk:.0+$' /proc/self/status",
            'for n in 0 1 2; do test "$(readlink /proc/$$/fd/$n)" = /dev/null || exit 1; done',
        ):
            assert world.outcome(shell(line)) == "", line


@pytest.mark.skipif(os.getuid() != 0, reason="needs to run as root")
def test_exec_identity(world: World) -> None:
    """A check runs as the user it is given."""
    world.around = Surroundings(world.processes, ENV, identity=Credentials(uid=65534, gid=65534, groups=()))
    assert world.outcome(shell('test "$(id -u):$(id -G)" = 65534:65534')) == ""


def test_exec_is_killed_with_its_group_at_the_limit(world: World, tmp_path: Path) -> None:
    """At the limit the program and what it started in the background die: the pipe they hold closes."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    line = f"exec 3>{tmp_path}/alive; (read x <{tmp_path}/never) & (read x <{tmp_path}/never)"
    assert world.outcome(shell(line), 0.2) == "/bin/sh did not end within 0.2 s"
    await_end(world, alive)


def test_exec_background_dies_with_a_passed_check(world: World, tmp_path: Path) -> None:
    """A check that leaves something in the background passes and the rest is killed."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    assert world.outcome(shell(f"exec 3>{tmp_path}/alive; (read x <{tmp_path}/never) & exit 0")) == ""
    await_end(world, alive)
