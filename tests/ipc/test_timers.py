"""Timers and schedules as rows of the store: what becomes of them when clocks go on, are set, and begin anew."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storehouse import make_store

from regrow.ipc import clocks, deadletters, firing, scheduled, timers
from regrow.ipc.clocks import SECOND, Due, Now
from regrow.ipc.errors import BadRequest, BadSchedule
from regrow.ipc.posts import Box, decode
from regrow.ipc.schedules import MOST_MISSED
from regrow.ipc.store import Store
from regrow.ipc.timed import Cancelling, Scheduling, TimedPost, cancel_post, cancelling, scheduling, timed_post
from regrow.ipc.transaction import Overtaken, Transaction

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
BEGIN = 1_767_225_600 * SECOND  # 2026-01-01


class World:
    """A store whose clocks go as the test says, and whose keeper does what the real one does."""

    def __init__(self, folder: Path) -> None:
        run_dir = folder / "run"
        run_dir.mkdir(parents=True)
        make_store(run_dir, folder / "state")
        self.store = Store.open(str(run_dir))
        self.db = self.store.messages
        self.now = Now(BEGIN, 100 * SECOND, bytes(16))
        self.told: list[str] = []
        self.complaints: list[str] = []

    def close(self) -> None:
        self.store.close()

    def pass_time(self, by: int) -> None:
        self.now = Now(self.now.wall + by, self.now.elapsed + by, self.now.boot)

    def set_clock(self, by: int) -> None:
        """The keeper hears of it."""
        self.now = Now(max(self.now.wall + by, 0), self.now.elapsed, self.now.boot)
        self.begin()

    def reboot(self, off_for: int = 0) -> None:
        boot = (int.from_bytes(self.now.boot, "big") + 1).to_bytes(16, "big")
        self.now = Now(self.now.wall + off_for, 10 * SECOND, boot)

    def begin(self) -> None:
        """What `KeeperTimers` does at its begin, and when the clock was set."""
        write, read = self.store.write, self.store.read
        while read(lambda txn: firing.is_of_earlier_boot(txn, self.db, self.now)):
            self.complaints += write(lambda txn: firing.adopt(txn, self.db, self.now, 2))
        if read(lambda txn: timers.is_set(txn, self.db, self.now)):
            write(lambda txn: timers.note_offset(txn, self.db, self.now))
        back = read(lambda txn: firing.set_back(txn, self.db, self.now))
        write(lambda txn: firing.begin_again(txn, self.db, back, self.now))

    def plan(self, limit: int = 3) -> firing.Plan:
        return self.store.read(lambda txn: firing.plan(txn, self.db, self.now, limit))

    def settle(self, todo: firing.Plan) -> int:
        put, complaints = self.store.write(lambda txn: firing.settle(txn, self.db, todo, self.now, self.told.append))
        self.complaints += complaints
        return put

    def fire(self) -> int:
        """All that is due."""
        count = 0
        while (todo := self.plan()).due or todo.broken:
            count += self.settle(todo)
        return count

    def take(self, name: str = "agent") -> list[str]:
        """The ids of what is in the box, which is empty then."""
        def change(txn: Any) -> list[str]:
            box = Box(self.db, name)
            found = box.after(txn, -1, 1 << 20, 1 << 30)
            for ordinal, _ in found:
                box.take(txn, ordinal)
            return [decode(value).id for _, value in found]

        return self.store.write(change)

    def post(self, id: str, due: Due, *, once: bool = True, expires: float | None = None) -> None:
        post = msgspec.msgpack.encode(("tick", (), {}, "", id, self.now.wall / SECOND, 0.0))
        self.do(TimedPost("agent", post, id, once, due, expires, self.now))

    def delay(self, id: str, by: int, *, once: bool = True) -> None:
        self.post(id, Due(self.now.elapsed + by, by_elapsed=True), once=once)

    def schedule(self, when: str | datetime, id: str = "s", *, missed: str = "once", **kwargs: Any) -> None:
        zone = None if isinstance(when, datetime) or when.startswith("every") else "UTC"
        made, due = scheduled.begun(when, "tick", (), kwargs, missed, zone, self.now)
        self.do(Scheduling("agent", id, made, due, self.now))

    def do(self, *parts: Any) -> None:
        transaction = Transaction()
        transaction.posts += parts
        self.store.write(lambda txn: transaction.apply(txn, self.store, self.told.append))

    def cancel(self, id: str) -> bool:
        return self.store.write(lambda txn: cancel_post(txn, self.db, "agent", id))

    def cancel_schedule(self, id: str = "s") -> bool:
        return self.store.write(lambda txn: scheduled.cancel(txn, self.db, "agent", id))

    def next_due(self) -> int | None:
        """By the wall clock, in microseconds from now."""
        found = self.store.read(lambda txn: next(timers.listed(txn, self.db, self.now), None))
        return None if found is None else found[0] - self.now.wall

    def boots(self) -> int:
        """How many have, or have had, timers."""
        return len(self.store.read(lambda txn: timers.offsets(txn, self.db)))

    def rows(self) -> int:
        """How many rows of timers there are, with those by which they are found."""
        def look(txn: Any) -> int:
            with txn.cursor(db=self.db) as cursor:
                return sum(key[:1] in b"stuv" for key in cursor.iternext(values=False))

        return self.store.read(look)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A new store, on New Year's Day."""
    made = World(tmp_path)
    yield made
    made.close()


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
    world.do(Scheduling("agent", "s", msgspec.structs.replace(made, zone="Europe/Atlantis"), due, world.now))
    world.pass_time(HOUR)
    assert world.fire() == 0
    assert "waits an hour" in world.complaints[0]
    world.set_clock(-DAY)
    world.reboot()
    world.begin()
    world.set_clock(DAY)
    assert world.next_due() == HOUR


