"""Making children while the machine is short of something."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import MagicMock

import procs
import pytest
from configs import Config
from farm import FOREVER
from tree import Tree
from wire import TIMEOUT_S

from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon import birth
from regrow.daemon.core.effects import Spawn
from regrow.daemon.errors import SpawnError
from regrow.daemon.runtime import Runtime
from regrow.daemon.spawning import Spawner


class Short:
    """A machine that makes no process for some attempts; `announced` counts the pipes that readers were given."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.announced = 0
        self.retries: list[Callable[[], None]] = []
        self.runtime = MagicMock()
        self.runtime.spec = SupervisorSpec("sup")
        self.runtime.loop.call_later = lambda _delay_s, call: self.retries.append(call)
        self.runtime.pipes.announce = self.announce

    def announce(self, _stream: object, fd: int) -> None:
        self.announced += 1
        os.close(fd)

    def worker(self, *_arguments: object, announce: Callable[[int], None], **_keys: object) -> birth.Born:
        """What birth.worker does, as far as pipes go."""
        read_fd, write_fd = os.pipe()
        os.close(write_fd)
        announce(read_fd)
        if self.attempts:
            self.attempts -= 1
            raise SpawnError("fork", errno.EAGAIN)
        return birth.Born(1, -1, {})


def test_readers_are_not_given_a_pipe_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe of the first attempt is announced at once, the next is that of a child that lives."""
    short = Short(attempts=10)
    monkeypatch.setattr(birth, "worker", short.worker)
    spawner = Spawner(cast(Runtime, short.runtime), None)
    spawner.spawn(Spawn("a", 1, WorkerSpec("a", Kind.COMMAND)))
    for _ in range(9):
        short.retries.pop()()
    assert short.announced == 1
    short.retries.pop()()
    assert short.announced == 2
    assert not short.retries
    spawned: Any = short.runtime.feed.call_args.args[0]
    assert (spawned.child, spawned.incarnation) == ("a", 1)


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
