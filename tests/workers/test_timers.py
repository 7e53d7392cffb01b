"""Timers with real clocks, agents in processes of their own, and a keeper that is killed."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agents import House
from keepers import KeeperHouse
from storehouse import make_store

from regrow.ipc import clocks, points, scheduled, timers
from regrow.ipc.bell import Bell
from regrow.ipc.client import Client
from regrow.ipc.clocks import SECOND, Now
from regrow.ipc.errors import BadRequest, NoProcess, RemoteError, StoreFull
from regrow.ipc.points import Point
from regrow.ipc.posts import Box, decode
from regrow.ipc.store import KEEPER_BELL, Store
from regrow.workers.system import keeper_timers
from regrow.workers.system.keeper_timers import KeeperTimers
from regrow.workers.system.timerfd import SINCE_BOOT, WALL, TimerFd

TICKER = "timing_agents:Ticker"
AHEAD_S = 7 * 86_400.0
TIMERS = 40
PASSED = (Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT, Point.TIMER_DUE, Point.TIMER_FIRED)


class Keeper:
    """The part of the keeper that these tests are about, in this process."""

    def __init__(self, run_dir: Path, ahead_s: float = 0.0, batch: int = 500) -> None:
        self.store = Store.open(str(run_dir))
        self.said: list[tuple[str, str]] = []
        self.ahead = int(ahead_s * SECOND)
        self.bell = Bell(str(run_dir), KEEPER_BELL)
        self.timers = KeeperTimers(self.store, str(run_dir), self.hear, self.now, batch)
        self.timers.begin()

    def hear(self, about: str, text: str) -> None:
        """What it complains of."""
        self.said.append((about, text))

    def now(self) -> Now:
        """A moment that is ahead, by both clocks."""
        real = clocks.now()
        return Now(real.wall + self.ahead, real.elapsed + self.ahead, real.boot)

    def turn(self, timeout_s: float = 10.0) -> bool:
        """Wait for anything to do, and do it; whether there was."""
        poll = select.poll()
        poll.register(self.bell.fileno(), select.POLLIN)
        poll.register(self.timers.fileno(), select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        if self.bell.fileno() in ready:
            self.bell.heard()
            self.timers.rung()
        if self.timers.fileno() in ready:
            self.timers.due()
        return bool(ready)

    def work(self) -> None:
        """All that is to be done now."""
        while self.turn(0.0):
            pass

    def box(self, name: str = "agent") -> list[str]:
        """The ids of what waits there."""
        db = self.store.messages
        found = self.store.read(lambda txn: Box(db, name).after(txn, -1, 100_000, 1 << 30))
        return [decode(value).id for _, value in found]

    def waiting(self) -> list[str]:
        """The ids of timers, the earliest first."""
        db = self.store.messages
        return [each.id for _, each in self.store.read(lambda txn: list(timers.listed(txn, db, clocks.now())))]

    def close(self) -> None:
        self.timers.close()
        self.bell.close()
        self.store.close()


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0, pool=3)
    return house


@pytest.fixture
def keeper(kept: House) -> Iterator[Keeper]:
    """A keeper for agents that are not started, or are before the test asks for it."""
    made = Keeper(kept.run_dir)
    yield made
    made.close()


def test_a_delayed_post_comes(kept: House) -> None:
    """By a real clock: it takes effect when its time has come, and the agent is woken for it."""
    kept.start(TICKER)
    keeper = Keeper(kept.run_dir)
    with Client(kept.run_dir) as client:
        client.post("agent", "tick", 1, delay=0.05)
        client.post("agent", "tick", 10, at=datetime.now(UTC) + timedelta(milliseconds=80))
        client.post("agent", "tick", 100, delay=0)
        client.post("agent", "tick", 1000, at=datetime.now(UTC) - timedelta(days=1))
        while client.call("agent", "ticks") != 1111:
            keeper.turn(0.1)
    keeper.close()


def test_the_keeper_sleeps(kept: House, keeper: Keeper) -> None:
    """Nothing wakes it until something is due earlier than what it knows of; then whoever puts it there does."""
    with Client(kept.run_dir) as client:
        keeper.work()
        client.post("agent", "tick", delay=3600)
        keeper.work()
        client.post("agent", "tick", delay=7200)
        client.post("other", "tick")
        assert not keeper.bell.heard()
        assert not keeper.turn(0.05)
        client.post("agent", "tick", delay=1800)
        assert keeper.turn()
        keeper.work()


def test_order_and_expiry(kept: House, keeper: Keeper) -> None:
    """What is due at one moment comes in the order of its commits; what was not posted in time is in the box too."""
    at = datetime.now(UTC) + timedelta(seconds=0.05)
    with Client(kept.run_dir) as client:
        with client.transaction():
            ids = [client.post("agent", "tick", at=at, expires=5) for _ in range(100)]
        while keeper.box() != ids:
            assert keeper.turn()
    assert keeper.waiting() == []


def test_cancel_by_a_client(kept: House, keeper: Keeper) -> None:
    """By the id that it has, given or not; not what is in the box; in a transaction with it."""
    with Client(kept.run_dir) as client:
        for id in (None, "mine"):
            found = client.post("agent", "tick", delay=3600, id=id)
            assert client.cancel("agent", found)
            assert not client.cancel("agent", found)
        assert not client.cancel("agent", client.post("agent", "tick", delay=0))
        with client.transaction():
            client.post("agent", "tick", delay=3600, id="a")
            assert client.cancel("agent", "a")
            client.post("agent", "tick", delay=3600, id="b")
        assert keeper.waiting() == ["b"]
        ids = [client.post("pool", "tick", delay=3600) for _ in range(3)]
        assert [client.cancel("pool", id) for id in ids] == [True] * 3
        with pytest.raises(NoProcess):
            client.cancel("nobody", "a")
        with pytest.raises(BadRequest, match="needs a zone"):
            client.post("agent", "tick", at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is what is refused


def test_schedules_of_an_agent(kept: House) -> None:
    """`init` says it at each start and shifts nothing; posts come while the agent is down, and are handled once."""
    agent = kept.start(TICKER)
    first = _due(kept)
    agent.stop()
    kept.start(TICKER)
    assert _due(kept) == first
    keeper = Keeper(kept.run_dir, ahead_s=3600.5)
    keeper.work()
    while kept.call("agent", "ticks") != 1:
        pass
    assert kept.call("agent", "end", "tick", "tick", "other") == [True, False, False]
    assert keeper.waiting() == []
    keeper.close()


def _due(house: House) -> int:
    """When the schedule is due, by its own clock."""
    store = Store.open(str(house.run_dir))
    found = store.read(lambda txn: timers.find(txn, store.messages, "agent", "tick", schedule=True))
    store.close()
    assert found is not None
    return timers.due_of(found).at


def test_what_handlers_do_with_timers(kept: House) -> None:
    """It is part of their transaction; what is wrong is told at once."""
    kept.start(TICKER)
    keeper = Keeper(kept.run_dir)
    assert kept.call("agent", "begin", "@daily", "day", zone="Europe/Berlin", missed="skip") == "day"
    with pytest.raises(RemoteError):
        kept.call("agent", "begin", "@weekly", "week", fail=True)
    rows = keeper.store.read(lambda txn: list(scheduled.listed(txn, keeper.store.messages, clocks.now())))
    assert [(owner, id, each.when, each.zone) for owner, id, each, _ in rows] == [
        ("agent", "day", "0 0 * * *", "Europe/Berlin"), ("agent", "tick", "every 1h", ""),
    ]  # fmt: skip
    assert all(due is not None and due > clocks.now().wall for *_, due in rows)
    assert kept.call("agent", "replace", 0.01) == [True, False]
    assert kept.call("agent", "later", "other", 3600, "mine") == "mine"
    assert kept.call("agent", "never", "other", "mine") is True
    while kept.call("agent", "ticks") != 10:
        keeper.turn(0.1)
    keeper.close()


@pytest.mark.parametrize(("call", "text"), [("begin", "its minute is '61'"), ("nothing", "nothing")])
def test_a_bad_schedule_ends_the_agent(kept: House, call: str, text: str) -> None:
    """It is a mistake in its code, and says which."""
    agent = kept.start(TICKER)
    when = "61 * * * *" if call == "begin" else "every 1m"
    kept.send("agent", "begin", when, call=call)
    assert agent.wait() == 1
    assert text in agent.printed()


@pytest.mark.parametrize("point", PASSED)
def test_a_keeper_that_is_killed(kept: House, point: Point) -> None:
    """Wherever it is killed, again and again: each timer becomes one post, and each schedule goes on."""
    with Client(kept.run_dir) as client, client.transaction():
        ids = [client.post("agent", "tick", delay=3600 + number, id=str(number)) for number in range(TIMERS)]
    store = Store.open(str(kept.run_dir))
    made, due = scheduled.begun("every 1d", "tick", (), {}, "all", None, clocks.now())
    store.write(lambda txn: scheduled.put(txn, store.messages, "agent", "day", made, due, clocks.now()))
    store.close()
    kills = 0
    while _fire_in_a_fork(kept.run_dir, point):
        kills += 1
        assert kills < 100
    assert kills > 0
    keeper = Keeper(kept.run_dir, AHEAD_S)
    box = keeper.box()
    assert sorted(id for id in box if "@" not in id) == sorted(ids)
    assert len([id for id in box if id.startswith("day@")]) == 7
    assert keeper.waiting() == ["day"]
    keeper.close()


def _fire_in_a_fork(run_dir: Path, point: Point) -> bool:
    """Fire what is due; every second time at which the keeper passes this point, it dies. Whether it has."""
    pid = os.fork()
    if pid == 0:
        passed = [0]

        def hook(here: Point) -> None:
            passed[0] += here is point
            if passed[0] == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        points.install(hook)
        keeper = Keeper(run_dir, AHEAD_S, batch=10)
        while len(keeper.box()) < TIMERS + 7:
            keeper.timers.due()  # the kernel does not know that our clock is ahead
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    (run_dir / "mbox" / KEEPER_BELL).unlink(missing_ok=True)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_many_at_once(kept: House) -> None:
    """They are fired in parts, so that others can write in between."""
    at = datetime.now(UTC) + timedelta(days=1)
    with Client(kept.run_dir) as client, client.transaction():
        ids = [client.post("agent", "tick", at=at) for _ in range(2000)]
    keeper = Keeper(kept.run_dir, AHEAD_S)
    sizes = [len(keeper.box())]
    while len(keeper.box()) < 2000:
        keeper.timers.due()
        sizes.append(len(keeper.box()))
    assert sizes == [500, 1000, 1500, 2000]
    assert keeper.box() == ids
    keeper.close()


def test_a_store_that_is_full(kept: House, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers wait, which is said, and come when there is room."""
    monkeypatch.setattr(keeper_timers, "AGAIN", 1000)
    with Client(kept.run_dir) as client:
        client.post("agent", "tick", delay=0.001, id="a")

        def full(_change: object) -> None:
            raise StoreFull("there", "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(keeper.store, "write", full)
            patched.setattr(keeper.store, "look", full)
            while not any("No space" in text for _, text in keeper.said):
                assert keeper.turn()
        while keeper.box() != ["a"]:
            assert keeper.turn()
    assert keeper.said[-1] == ("timers", "")


def test_the_clock_is_set(kept: House, keeper: Keeper) -> None:
    """What the wall clock is ahead is kept, for the next boot; told by a descriptor that is always armed."""
    with Client(kept.run_dir) as client:
        client.post("agent", "tick", delay=3600, id="a")
    db = keeper.store.messages
    before = keeper.store.read(lambda txn: timers.offsets(txn, db))[0][1]
    real = keeper.timers._clock
    keeper.timers._clock = lambda: Now(real().wall + 3600 * SECOND, real().elapsed, real().boot)
    keeper.timers._wall.take = lambda: True  # type: ignore[method-assign]  # as the kernel would tell it
    keeper.timers.due()
    after = keeper.store.read(lambda txn: timers.offsets(txn, db))[0][1]
    assert before is not None
    assert after is not None
    assert abs(after - before - 3600 * SECOND) < SECOND
    assert keeper.box() == []


def test_timerfd() -> None:
    """Readable at its time and not before; a time that has been is now; None is never."""
    for clock in (WALL, SINCE_BOOT):
        timer = TimerFd(clock)
        try:
            now = clocks.now()
            here = now.wall if clock == WALL else now.elapsed
            poll = select.poll()
            poll.register(timer.fileno(), select.POLLIN)
            for at, ready in ((here + 3600 * SECOND, False), (here - SECOND, True), (-5, True), (None, False)):
                assert not timer.set(at)
                assert bool(poll.poll(0)) is ready
                assert not timer.take()
                assert not poll.poll(0)
            timer.set(here + 20_000)
            assert poll.poll(10_000)
            moment = clocks.now()
            assert (moment.wall if clock == WALL else moment.elapsed) >= here + 20_000
        finally:
            timer.close()


@pytest.fixture
def keepers(tmp_path: Path) -> Iterator[KeeperHouse]:
    """Where a real keeper runs."""
    made = KeeperHouse(tmp_path)
    yield made
    made.dispose()


def _box(keepers: KeeperHouse) -> list[str]:
    """The ids of what waits for the agent."""
    store = keepers.store()
    try:
        found = store.read(lambda txn: Box(store.messages, "agent").after(txn, -1, 100_000, 1 << 30))
        return [decode(value).id for _, value in found]
    finally:
        store.close()


def test_a_real_keeper_under_kills(keepers: KeeperHouse, dice: random.Random) -> None:
    """Killed at any instruction while timers fire: each comes once, in the order in which they are due."""
    keepers.start(agent=0)
    with Client(keepers.run_dir) as client:
        begin = datetime.now(UTC)
        with client.transaction():
            ids = [client.post("agent", "tick", at=begin + timedelta(milliseconds=5 * each)) for each in range(1, 300)]
        while (came := _box(keepers)) != ids:
            assert came == ids[: len(came)]
            pause(dice.uniform(0.0, 0.3))
            keepers.kill()
            keepers.start(agent=0)
            assert datetime.now(UTC) < begin + timedelta(seconds=30)
    keepers.stop()


def test_a_real_keeper_is_not_woken(keepers: KeeperHouse) -> None:
    """With something to come in an hour, it does nothing until then; what comes earlier it hears of."""
    keepers.start(agent=0)
    with Client(keepers.run_dir) as client:
        client.post("agent", "tick", delay=3600, id="late")
        pause(1.0)  # what was committed is brought to disk
        before = _switches(keepers.pid)
        pause(1.0)
        assert _switches(keepers.pid) == before
        client.post("agent", "tick", delay=0.01, id="soon")
        end_s = time.monotonic() + 10
        while _box(keepers) != ["soon"]:
            assert time.monotonic() < end_s
            pause(0.01)
    keepers.stop()


def _switches(pid: int) -> str:
    """How often it has given up the processor by itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("voluntary"))


def pause(seconds: float) -> None:
    """Let the keeper's time pass."""
    threading.Event().wait(seconds)
