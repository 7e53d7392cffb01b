"""A process without free descriptors cannot tell who lives: it says that, and takes nobody for dead."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from boxes import Box
from siblings import Line, Sibling

from regrow.ipc import Client, NoProcess, least_outstanding, subscriptions
from regrow.ipc.down import NOCONNECTION
from regrow.ipc.names import Names, Record
from regrow.ipc.node import Node
from regrow.ipc.process import open_pidfd, start_time
from regrow.ipc.subscriptions import Recorded
from regrow.ipc.task_meeting import meet
from regrow.workers import task
from regrow.workers.system.hub_board import Board
from regrow.workers.system.hub_calls import NodeCalls
from regrow.workers.system.hub_records import RecordedSubscribers
from regrow.workers.system.hub_root import RootLink
from regrow.workers.system.hub_watch import Watch

UNKNOWN = "cannot tell whether it lives: too many open files"
ME = os.getpid()


@contextlib.contextmanager
def few_descriptors(spare: int = 0) -> Iterator[None]:
    """Leave this process no more than `spare` new descriptors for the block."""
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    taken = {fd for fd in taken if _is_open(fd)}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, spare, None))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def box(run_dir: Path) -> Iterator[Box]:
    """The only member of its group."""
    with closing(Box(run_dir, "box.0", group="box", replicas=1)) as made:
        yield made


@pytest.mark.parametrize("spare", [0, 1])
def test_processes(spare: int) -> None:
    """Neither the beginning of a process nor a descriptor of it can be had: EMFILE, and nothing is left open."""
    started = start_time(ME)
    with few_descriptors(spare), pytest.raises(OSError, match="Too many") as raised:
        open_pidfd(ME, started)
    assert raised.value.errno == errno.EMFILE
    with few_descriptors(), pytest.raises(OSError, match="Too many"):
        start_time(ME)


def test_the_gone_are_gone() -> None:
    """Whoever is dead and reaped is, with descriptors or without."""
    with Sibling(lambda line: line.hear()) as sibling:
        started = start_time(sibling.pid)
    assert start_time(sibling.pid) == 0
    assert open_pidfd(sibling.pid, started) == -1


@pytest.mark.parametrize("spare", [0, 1])
def test_messages(run_dir: Path, box: Box, spare: int) -> None:
    """Each verb says why it does not reach the living; all of them do once there are descriptors again."""
    with Client(run_dir) as client:
        for to in ("box.0", "box", least_outstanding("box")):
            with few_descriptors(spare):
                with pytest.raises(NoProcess, match=UNKNOWN):
                    client.call(to, "echo")
                assert UNKNOWN in str(client.send(to, "echo").error)
                assert client.cast(to, "echo") is False
        with few_descriptors(spare):
            with pytest.raises(NoProcess, match=UNKNOWN):
                client.monitor("box.0")
            with pytest.raises(NoProcess, match=UNKNOWN):
                client.members("box")
            with pytest.raises(OSError, match=rf"box\.0 \(pid {box.pid}\): {UNKNOWN}"):
                client.whereis("box.0")
        assert client.call("box", "echo", 1) == [1]
        assert client.members("box") == ["box.0"]
        with client.monitor("box.0") as monitor:
            assert monitor.pid == box.pid


def test_group_of_which_one_is_known(run_dir: Path, box: Box) -> None:
    """Messages to the group go to the member that is known to live."""
    with closing(Box(run_dir, "box.1", group="box", replicas=2)), Client(run_dir) as client:
        assert client.call("box.0", "whoami")[2] == box.pid
        with few_descriptors():
            assert {client.call("box", "whoami")[2] for _ in range(4)} == {box.pid}
            with pytest.raises(NoProcess, match=UNKNOWN):
                client.members("box")
        assert client.members("box") == ["box.0", "box.1"]


def test_monitor_of_a_command(run_dir: Path) -> None:
    """The root cannot be asked about it: that is no `noproc`."""
    with Client(run_dir) as client, few_descriptors(), pytest.raises(NoProcess, match=UNKNOWN):
        client.monitor("command")


def test_name_of_a_living_holder(run_dir: Path, box: Box) -> None:
    """Nobody takes it over."""
    with closing(Names(str(run_dir))) as names:
        names.register("other", holder := cast("Record", names.get("box.0")))
        with few_descriptors(), pytest.raises(OSError, match=UNKNOWN):
            names.register("other", Record("me", 1, ME, 1, "me.1.x"))
        assert names.get("other") == holder


class Root:
    """A root that says, in `answer`, which process has each name that it was asked about."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._asked: list[tuple[Callable[[Any], None], list[str]]] = []

    def ask(self, _verb: str, fields: Mapping[str, Any], done: Callable[[Any], None], _failed: object) -> None:
        self._asked.append((done, fields["names"]))

    def answer(self) -> None:
        while self._asked:
            done, names = self._asked.pop()
            done([{"name": name, "pid": self._pid, "incarnation": 1} for name in names])


def test_hub_on_behalf_of_clients(run_dir: Path, box: Box) -> None:
    """The hub does not say of the living that they are dead, and goes on."""
    told: list[tuple[str, int, Any]] = []

    def died(name: str, incarnation: int, exit: Mapping[str, Any]) -> None:
        told.append((name, incarnation, exit["reason"]))

    with closing(Node(str(run_dir))) as node, closing(Watch()) as watch:
        root = Root(box.pid)
        calls = NodeCalls(node, cast("RootLink", root), watch)
        with few_descriptors():
            with pytest.raises(NoProcess, match=UNKNOWN):
                calls.whereis("box.0")
            calls.monitor("box.0", died)
            calls.monitor("command", died)
            root.answer()
        assert told == [("box.0", 0, NOCONNECTION), ("command", 0, NOCONNECTION)]
        assert calls.whereis("box.0") == {"name": "box.0", "incarnation": 1, "pid": box.pid}
        handles = [calls.monitor(name, died) for name in ("box.0", "command")]
        root.answer()
        assert [handle.cancel() for handle in handles] == [True, True]
        assert len(told) == 2
        calls.close()


def test_recorded_subscribers(run_dir: Path, box: Box) -> None:
    """What a living process has recorded stays, and is found once there are descriptors again."""
    with closing(Names(str(run_dir))) as names, closing(Watch()) as watch:
        recorded = Recorded(box.pid, start_time(box.pid), ("a.b",))
        subscriptions.write(names.env, "token", recorded)
        with closing(RecordedSubscribers(names, Board(lambda *_: None), watch)) as records:
            with few_descriptors():
                records.load()
                assert records.claim("token", box.pid) is None
            assert subscriptions.read(names.env, "token") == recorded
            assert records.claim("token", box.pid) is not None


def test_task_does_not_leave(run_dir: Path) -> None:
    """A task that cannot look for its owner fails, and does not end as if there were none."""

    def body(line: Line) -> None:
        began = start_time(ME)
        with few_descriptors():
            try:
                task.run("nobody-listens", ME, began)
            except OSError as error:
                line.say(error.errno)

    with Sibling(body) as sibling:
        assert sibling.hear() == errno.EMFILE
        assert sibling.wait() == 0


def test_owner_without_descriptors() -> None:
    """It is told why it cannot meet its task."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("")
        listener.listen()
        with few_descriptors(), pytest.raises(OSError, match="Too many"):
            meet(listener, ME)
