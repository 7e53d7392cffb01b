"""The message that gives a spare its name: whole, once, or taken back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from regrow.daemon.handover import MOST, Handover, Way, receive


@pytest.fixture
def way() -> Iterator[Way]:
    """Both ends, open."""
    way = Way()
    yield way
    way.close()


def given(name: str = "a.1", **env: str) -> Handover:
    """A message."""
    return Handover(name, '{"x": 1}', env, (1, 2), ())


def test_message_and_descriptor(way: Way) -> None:
    """The spare gets what was said, and a descriptor of its own for the output."""
    reader, writer = os.pipe()
    assert way.send(given(A="b"), writer)
    os.close(writer)
    message, fd = receive(os.dup(way.theirs.fileno()))
    assert message == given(A="b")
    os.write(fd, b"hello")
    os.close(fd)
    assert os.read(reader, 10) == b"hello"
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_without_descriptor(way: Way) -> None:
    """Output that goes nowhere needs none."""
    assert way.send(given(), -1)
    assert receive(os.dup(way.theirs.fileno())) == (given(), -1)


def test_taken_back(way: Way) -> None:
    """What nobody has read can be had back, with the descriptor; once."""
    reader, writer = os.pipe()
    assert way.send(given(), writer)
    os.close(writer)
    assert way.take_back()
    assert not way.take_back()
    assert os.read(reader, 1) == b""  # nobody has the other end any more
    os.close(reader)


def test_not_taken_back(way: Way) -> None:
    """What was read is the spare's."""
    assert way.send(given(), -1)
    receive(os.dup(way.theirs.fileno()))
    assert not way.take_back()


def test_too_large(way: Way) -> None:
    """It is not sent, in part or at all: the child is made without a spare."""
    assert not way.send(given(A="x" * MOST), -1)
    assert not way.take_back()


def test_supervisor_gone() -> None:
    """The spare does not wait for ever."""
    way = Way()
    theirs = os.dup(way.theirs.fileno())
    way.close()
    with pytest.raises(OSError, match="reset"):
        receive(theirs)


def test_out_of_the_way_of_sockets() -> None:
    """The spare's end is above the listening sockets that it inherits."""
    way = Way(40)
    assert way.theirs.fileno() >= 43
    way.close()
