"""A moment by the clock on the wall, for who waits for messages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from agents import House

from regrow.ipc.clocks import SECOND
from regrow.ipc.node import MailboxSpec, Node
from regrow.workers import alarm
from regrow.workers.alarm import Alarm


@pytest.fixture
def node(house: House) -> Iterator[Node]:
    """One with a mailbox to wait at."""
    with closing(Node(str(house.run_dir), MailboxSpec("agent", 1))) as made:
        yield made


@pytest.mark.parametrize("in_s", [-1.0, 0.0, 0.05, 0.3])
def test_it_is_time(node: Node, in_s: float) -> None:
    """The wait ends then, and not before; a moment that has been is now."""
    until = time.time() + in_s
    with Alarm(node, until):
        while time.time() < until:
            assert node.receive() is None
    assert time.time() - until < 5.0


def test_the_clock_is_set(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends, and the same moment is waited for by the new time; also where there is no moment."""
    armed: list[int | None] = []

    class ClockThatIsSet:
        """What the kernel tells of one, again and again."""

        def __init__(self, clock: int) -> None:
            assert clock == time.CLOCK_REALTIME
            self.fd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

        def fileno(self) -> int:
            return self.fd

        def set(self, at: int | None) -> bool:
            armed.append(at)
            return False

        def take(self) -> bool:
            os.eventfd_read(self.fd)
            return True

        def close(self) -> None:
            os.close(self.fd)

    monkeypatch.setattr(alarm, "TimerFd", ClockThatIsSet)
    far = time.time() + 3600.0
    for at_s, expected in ((far, pytest.approx(far * SECOND, abs=3)), (float("inf"), None)):
        del armed[:]
        with Alarm(node, at_s):
            assert node.receive(timeout_s=60.0) is None
        assert armed == [expected, expected]


def test_far_away(node: Node) -> None:
    """An alarm that is far away keeps nobody from being woken; afterwards nothing of it is left."""
    before = len(os.listdir("/proc/self/fd"))
    with Alarm(node, time.time() + 3600.0):
        node.wake()
        assert node.receive(timeout_s=60.0) is None
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
