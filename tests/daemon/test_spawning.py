"""Making children while the machine is short of something."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import procs
import pytest
from configs import Config
from farm import FOREVER
from tree import Tree
from wire import TIMEOUT_S

from regrow.config.spec import Kind, Limits, SupervisorSpec, WorkerSpec
from regrow.daemon import birth
from regrow.daemon.core.effects import Spawn
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.process import Process
from regrow.daemon.runtime import Runtime
from regrow.daemon.spawning import Spawner


class Short:
    """A machine that makes no process for some attempts; `handed` counts the pipes that readers were given."""

    def __init__(self, attempts: int, number: int = errno.EAGAIN) -> None:
        self.attempts = attempts
        self.number = number
        self.handed = 0
        self.retries: list[Callable[[], None]] = []
        self.runtime = MagicMock()
        self.runtime.spec = SupervisorSpec("sup")
        self.runtime.loop.call_later = lambda _delay_s, call: self.retries.append(call)
        self.runtime.pipes.hand_over = self.hand_over

    def hand_over(self, _stream: object, _fd: int) -> None:
        self.handed += 1

    def worker(self, *_arguments: object, output: Callable[[], int], **_keys: object) -> birth.Born:
        """What birth.worker does, as far as pipes go."""
        os.fstat(output())
        if self.attempts:
            self.attempts -= 1
            raise SpawnError("fork", self.number)
        return birth.Born(1, -1, {})


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Short:
    """A machine that becomes able to make a process at the eleventh attempt."""
    short = Short(attempts=10)
    monkeypatch.setattr(birth, "worker", short.worker)
    return short


def test_readers_are_not_given_a_pipe_for_each_attempt(short: Short) -> None:
    """That of the first attempt is kept for the child that lives."""
    spawner = Spawner(cast(Runtime, short.runtime), None)
    spawner.spawn(Spawn("a", 1, WorkerSpec("a", Kind.COMMAND)))
    for _ in range(10):
        short.retries.pop()()
    assert short.handed == 1
    assert not short.retries
    spawned: Any = short.runtime.feed.call_args.args[0]
    assert (spawned.child, spawned.incarnation) == ("a", 1)


def test_no_pipe_is_kept_while_descriptors_are_short(short: Short) -> None:
    """Or else all who wait for descriptors would have them."""
    short.number = errno.EMFILE
    spawner = Spawner(cast(Runtime, short.runtime), None)
    spawner.spawn(Spawn("a", 1, WorkerSpec("a", Kind.COMMAND)))
    before = len(os.listdir("/proc/self/fd"))
    short.retries.pop()()
    assert len(os.listdir("/proc/self/fd")) == before
    assert short.handed == 2


def test_who_is_given_up_or_made_anew_leaves_no_pipe(short: Short) -> None:
    """The next incarnation has a pipe of its own."""
    spawner = Spawner(cast(Runtime, short.runtime), None)
    spawner.spawn(Spawn("a", 1, WorkerSpec("a", Kind.COMMAND)))
    spawner.spawn(Spawn("a", 2, WorkerSpec("a", Kind.COMMAND)))
    assert short.handed == 2
    assert spawner.give_up("a")
    assert not spawner.lacks("a")


@pytest.mark.parametrize("start", ["sequential", "parallel"])
def test_commands_die_with_their_supervisor(tree: Tree, config: Config, start: str) -> None:
    """While nobody above can do anything, the kernel ends them: made by a shim, or by a fork for its output."""
    config.workers["plain"] = {"command": FOREVER}
    config.workers["special"] = {"command": FOREVER, "umask": "077", "nice": 1, "limits": {"open_files": 99}}
    config.workers["forked"] = {"command": FOREVER, "stdout": str(config.directory / "out")}
    config.supervisor("top", "sup").supervisor("sup", "plain special forked", start=start)
    tree.grow()
    before = tree.pids("sup plain special forked")
    with contextlib.ExitStack() as stack:
        fds = {name: procs.pidfd(pid) for name, pid in before.items()}
        for fd in fds.values():
            stack.callback(os.close, fd)
        with tree.frozen("top"):
            procs.kill(before["sup"])
            for name, fd in fds.items():
                assert select.select([fd], [], [], TIMEOUT_S)[0], name
    after = tree.wait_new(**before)
    assert len({*after.values(), *before.values()}) == 8


@pytest.mark.parametrize(("held", "looks"), [(None, 1), ("max", 1), ("1099511627776", 0)])
def test_memory_is_looked_at_unless_the_kernel_holds_it(tmp_path: Path, held: str | None, looks: int) -> None:
    """Without a control group, or with one that holds nothing, the supervisor looks again and again; else never."""
    short = Short(attempts=0)
    spec = WorkerSpec("one", kind=Kind.COMMAND, command=FOREVER, limits=Limits(memory_bytes=1 << 40))
    process = Process("one", 1, spec, os.getpid())
    if held is not None:
        (tmp_path / "memory.max").write_text(f"{held}\n")
        process.group = Group(str(tmp_path))
    Spawner(short.runtime, None).health(process).became_ready()
    assert len(short.retries) == looks
