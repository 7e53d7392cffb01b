"""How an owner and its task find each other, and what they say."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.values import NAME_PATTERN
from regrow.ipc import task_meeting, tasks
from regrow.ipc.errors import CallTimeout
from regrow.ipc.task_wire import Frame, TooLong, abstract, decode_job, encode_job, encode_result, framed
from regrow.ipc.wire import MAX_MESSAGE_BYTES
from regrow.workers import task as worker


@given(st.binary(max_size=300), st.lists(st.integers(1, 20)))
def test_a_frame_in_pieces(payload: bytes, sizes: list[int]) -> None:
    """However it arrives it is the same, and complete with its last byte, not before."""
    frame = Frame()
    left = framed(payload)
    for size in [*sizes, len(left)]:
        assert (frame.payload is None) == (left != b"")
        if left:
            assert frame.feed(left[:size]) == (len(left) <= size)
            left = left[size:]
    assert frame.payload == payload


def test_what_is_behind_a_frame_is_nobodys() -> None:
    """One payload, and no more."""
    frame = Frame()
    assert frame.feed(framed(b"one") + framed(b"two"))
    assert frame.feed(b"three")
    assert frame.payload == b"one"


def test_a_length_beyond_the_limit() -> None:
    """It is refused before anything of it is kept."""
    with pytest.raises(TooLong):
        Frame().feed((MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(TooLong):
        encode_result(b"x" * MAX_MESSAGE_BYTES)


def test_a_job_there_and_back() -> None:
    """Its arguments stay encoded until the function's annotations are known."""
    job = decode_job(encode_job("module:function", (1, "two"), {"three": 4.5}))
    assert job.target == "module:function"
    assert msgspec.msgpack.decode(job.args) == [1, "two"]
    assert msgspec.msgpack.decode(job.kwargs) == {"three": 4.5}


def test_addresses() -> None:
    """An abstract address has two forms."""
    assert abstract("@0c0f") == "\x000c0f"
    assert abstract("\x000c0f") == "@0c0f"


@pytest.mark.parametrize("function", ["m:f", "m.n:Class.method", "m:_private", "m:é", "m:UPPER", "m:" + "x" * 200])
def test_names_of_tasks(function: str) -> None:
    """Each is a name that a child may have, short, and never the same."""
    names = {tasks._name(function) for _ in range(100)}
    assert len(names) == 100
    assert all(re.match(NAME_PATTERN, name) and len(name) < 64 for name in names)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """An owner's and a task's end."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def pidfd() -> Iterator[int]:
    """The owner, alive: this process."""
    fd = os.pidfd_open(os.getpid())
    yield fd
    os.close(fd)


def test_no_job_comes(
    pair: tuple[socket.socket, socket.socket], pidfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task gives up with a time-out (S233)."""
    monkeypatch.setattr(worker, "JOB_S", 0.05)
    pair[0].send(b"\0\0")
    with pytest.raises(TimeoutError, match="no job"):
        worker._await_job(pair[1], pidfd)


def test_the_owner_hangs_up_before_the_job(pair: tuple[socket.socket, socket.socket], pidfd: int) -> None:
    """The task ends with *shutdown* (S233)."""
    pair[0].close()
    with pytest.raises(SystemExit) as ended:
        worker._await_job(pair[1], pidfd)
    assert ended.value.code == 82


def test_the_owner_dies_before_the_job(pair: tuple[socket.socket, socket.socket]) -> None:
    """Though another process, a fork of the owner's, keeps the connection open."""
    with subprocess.Popen(["true"]) as owner:
        pidfd = os.pidfd_open(owner.pid)
        with pytest.raises(SystemExit) as ended:
            worker._await_job(pair[1], pidfd)
        os.close(pidfd)
    assert ended.value.code == 82


def test_a_task_talks_to_its_owner_only() -> None:
    """Whoever else listens at the owner's address now is none of its business."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        address = abstract(listener.getsockname().decode())
        assert worker._connect(address, os.getppid()) is None
        connection = worker._connect(address, os.getpid())
        assert connection is not None
        connection.close()
    assert worker._connect(address, os.getpid()) is None


def test_an_owner_talks_to_its_task_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger that connects first is sent away, and does not pass for the task."""
    monkeypatch.setattr(task_meeting, "CONNECT_S", 0.05)
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as stranger,
    ):
        listener.bind("")
        listener.listen()
        stranger.connect(listener.getsockname())
        with pytest.raises(CallTimeout):
            task_meeting.meet(listener, process.pid)
        assert stranger.recv(1) == b""


def plain(number: int, text: str = "x", *, flag: bool = False) -> Any:
    """Annotated with words, as everything here."""
    return number, text, flag


def unannotated(a, b=2):  # type: ignore[no-untyped-def]
    """Takes anything."""
    return a, b


def converting(a: float, b: list[int] | None = None, *rest: str) -> Any:
    """Asks for what msgpack does not have as such."""
    return a, b, rest


FUNCTIONS = [plain, unannotated, converting, (lambda a, b=1: (a, b)), divmod]
VALUES = st.sampled_from([1, True, 1.5, "x", b"x", None, [1], ["x"], {"a": 1}])


@given(st.sampled_from(FUNCTIONS), st.lists(VALUES, max_size=4))
def test_the_short_way_to_call_is_the_long_way(function: Callable[..., Any], args: list[Any]) -> None:
    """What is called without a look at the whole signature would have been called in the same way with it."""
    job = decode_job(encode_job("module:function", args, {}))
    if worker._takes(function, args):
        short = worker._bound(function, job)()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "_takes", lambda function, args: False)
            assert worker._bound(function, job)() == short


def test_annotations_that_are_types() -> None:
    """They count like words; a class that only has the name of a plain type does not."""

    def real(a, b):  # type: ignore[no-untyped-def]
        return a, b

    real.__annotations__ = {"a": int, "b": str}
    assert worker._takes(real, [1, "x"])
    assert not worker._takes(real, [True, "x"])
    real.__annotations__ = {"a": type("int", (), {})}
    assert not worker._takes(real, [1, "x"])


def test_a_task_that_died_before_it_connected() -> None:
    """There is nothing to wait for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        with subprocess.Popen(["true"]) as process:
            assert task_meeting.meet(listener, process.pid) is None
        assert task_meeting.meet(listener, process.pid) is None
