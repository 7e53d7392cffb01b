"""The channel between supervisors: what is kept back, what is dropped, and what arrives."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from regrow.daemon import channel
from regrow.daemon.channel import MAX_PUT, Channel
from regrow.daemon.channel_messages import LOST, AdmitDown, BatchUp, Down, LastWordUp, ReportUp, SocketDown, Up
from regrow.daemon.core.effects import Outcome, Report
from regrow.daemon.loop import Loop


class Ends:
    """Both ends of a channel in one loop, and what has arrived at the parent's."""

    def __init__(self) -> None:
        self.loop = Loop()
        parent, child = channel.pair()
        self.arrived: list[Up] = []
        self.parent = Channel(self.loop, parent, Up, self.arrived.append, lambda: None)
        self.downward: list[Any] = []
        self.child = Channel(self.loop, child, Down, self.downward.append, lambda: None)

    def reports(self) -> list[int]:
        """The numbers of the reports that have arrived, batch by batch."""
        self.parent.drain()
        return [len(message.reports) for message in self.arrived if isinstance(message, BatchUp)]

    def close(self) -> None:
        self.parent.close()
        self.child.close()
        self.loop.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends, closed afterwards."""
    made = Ends()
    yield made
    made.close()


def report(number: int) -> ReportUp:
    """Some report."""
    return ReportUp("sup", 1, 0.0, Report(number, "ready", "a"))


def test_what_was_dropped_is_counted_and_told_once(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads for long: reports are dropped, and as soon as the rest has gone, whoever made them is told."""
    monkeypatch.setattr(channel, "QUEUE_LIMIT", 10)
    recovered: list[int] = []
    ends.child.on_recovered = recovered.append
    sent = 0
    while not ends.child.queued:
        ends.child.send(BatchUp((report(sent),) * 100))
        sent += 1
    for number in range(15):
        ends.child.send(BatchUp((report(number),) * 100))
    ends.child.send(LastWordUp(Outcome.STOPPED, ""))
    while ends.child.queued:
        ends.parent.drain()
        ends.child.flush_blocking(1.0)
    assert recovered == [6]
    assert len(ends.reports()) == sent + 9
    assert isinstance(ends.arrived[-1], LastWordUp)


def test_many_reports_are_not_kept_back(ends: Ends) -> None:
    """Whoever reads them has work to do while more are made; a few wait for the flush."""
    for number in range(2 * MAX_PUT + 1):
        ends.child.put(report(number))
    assert ends.reports() == [MAX_PUT, MAX_PUT]
    ends.child.flush()
    assert ends.reports() == [MAX_PUT, MAX_PUT, 1]


def pipe_end() -> tuple[int, int]:
    """A descriptor to send, and what tells that another one is the same: its inode."""
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    return read_fd, os.fstat(read_fd).st_ino


def test_sockets_travel_with_their_messages(ends: Ends) -> None:
    """Also those that had to wait, and whose sender has closed them meanwhile; each is the receiver's own."""
    while not ends.parent.queued:
        ends.parent.send(AdmitDown("x" * 90_000))
    inodes = []
    for number in range(3):
        fd, inode = pipe_end()
        inodes.append(inode)
        ends.parent.send(SocketDown(f"s{number}", fd))
        ends.parent.send(SocketDown("gone"))
        os.close(fd)
    while ends.parent.queued:
        ends.child.drain()
        ends.parent.flush_blocking(1.0)
    ends.child.drain()
    arrived = [message for message in ends.downward if isinstance(message, SocketDown)]
    assert [message.name for message in arrived] == ["s0", "gone", "s1", "gone", "s2", "gone"]
    assert [message.fd for message in arrived[1::2]] == [-1, -1, -1]
    assert [os.fstat(message.fd).st_ino for message in arrived[::2]] == inodes
    assert not any(os.get_inheritable(message.fd) for message in arrived[::2])
    for message in arrived[::2]:
        os.close(message.fd)


def test_closed_channel_goes_through_no_exec(ends: Ends) -> None:
    """The other end died just before: its descriptor is closed, and its number may be another's by then."""
    ends.parent.close()
    assert ends.parent.link() is None


def test_waiting_sockets_go_through_an_exec(ends: Ends) -> None:
    """A link has the descriptors of the packets that wait, and who goes on with it sends them."""
    while not ends.parent.queued:
        ends.parent.send(AdmitDown("x" * 90_000))
    fd, inode = pipe_end()
    ends.parent.send(SocketDown("web", fd))
    os.close(fd)
    link = ends.parent.link()
    assert link is not None
    assert [held >= 0 for held in link.fds][-1]
    after = Channel.of_link(ends.loop, link, Up, ends.arrived.append, lambda: None)
    while after.queued:
        ends.child.drain()
        after.flush_blocking(1.0)
    ends.child.drain()
    message = ends.downward[-1]
    assert (message.name, os.fstat(message.fd).st_ino) == ("web", inode)
    os.close(message.fd)
    ends.parent._queue.clear()  # as an exec forgets it, which closes nothing
    after._socket.detach()


def test_socket_that_cannot_be_received(ends: Ends) -> None:
    """Without a free descriptor it is lost, and that is told; the next one arrives."""
    fd, _ = pipe_end()
    ends.parent.send(SocketDown("web", fd))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        ends.child._receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ends.parent.send(SocketDown("web", fd))
    os.close(fd)
    ends.child.drain()
    lost, found = ends.downward
    assert lost == SocketDown("web", LOST)
    os.close(found.fd)


def test_closed_channel_keeps_no_descriptor(ends: Ends) -> None:
    """What still waited is closed with it."""
    while not ends.parent.queued:
        ends.parent.send(AdmitDown("x" * 90_000))
    before = len(os.listdir("/proc/self/fd"))
    fd, _ = pipe_end()
    ends.parent.send(SocketDown("web", fd))
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    ends.parent.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