def test_broken_rows(world: World) -> None:
    """A timer that cannot be read holds up no other."""
    world.delay("a", HOUR)
    key = timers.BY_WALL + (world.now.wall + (1 << 63)).to_bytes(8, "big") + bytes(8)
    world.schedule("every 5m")
    world.store.write(lambda txn: txn.put(key, b"?", db=world.db))
    world.store.write(lambda txn: txn.put(scheduled.key_of("agent", "s"), b"?", db=world.db))
    world.begin()
    assert [timer.id for _, timer in world.store.read(lambda txn: list(timers.listed(txn, world.db, world.now)))] == [
        "s", "a",
    ]  # fmt: skip
    assert world.store.read(lambda txn: list(scheduled.listed(txn, world.db, world.now))) == []
    world.pass_time(HOUR)
    assert world.fire() == 1
    assert len([text for text in world.complaints if "cannot be read" in text]) == 2
    world.schedule("every 5m")
    assert world.next_due() == 300 * SECOND


DAMAGE = [b"", b"?", b"\xff", b"\x93\xa5agent\xa1b\xc4\x01?", b"\x92\xa5agent\xa1b\x01\x02"]


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
@pytest.mark.parametrize("is_rebooted", [False, True])
def test_a_damaged_timer_of_a_post(world: World, damage: bytes, is_rebooted: bool) -> None:
    """It is a dead letter that shows the row, its id may come again, and those around it become posts."""
    for number, id in enumerate("abc"):
        world.delay(id, HOUR + number)
    key = world.store.read(lambda txn: timers.find(txn, world.db, "agent", "b"))
    assert key is not None
    world.store.write(lambda txn: txn.put(key, damage, db=world.db))
    if is_rebooted:
        world.reboot()
        world.begin()
    world.pass_time(2 * HOUR)
    assert world.fire() == 2
    assert world.take() == ["a", "c"]
    [(_, letter)] = world.store.read(lambda txn: list(deadletters.listed(txn, world.db)))
    assert (letter.to, letter.post.id, letter.cause) == ("agent", "b", deadletters.Cause.BAD_REQUEST)
    assert "it is damaged" in letter.text
    assert repr(damage)[2:-1] in letter.text or is_rebooted
    assert [text for text in world.complaints if "the post 'b' to agent" in text] == world.complaints
    assert len(world.complaints) == 1
    assert world.rows() == world.boots()
    world.delay("b", HOUR)
    world.pass_time(HOUR)
    assert world.fire() == 1


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
def test_a_damaged_timer_is_cancelled(world: World, damage: bytes) -> None:
    """As if it could be read: nothing is left of it, of a post or a schedule."""
    world.delay("a", HOUR)
    world.schedule("every 1h")

    def spoil(txn: Any) -> None:
        for id, of_schedule in (("a", False), ("s", True)):
            assert txn.put(timers.find(txn, world.db, "agent", id, schedule=of_schedule), damage, db=world.db)

    world.store.write(spoil)
    assert world.cancel("a")
    assert world.cancel_schedule()
    assert world.rows() == world.boots()
    world.delay("a", HOUR)
    world.pass_time(HOUR)
    assert world.fire() == 1


