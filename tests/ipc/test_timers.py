"""Timers as rows of the store: what becomes of them when clocks go on, are set, and begin anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from timerworld import BEGIN, DAY, HOUR, World

from regrow.ipc import clocks, timers
from regrow.ipc.clocks import SECOND, Due
from regrow.ipc.errors import BadRequest, BadSchedule
from regrow.ipc.posts import Box, decode
from regrow.ipc.timed import Cancelling, TimedPost, cancelling, scheduling, timed_post
from regrow.ipc.transaction import Overtaken, Transaction


def test_a_delayed_post(world: World) -> None:
    """It comes when it is due, once, and leaves nothing behind; the owner of the box is told."""
    world.delay("a", HOUR)
    assert (world.fire(), world.next_due()) == (0, HOUR)
    world.pass_time(HOUR - 1)
    assert world.fire() == 0
    world.pass_time(1)
    assert world.fire() == 1
    assert world.told == ["agent"]
    assert (world.take(), world.fire(), world.next_due()) == (["a"], 0, None)
    assert world.rows() == 1  # what the clock was ahead in this boot


def test_order(world: World) -> None:
    """By the time at which they are due, whichever clock that is by; of equal ones, as they were put."""
    for number in range(20):
        world.delay(f"e{number}", HOUR)
    world.post("w1", Due(world.now.wall + HOUR - 1))
    world.post("w2", Due(world.now.wall + HOUR + 1))
    world.pass_time(2 * HOUR)
    world.fire()
    assert world.take() == ["w1", *(f"e{number}" for number in range(20)), "w2"]


def test_an_id_counts_once(world: World) -> None:
    """While it waits, when it has come, and between posts that are put off and others; until it is cancelled."""
    world.delay("a", HOUR)
    world.delay("a", 2 * HOUR)
    world.post("a", Due(world.now.wall + HOUR))
    world.pass_time(3 * HOUR)
    assert world.fire() == 1
    world.delay("a", HOUR)
    assert world.next_due() is None
    world.delay("b", HOUR)
    assert world.cancel("b")
    assert not world.cancel("b")
    world.delay("b", 2 * HOUR)
    assert world.next_due() == 2 * HOUR


def test_cancel(world: World) -> None:
    """What is cancelled never comes; what has come cannot be cancelled; posts without an id of their own can be."""
    world.delay("a", HOUR, once=False)
    world.delay("b", HOUR)
    assert world.cancel("a")
    world.pass_time(HOUR)
    assert world.fire() == 1
    assert not world.cancel("b")
    assert world.take() == ["b"]


def test_setting_the_clock_does_not_touch_delays(world: World) -> None:
    """Neither forward nor back; a time by the clock comes as the clock says."""
    world.delay("delay", HOUR)
    world.post("at", Due(world.now.wall + HOUR))
    world.set_clock(30 * DAY)
    world.fire()
    assert world.take() == ["at"]
    world.set_clock(-60 * DAY)
    world.pass_time(HOUR)
    world.fire()
    assert world.take() == ["delay"]


@pytest.mark.parametrize(("off_for", "left"), [(0, HOUR), (HOUR // 2, HOUR // 2), (2 * HOUR, -HOUR)])
def test_a_reboot(world: World, off_for: int, left: int) -> None:
    """In the next boot a delay goes by the clock, as it was when it was last set."""
    world.set_clock(-3 * DAY)
    world.delay("a", HOUR)
    world.set_clock(DAY)
    world.reboot(off_for)
    world.begin()
    assert world.next_due() == left
    assert world.fire() == (left <= 0)
    world.pass_time(max(left, 0))
    assert world.fire() == (left > 0)
    assert world.take() == ["a"]


def test_a_post_expires_from_its_time_on(world: World) -> None:
    """Not from the time at which it was put off."""
    world.post("a", Due(world.now.elapsed + HOUR, by_elapsed=True), expires=60.0)
    world.set_clock(DAY)
    world.pass_time(HOUR + 10 * SECOND)
    world.fire()
    value = world.store.read(lambda txn: Box(world.db, "agent").after(txn, -1, 1, 1))[0][1]
    assert decode(value).expires_at == (world.now.wall - 10 * SECOND) / SECOND + 60.0
    assert decode(value).at == world.now.wall / SECOND


def test_many_are_fired_in_parts(world: World) -> None:
    """About as many posts as the limit says in each transaction."""
    for number in range(20):
        world.delay(str(number), HOUR)
    world.schedule("every 1m", missed="all")
    world.pass_time(2 * HOUR)
    sizes = []
    while (todo := world.plan(7)).due:
        sizes.append(world.settle(todo))
    assert sum(sizes) == 20 + 120
    assert max(sizes) <= 7 + 120


def test_what_was_planned_and_has_changed(world: World) -> None:
    """Only what is still so is done: not what was cancelled, replaced or fired in between."""
    world.delay("a", HOUR)
    world.delay("b", HOUR)
    world.schedule("every 1h")
    world.schedule("every 1h", "r")
    world.schedule("every 1h", "c")
    world.pass_time(HOUR)
    todo = world.plan(100)
    assert len(todo.due) == 5
    world.cancel("a")
    world.cancel_schedule("c")
    world.schedule("every 2h", "r")
    assert world.settle(todo) == 2
    assert [each.partition("@")[0] for each in world.take()] == ["b", "s"]
    assert world.settle(todo) == 0
    assert world.fire() == 0


def test_first_is_told(world: World) -> None:
    """Whoever puts a timer learns whether it is the first of its clock: then the keeper is to be told."""
    def put(id: str, due: Due) -> bool:
        return world.store.write(lambda txn: timers.put(txn, world.db, timers.Timer("agent", id, b""), due, world.now))

    assert put("a", Due(10, by_elapsed=True))
    assert not put("b", Due(10, by_elapsed=True))
    assert not put("c", Due(11, by_elapsed=True))
    assert put("d", Due(9, by_elapsed=True))
    assert put("e", Due(100))
    assert world.store.read(lambda txn: timers.earliest(txn, world.db, world.now)) == (100, 9)


@pytest.mark.parametrize(
    ("delay", "at"),
    [
        (-1, None), (float("nan"), None), (float("inf"), None), (True, None), ("5", None), (4e9, None),
        (None, datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is refused
        (None, datetime(2300, 1, 1, tzinfo=UTC)), (None, 5), (1, datetime.now(UTC)),
    ],
)  # fmt: skip
def test_bad_times(delay: Any, at: Any) -> None:
    """Negative, endless, without a zone, no number, too far away, both: refused."""
    with pytest.raises(BadRequest):
        timed_post("agent", "tick", (), {}, "", "id", False, None, delay, at)


def test_times_that_are_now() -> None:
    """No delay, and a time that has been, need no timer."""
    for delay, at in ((0, None), (0.0, None), (None, datetime.now(UTC) - timedelta(days=1))):
        assert timed_post("agent", "tick", (), {}, "", "id", False, None, delay, at) is None
    late = timed_post("agent", "tick", (), {}, "", "id", False, None, 100 * 365 * 86_400, None)
    assert late is not None
    assert late.due.by_elapsed


def test_bad_schedules() -> None:
    """What cannot be encoded, ids, policies and zones that are none."""
    with pytest.raises(BadRequest, match="cannot encode"):
        scheduling("agent", None, "every 5m", "tick", (object(),), {}, "once", None)
    with pytest.raises(BadRequest, match="an id"):
        scheduling("agent", "", "every 5m", "tick", (), {}, "once", None)
    with pytest.raises(BadRequest, match="too long"):
        scheduling("a" * 450, "b" * 100, "every 5m", "tick", (), {}, "once", None)
    with pytest.raises(BadSchedule, match="'once' or 'all' or 'skip'"):
        scheduling("agent", None, "every 5m", "tick", (), {}, "never", None)
    with pytest.raises(BadSchedule, match="for cron"):
        scheduling("agent", None, "every 5m", "tick", (), {}, "once", "Europe/Berlin")
    with pytest.raises(BadSchedule, match="hundred years"):
        scheduling("agent", None, datetime(2300, 1, 1, tzinfo=UTC), "tick", (), {}, "once", None)
    assert scheduling("agent", None, "every 5m", "tick", (), {}, "once", None).id == "tick"


def test_cancel_within_a_transaction(world: World) -> None:
    """It sees what the same transaction has put; what it has said of the store holds, or it is overtaken."""
    part = Transaction()
    made = scheduling("agent", "s", "every 5m", "tick", (), {}, "once", None)

    def cancel() -> Cancelling:
        found = cancelling(part, world.store, "agent", "s", of_schedule=True)
        part.posts.append(found)
        return found

    assert not cancel().was_there
    part.posts.append(made)
    inner, outer = Transaction(part), part
    part = inner
    assert cancel().was_there
    assert not cancel().was_there
    part = outer
    outer.absorb(inner)
    world.do(*outer.posts)
    assert world.rows() == 1
    world.schedule("every 5m")
    late = cancelling(Transaction(), world.store, "agent", "s", of_schedule=True)
    world.cancel_schedule()
    with pytest.raises(Overtaken):
        world.do(late)


def test_a_cancelled_post_comes_again(world: World) -> None:
    """Cancel and post with the same id, in one transaction: the later one counts."""
    world.delay("a", HOUR)
    post = msgspec.msgpack.encode(("tick", [], {}))
    again = TimedPost("agent", post, "a", True, 0.0, Due(BEGIN + 5), None, world.now)
    world.do(cancelling(Transaction(), world.store, "agent", "a", of_schedule=False), again)
    assert world.next_due() == 5


def test_real_clocks() -> None:
    """They go on; the boot has an identity."""
    first, second = clocks.now(), clocks.now()
    assert second.elapsed >= first.elapsed
    assert len(first.boot) == 16
    assert abs(first.offset - second.offset) < SECOND
