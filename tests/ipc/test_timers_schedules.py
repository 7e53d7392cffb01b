"""Schedules as rows of the store: when they are due, what was missed, and clocks that are set."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from timerworld import BEGIN, DAY, HOUR, World

from regrow.ipc import scheduled
from regrow.ipc.clocks import SECOND
from regrow.ipc.posts import Box, decode
from regrow.ipc.schedules import MOST_MISSED
from regrow.ipc.timed import Scheduling


def test_rhythm(world: World) -> None:
    """It is the last time and the step, whenever the keeper looks; each firing is a post of its own."""
    world.schedule("every 5m")
    for number in range(1, 10):
        world.pass_time(world.next_due() or 0)
        world.pass_time(number * SECOND)
        assert world.fire() == 1
        assert world.next_due() == 300 * SECOND - number * SECOND
        world.pass_time(-number * SECOND)
        assert len(world.take()) == 1


def test_what_a_firing_looks_like(world: World) -> None:
    """The post is from the agent to itself, with an id that says when it was due."""
    world.schedule("every 5m", n=7)
    world.pass_time(301 * SECOND)
    world.fire()
    post = decode(world.store.read(lambda txn: Box(world.db, "agent").after(txn, -1, 1, 1))[0][1])
    assert (post.handler, post.sender, post.id) == ("tick", "agent", "s@2026-01-01T00:05:00+00:00")
    assert msgspec.msgpack.decode(post.kwargs) == {"n": 7}


def test_the_same_schedule_changes_nothing(world: World) -> None:
    """So `init` may say it at each start; anything else about it begins it anew."""
    world.schedule("every 5m")
    world.pass_time(60 * SECOND)
    world.schedule("every 300s")
    assert world.next_due() == 240 * SECOND
    for change in ({"n": 1}, {"missed": "all"}, {}):
        world.schedule("every 5m", **change)
        assert world.next_due() == 300 * SECOND
        world.pass_time(60 * SECOND)
    world.schedule("0 0 * * *")
    assert world.next_due() == DAY - 240 * SECOND
    assert world.rows() == 4


def test_a_schedule_is_cancelled(world: World) -> None:
    """It leaves nothing, and says whether it was there."""
    world.schedule("every 5m")
    assert world.cancel_schedule()
    assert not world.cancel_schedule()
    world.pass_time(DAY)
    assert world.fire() == 0
    assert world.rows() == 1


@pytest.mark.parametrize(("missed", "count"), [("once", 1), ("all", 24), ("skip", 0)])
@pytest.mark.parametrize("when", ["every 1h", "0 * * * *"])
@pytest.mark.parametrize("is_rebooted", [True, False])
def test_missed(world: World, missed: str, count: int, when: str, is_rebooted: bool) -> None:
    """A day without a keeper, the machine on or off; then it goes on in its rhythm."""
    world.pass_time(30 * 60 * SECOND)
    world.schedule(when, missed=missed)
    if is_rebooted:
        world.reboot(DAY + 20 * 60 * SECOND)
    else:
        world.pass_time(DAY + 20 * 60 * SECOND)
    world.begin()
    assert world.fire() == count
    assert len(world.take()) == count
    left = 40 * 60 * SECOND if when.startswith("every") else 10 * 60 * SECOND
    assert world.next_due() == left
    world.pass_time(left)
    assert world.fire() == 1


def test_missed_without_end(world: World) -> None:
    """What is made up for is bounded, and the rest said."""
    world.schedule("every 1s", missed="all")
    world.pass_time(DAY)
    assert world.fire() == MOST_MISSED
    assert len(world.complaints) == 1
    assert "missed more than the 1000" in world.complaints[0]


def test_ticks_do_not_pile_up(world: World) -> None:
    """While one waits in the box, no second one joins it; where all are to be made up for, they do."""
    world.schedule("every 1m")
    world.schedule("every 1m", "all", missed="all")
    for _ in range(5):
        world.pass_time(60 * SECOND)
        world.fire()
    assert sorted(each.partition("@")[0] for each in world.take()) == ["all"] * 5 + ["s"]
    world.pass_time(60 * SECOND)
    assert world.fire() == 2


def test_a_moment(world: World) -> None:
    """It comes once, is not begun anew by the same, and is forgotten after a while."""
    at = datetime(2026, 1, 1, 1, tzinfo=UTC)
    world.schedule(at)
    world.pass_time(2 * HOUR)
    assert world.fire() == 1
    assert len(world.take()) == 1
    world.schedule(at)
    assert world.fire() == 0
    assert not world.store.read(lambda txn: scheduled.is_there(txn, world.db, "agent", "s"))
    assert [row[3] for row in world.store.read(lambda txn: list(scheduled.listed(txn, world.db, world.now)))] == [None]
    world.pass_time(31 * DAY)
    assert world.fire() == 0
    assert world.rows() == 0
    world.schedule(at)
    assert (world.fire(), world.rows()) == (0, 0)  # it was over long ago
    world.schedule(datetime(2026, 2, 1, tzinfo=UTC))
    assert world.fire() == 1


def test_every_by_a_wrong_clock(world: World) -> None:
    """A machine that comes up in 1970 keeps no rhythm waiting for more than a step."""
    world.schedule("every 5m")
    world.pass_time(60 * SECOND)
    world.reboot()
    world.set_clock(-world.now.wall)
    assert world.next_due() == 300 * SECOND
    world.set_clock(BEGIN)
    assert world.next_due() == 300 * SECOND


def test_cron_and_a_clock_that_is_set(world: World) -> None:
    """Forward: what was skipped was missed. Back by a little: nothing comes twice. By much: it had been wrong."""
    world.schedule("0 * * * *")
    world.set_clock(5 * HOUR)
    assert world.fire() == 1
    world.take()
    world.set_clock(-2 * HOUR)
    assert world.next_due() == 3 * HOUR
    world.set_clock(-300 * DAY)
    assert world.next_due() == HOUR


def test_a_zone_that_is_gone(world: World) -> None:
    """The schedule waits an hour, which is said."""
    made, due = scheduled.begun("0 * * * *", "tick", (), {}, "once", "Europe/Berlin", world.now)
    elsewhere = msgspec.structs.replace(made, zone="Europe/Atlantis")
    world.do(Scheduling("agent", b"", "s", True, 0.0, elsewhere, due, world.now))
    world.pass_time(HOUR)
    assert world.fire() == 0
    assert "waits an hour" in world.complaints[0]
    world.set_clock(-DAY)
    world.reboot()
    world.begin()
    world.set_clock(DAY)
    assert world.next_due() == HOUR
