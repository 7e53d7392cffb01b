"""An idle tree uses no CPU: nobody in it who supervises is ever woken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from storm import gauges
from storm.forest import Forest
from storm.garden import Garden

IDLE_S = 3.0


@pytest.fixture
def quiet(directory: Path) -> Iterator[Garden]:
    """The tree of 60 with workers that, once ready, say nothing."""
    garden = Garden(directory, f"{os.getpid()}-{directory.name}", forest=Forest(directory, talk=False))
    try:
        garden.plant()
        yield garden
        garden.down()
    finally:
        garden.lives.dispose()


def test_no_wake_ups(quiet: Garden) -> None:
    """Neither the root nor any supervisor, nor the logger, runs once in three seconds in which nothing happens."""
    pids = {"regrow": quiet.lives.pid, **{name: int(entry["pid"]) for name, entry in quiet.entries().items()}}
    pids = {name: pid for name, pid in pids.items() if name in quiet.forest.supervisors or name.startswith("regrow")}
    assert not quiet.lives.ended_within(0.5)  # the answer about their pids is the last thing that happens
    before = {name: gauges.switches(pid) for name, pid in pids.items()}
    assert not quiet.lives.ended_within(IDLE_S)
    after = {name: gauges.switches(pid) for name, pid in pids.items()}
    assert {name: after[name] - before[name] for name in pids} == dict.fromkeys(pids, 0)