def test_a_damaged_timer_of_a_schedule(world: World) -> None:
    """It is gone and said to be, and is begun again by its agent as a new one."""
    world.schedule("every 5m")
    world.schedule("every 5m", "other")
    key = world.store.read(lambda txn: timers.find(txn, world.db, "agent", "s", schedule=True))
    assert key is not None
    world.store.write(lambda txn: txn.put(key, b"?", db=world.db))
    world.pass_time(300 * SECOND)
    assert world.fire() == 1
    assert [each.partition("@")[0] for each in world.take()] == ["other"]
    assert "the schedule 's' of agent cannot be read and is gone" in world.complaints[0]
    world.schedule("every 5m")
    world.pass_time(300 * SECOND)
    assert world.fire() == 2


@pytest.mark.parametrize("is_rebooted", [False, True])
def test_damaged_clock_of_a_boot(world: World, is_rebooted: bool) -> None:
    """In that boot it is known anyway; in the next one nobody knows when its timers were due, so they are due now."""
    world.delay("a", HOUR)
    world.store.write(lambda txn: txn.put(timers.OFFSET + world.now.boot, b"\xa1?", db=world.db))
    assert world.next_due() == HOUR
    if is_rebooted:
        world.reboot()
    world.begin()
    assert world.fire() == int(is_rebooted)
    assert len(world.complaints) == int(is_rebooted)
    world.set_clock(DAY)
    world.pass_time(HOUR)
    assert world.fire() == int(not is_rebooted)


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
    again = TimedPost("agent", msgspec.msgpack.encode(("tick", [], {})), "a", True, Due(BEGIN + 5), None, world.now)
    world.do(cancelling(Transaction(), world.store, "agent", "a", of_schedule=False), again)
    assert world.next_due() == 5


def test_real_clocks() -> None:
    """They go on; the boot has an identity."""
    first, second = clocks.now(), clocks.now()
    assert second.elapsed >= first.elapsed
    assert len(first.boot) == 16
    assert abs(first.offset - second.offset) < SECOND


class Model(RuleBasedStateMachine):
    """Posts that are put off, on any course of clocks: each comes exactly once, never early, as soon as it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.folder)
        self.waiting: dict[str, Due] = {}
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.world.begin()

    @rule(by=st.integers(0, DAY))
    def delay(self, by: int) -> None:
        self.number += 1
        self.world.delay(str(self.number), by)
        self.waiting[str(self.number)] = Due(self.world.now.elapsed + by, by_elapsed=True)

    @rule(by=st.integers(-HOUR, DAY))
    def at(self, by: int) -> None:
        self.number += 1
        due = Due(self.world.now.wall + by)
        self.world.post(str(self.number), due)
        self.waiting[str(self.number)] = due

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.world.cancel(id)
        del self.waiting[id]

    @rule(by=st.integers(0, DAY))
    def pass_time(self, by: int) -> None:
        self.world.pass_time(by)

    @rule(by=st.integers(-DAY, DAY).filter(lambda by: abs(by) > timers._JITTER))
    def set_clock(self, by: int) -> None:
        """By more than is taken for the two clocks not being read at one moment."""
        self.world.set_clock(by)

    @rule(off_for=st.integers(-HOUR, DAY))
    def reboot(self, off_for: int) -> None:
        offset = self.world.now.offset
        self.waiting = {id: Due(due.wall(offset)) for id, due in self.waiting.items()}
        self.world.reboot(off_for)
        self.world.begin()

    @rule()
    def fire_and_fail(self) -> None:
        """Killed inside the transaction."""
        todo = self.world.plan()

        def change(txn: Any) -> None:
            firing.settle(txn, self.world.db, todo, self.world.now, self.world.told.append)
            raise KeyError

        with pytest.raises(KeyError):
            self.world.store.write(change)

    @rule()
    def fire(self) -> None:
        world, now = self.world, self.world.now
        world.fire()
        due = {id: due.wall(now.offset) for id, due in self.waiting.items() if due.wall(now.offset) <= now.wall}
        came = world.take()
        assert sorted(came) == sorted(due)
        self.waiting = {id: due for id, due in self.waiting.items() if id not in came}

    @invariant()
    def what_is_listed_is_what_waits(self) -> None:
        world = self.world
        listed = world.store.read(lambda txn: [(at, each.id) for at, each in timers.listed(txn, world.db, world.now)])
        assert sorted(listed) == sorted((due.wall(world.now.offset), id) for id, due in self.waiting.items())

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.folder)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
