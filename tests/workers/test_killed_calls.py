"""A call whose agent is killed at any point of it: its caller learns that, and the state is as before or after it."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import House
from storehouse import make_store

from regrow.ipc.errors import ProcessDown
from regrow.ipc.points import Point, install

KEPT = {
    Point.BEFORE_COMMIT: 1, Point.INSIDE_COMMIT: 1,
    Point.AFTER_COMMIT: 2, Point.REPLY_DUE: 2,
}  # fmt: skip
"""What a counter of 1 is after a call that counts one more, when its agent is killed there."""


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0)
    return house


@pytest.fixture
def armed() -> Iterator[mmap.mmap]:
    """Shared with what is forked: not 0 from when on it is to die."""
    with mmap.mmap(-1, 1) as made:
        yield made
        install(None)


@pytest.mark.parametrize("agent", ["Counter", "Waiter"])
@pytest.mark.parametrize("point", KEPT)
def test_killed_at(kept: House, armed: mmap.mmap, point: Point, agent: str) -> None:
    """Its caller gets ProcessDown, also when only the reply was missing; the next one has all of it or nothing."""
    test = os.getpid()

    def kill(here: Point) -> None:
        if here is point and armed[0] and os.getpid() != test:
            os.kill(os.getpid(), signal.SIGKILL)

    install(kill)
    running = kept.start(f"keeping_agents:{agent}")
    assert kept.call("agent", "count") == 1
    armed[0] = 1
    with pytest.raises(ProcessDown):
        kept.call("agent", "count")
    assert running.wait() == -signal.SIGKILL
    armed[0] = 0
    kept.start(f"keeping_agents:{agent}")
    assert kept.call("agent", "total") == KEPT[point]
    assert kept.call("agent", "count") == KEPT[point] + 1
