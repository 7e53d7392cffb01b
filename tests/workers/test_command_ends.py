"""Why a command ended, from what the kernel and its control group tell of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from wire import TIMEOUT_S

from regrow.config.spec import Limits
from regrow.ipc import commands_wire as wire
from regrow.ipc.commands_request import request_of
from regrow.ipc.commands_wire import Ended
from regrow.workers.system.commands_child import Person
from regrow.workers.system.commands_job import Job, Lines, Place, Post
from regrow.workers.system.commands_run import TOO_LITTLE, TOO_MUCH
from regrow.workers.system.commands_runner import be_runner
from regrow.workers.system.commands_start import Starter

COUNTED = "low 0\nhigh 0\nmax 9\noom {}\noom_kill {}\noom_group_kill 1\n"


@pytest.fixture
def group_fd(tmp_path: Path) -> Iterator[int]:
    """The control group of a command: a folder with the files that the kernel would have there."""
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def ended(words: list[str], group_fd: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """Run this in a runner of its own, whose command is born beside its control group and not in it."""
    ours, theirs = socket.socketpair()
    worker, its_worker = socket.socketpair()
    host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    start = Starter.start
    post = Post(Place(0, ("here",), None), its_worker, (os.geteuid(), os.getegid()), host_proc, marker="")
    job = Job(
        run=1, request=request_of(words, timeout=TIMEOUT_S), executable="/bin/sh",
        person=Person(os.geteuid(), os.getegid(), ()), may_become=False, work_dir=str(directory), limits=Limits(),
        limits_group=True, counts_processes=False, deadline_s=time.monotonic() + TIMEOUT_S, queued_s=0.0,
    )  # fmt: skip
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(Starter, "start", lambda self, launch, _group: start(self, launch, -1))
        be_runner(post, job, Lines(theirs, group_fd=group_fd))
    os.close(host_proc)
    with ours, theirs, worker, its_worker:
        theirs.close()
        its_worker.close()
        ours.settimeout(TIMEOUT_S)
        said = b"".join(iter(lambda: ours.recv(1 << 16), b""))
        ours.close()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    (found,) = (payload for kind, payload in wire.Frames(len(said)).feed(said) if kind == wire.ENDED)
    return msgspec.msgpack.decode(found, type=Ended)


@pytest.mark.parametrize(
    ("oom", "oom_kills", "script", "reason", "number"),
    [
        (2, 1, "kill -KILL $$", "oom", "SIGKILL"),
        (0, 1, "kill -KILL $$", "oom", "SIGKILL"),
        (0, 0, "kill -KILL $$", "signal", "SIGKILL"),
        (2, 1, "kill -TERM $$", "signal", "SIGTERM"),
        (2, 1, "exit 3", "exit", None),
    ],
)
def test_out_of_memory(
    group_fd: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    oom: int,
    oom_kills: int,
    script: str,
    reason: str,
    number: str | None,
) -> None:
    """Killed for want of memory is told from killed by somebody, and whose memory it was, by what its group counted."""
    (tmp_path / "memory.events").write_text(COUNTED.format(oom, oom_kills))
    (tmp_path / "memory.peak").write_text("123456789\n")
    (tmp_path / "work").mkdir()
    came_to = ended(["sh", "-c", script], group_fd, tmp_path / "work", monkeypatch)
    assert (came_to.reason, came_to.signal, came_to.peak_memory_bytes) == (reason, number, 123456789)
    assert came_to.text == ((TOO_MUCH if oom else TOO_LITTLE) if reason == "oom" else "")
    assert came_to.code == (3 if reason == "exit" else None)


def test_group_that_tells_nothing(tmp_path: Path, group_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the controller for memory a group has none of these files: a SIGKILL is just that."""
    (tmp_path / "work").mkdir()
    came_to = ended(["sh", "-c", "kill -KILL $$"], group_fd, tmp_path / "work", monkeypatch)
    assert (came_to.reason, came_to.signal, came_to.peak_memory_bytes > 0) == ("signal", "SIGKILL", True)
