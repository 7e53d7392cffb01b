"""The runners as the worker has them, in a process that is not a daemon's."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forks import in_fork
from wire import TIMEOUT_S

from regrow.config.spec import Limits
from regrow.ipc.commands_request import request_of
from regrow.workers.system import commands_calls, commands_task
from regrow.workers.system.commands_below import children_of
from regrow.workers.system.commands_crew import Crew
from regrow.workers.system.commands_news import News
from regrow.workers.system.commands_rules import Granted
from regrow.workers.system.commands_visitor import Visitor
from regrow.workers.system.commands_watch import Watch


class Bench:
    """A crew, which may end whatever this process has made, and one who asks it for a command."""

    def __init__(self, folder: Path) -> None:
        commands_calls.adopt_orphans()
        self.watch = Watch()
        self.crew = Crew(str(folder), self.watch, News(), None, lambda: None)
        self.requester, theirs = socket.socketpair()
        self.visitor = Visitor(theirs)

    def start(self) -> None:
        """A program that does not end by itself."""
        request = request_of(["tail", "-f", "/dev/null"], timeout=TIMEOUT_S, share_processes=True)
        self.visitor.request, self.visitor.due_s = request, time.monotonic() + TIMEOUT_S
        self.crew.start(self.visitor, Granted(request, "/usr/bin/tail", Limits(), False))

    def serve_until(self, is_done: Callable[[], Any]) -> None:
        """As the worker does."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not is_done():
            assert time.monotonic() < deadline_s
            due_s = self.crew.overdue()
            self.watch.turn(None if due_s is None else max(0.0, due_s - time.monotonic()))


def test_runner_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when it is overdue, and the worker goes on."""
    monkeypatch.setattr(commands_task, "OVERDUE_S", -TIMEOUT_S)

    def body() -> None:
        bench = Bench(tmp_path)
        bench.start()
        bench.serve_until(lambda: bench.crew.is_empty)
        assert os.listdir(tmp_path) == []

    in_fork(body)


def test_runner_that_cannot_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for it there is no runner, and nothing of it is left."""

    def none_left(_pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def body() -> None:
        bench = Bench(tmp_path)
        before = os.listdir("/proc/self/fd")
        monkeypatch.setattr(os, "pidfd_open", none_left)
        with pytest.raises(OSError, match="Too many open files"):
            bench.start()
        assert os.listdir("/proc/self/fd") == before
        assert not list(children_of(os.getpid()))
        assert os.listdir(tmp_path) == []

    in_fork(body)
