"""Handing over what children print: at once, to the root itself, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Iterator
from itertools import count
from unittest.mock import MagicMock

import pytest

from regrow.config.spec import LogRotation
from regrow.daemon import channel
from regrow.daemon.channel_messages import NumbersUp
from regrow.daemon.errors import SpawnError
from regrow.daemon.loop import Loop
from regrow.daemon.pipes import BATCH, MAX_NUMBERS, PAUSE_S, Arrivals, Output, Pipes, Stream


class Ends:
    """Two supervisors and the root: what they have told, and the pipes that have arrived."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._sockets = [socket.socket(fileno=fd) for fd in channel.pair()]
        self._sockets.append(self._sockets[1].dup())
        self.told: list[NumbersUp] = []
        self.arrived: list[tuple[str, bytes]] = []
        self.root = Arrivals(self.loop, self._sockets[0], self._take)
        self.one = Pipes(self._sockets[1], self.told.append)
        self.other = Pipes(self._sockets[2], self.told.append)

    def _take(self, stream: Stream, fd: int) -> None:
        self.arrived.append((stream.child, os.read(fd, 100)))
        os.close(fd)

    def names(self) -> list[str]:
        """Whose pipes are with the root by now."""
        self.root.take_all()
        return [name for name, _ in self.arrived]

    def close(self) -> None:
        for end in self._sockets:
            end.close()
        self.loop.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """All ends, closed afterwards."""
    made = Ends()
    yield made
    made.close()


def stream(name: str) -> Stream:
    """Some output."""
    return Stream("sup", name, 3, LogRotation())


def born(pipes: Pipes, name: str) -> None:
    """A child that prints its name, and ends."""
    output = Output(pipes, stream(name))
    os.write(output.open(), name.encode())
    output.close()


def fill(pipes: Pipes) -> int:
    """Children, until there is no room for more of them; how many there were."""
    for number in count():
        try:
            born(pipes, "a")
        except SpawnError:
            return number
    raise AssertionError


def test_a_pipe_is_with_the_root_before_anybody_can_write_to_it(ends: Ends) -> None:
    """Of whichever supervisor, and also while that makes many children; only their numbers wait."""
    born(ends.one, "a")
    with ends.other.several(2):
        born(ends.other, "b")
        assert ends.names() == ["a", "b"]
        born(ends.other, "c")
        assert ends.told == [NumbersUp((("a", 3),))]
    assert ends.told[1:] == [NumbersUp((("b", 3), ("c", 3)))]
    ends.root.take_all()
    assert ends.arrived == [(name, name.encode()) for name in ("a", "b", "c")]


def test_numbers_of_many_are_told_in_part(ends: Ends) -> None:
    """However many are made at once, not all of their numbers are kept back."""
    with ends.one.several(MAX_NUMBERS + 1):
        for number in range(MAX_NUMBERS + 1):
            born(ends.one, f"a{number}")
        assert [len(message.numbers) for message in ends.told] == [MAX_NUMBERS]
    assert len(ends.names()) == MAX_NUMBERS + 1 > BATCH


def test_there_is_no_child_when_the_root_has_no_room(ends: Ends) -> None:
    """A root that does not go on takes some; who is refused can try again, with the same pipe, when it does."""
    handed = fill(ends.one)
    assert handed > 100
    output = Output(ends.one, stream("b"))
    with pytest.raises(SpawnError) as refused:
        output.open()
    assert refused.value.errno == errno.EAGAIN
    assert ends.names() == ["a"] * handed
    write_fd = output.open()
    assert output.open() == write_fd
    os.write(write_fd, b"once")
    output.close()
    ends.root.take_all()
    assert ends.arrived[-1] == ("b", b"once")


def test_the_root_rests_while_more_are_to_come() -> None:
    """It is not woken for each of many, but at once for a line that somebody waits for."""
    loop = MagicMock()
    taken: list[str] = []

    def take(stream: Stream, fd: int) -> None:
        taken.append(stream.child)
        os.close(fd)

    with contextlib.ExitStack() as stack:
        root_end, end = (stack.enter_context(socket.socket(fileno=fd)) for fd in channel.pair())
        root_end.setblocking(False)
        Arrivals(loop, root_end, take)
        pipes = Pipes(end, lambda _numbers: None)
        ready = loop.watch.call_args.args[2]
        with pipes.several(2):
            born(pipes, "a")
            ready(select.EPOLLIN)
            assert loop.unwatch.call_count == 1
            delay_s, listen = loop.call_later.call_args.args
            assert delay_s == PAUSE_S
            listen()
            assert loop.watch.call_count == 2
            output = Output(pipes, Stream("sup", "b", 1, LogRotation(), "a line"))
            stack.callback(output.close)
            output.open()
            ready(select.EPOLLIN)
        assert loop.unwatch.call_count == 1
        assert taken == ["a", "b"]


def test_what_is_too_long_for_a_packet_is_refused(ends: Ends) -> None:
    """A ready line of that length: the worker cannot be started, and the error says so."""
    with pytest.raises(SpawnError) as refused:
        Output(ends.one, Stream("sup", "a", 1, LogRotation(), "x" * channel.PACKET)).open()
    assert refused.value.errno == errno.EMSGSIZE
