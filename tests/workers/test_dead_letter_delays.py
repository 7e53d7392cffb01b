"""When a post that has ended whoever handled it is tried again: supervisors are left in peace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agents import House
from mockups import MockAgent
from storehouse import make_store
from wards import Ward, letters, post, waiting

from regrow.ipc import explain
from regrow.ipc.errors import StoreFull
from regrow.ipc.posts import Failure, Post
from regrow.ipc.store import Store
from regrow.workers import Agent, box, handler
from regrow.workers.box_pace import retry_delay_s

INTENSITY, PERIOD_S = 3, 5.0


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0)
    return house


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return 1_790_000_000.0 + self.now_s


class Poisoned(Agent):
    """What it is given ends it."""

    @handler
    def take(self, number: int) -> None:
        self.state.setdefault("got", []).append(number)
        if number < 0:
            raise RuntimeError(f"poison {number}")


class Stay:
    """The agent in this process, under a clock of the test; each end is an incarnation more."""

    def __init__(self, run_dir: str, clock: Clock, kind: type[Agent]) -> None:
        self.run_dir = run_dir
        self.clock = clock
        self.kind = kind
        self.incarnation = 0
        self.restarts: list[float] = []
        self.agent = self._born()

    def _born(self) -> MockAgent:
        self.incarnation += 1
        agent = MockAgent(self.run_dir, self.kind, "agent", self.incarnation)
        agent.begin()
        return agent

    def pass_time(self, until_s: float) -> None:
        """Let it do all that it would."""
        while True:
            try:
                self.agent.work()
            except RuntimeError:
                self.agent.close()
                self.restarts.append(self.clock.now_s)
                self.agent = self._born()
                continue
            due_s = self.agent.box.due_s
            if self.agent.box.is_due:
                continue
            if due_s > until_s:
                return
            self.clock.now_s = max(self.clock.now_s, due_s)
            self.agent.box.look_again()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In the place of `time`, for boxes."""
    made = Clock()
    monkeypatch.setattr(box, "time", made)
    return made


@pytest.fixture
def stay(kept: House, clock: Clock) -> Iterator[Stay]:
    """One that is closed."""
    made = Stay(str(kept.run_dir), clock, Poisoned)
    yield made
    made.agent.close()


def most_in_a_period(restarts: list[float], period_s: float = PERIOD_S) -> int:
    """As a supervisor counts: a restart exactly so old still counts."""
    return max((sum(1 for each in restarts if 0 <= at - each <= period_s) for at in restarts), default=0)


def send(stay: Stay, *wanted: int) -> None:
    """Post to it, as it would itself."""
    for number in wanted:
        stay.agent.posting.commit(_outgoing(stay, number))
    stay.agent.box.look_again()


def _outgoing(stay: Stay, number: int) -> Any:
    from regrow.ipc.transaction import Transaction

    made = Transaction()
    made.posts.append(stay.agent.posting.write("agent", "take", (number,), {}))
    return made


def test_retry_delays(kept: House, stay: Stay, clock: Clock) -> None:
    """2 s after the first failure, 4 s after the second; what is behind it waits that long, and no longer."""
    send(stay, 1, -1, 2)
    began_s = clock.now_s
    stay.pass_time(began_s + 100)
    assert [at - began_s for at in stay.restarts] == [0.0, 2.0, 6.0]
    assert clock.now_s == began_s + 6.0
    assert waiting(kept, "agent") == []
    assert [at - 1_790_000_000.0 - began_s for at in (failure.at for failure in letters(kept)[0].post.failures)] == [
        0.0, 2.0, 6.0,
    ]  # fmt: skip


@pytest.mark.parametrize("attempts", [1, 2, 3, 10])
def test_many_in_a_row_leave_the_supervisor_in_peace(
    kept: House, stay: Stay, clock: Clock, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty poison posts behind each other: never more restarts in 5 s than a supervisor allows by default."""
    monkeypatch.setattr(stay.agent.box, "_max_attempts", attempts)
    monkeypatch.setattr(Poisoned, "max_attempts", attempts)
    send(stay, *range(-20, 0), 1)
    stay.pass_time(clock.now_s + 1e6)
    assert len(stay.restarts) == 20 * attempts
    assert most_in_a_period(stay.restarts) <= INTENSITY
    assert waiting(kept, "agent") == []
    assert len(letters(kept)) == 20


def test_kills_in_a_row_leave_the_supervisor_in_peace(
    kept: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the first retry comes at once: the end came from outside, or seemed to."""
    exits = {"reason": "signal", "signal": 9}
    monkeypatch.setattr(explain, "last_exit", lambda *_: exits)
    stay = Stay(str(kept.run_dir), clock, Poisoned)
    monkeypatch.setattr(stay.agent.box, "fail", None)
    monkeypatch.setattr(box.PostBox, "fail", _killed)
    send(stay, *range(-10, 0), 1)
    stay.agent.close()
    stay = Stay(str(kept.run_dir), clock, Poisoned)
    stay.pass_time(clock.now_s + 1e6)
    stay.agent.close()
    assert len(stay.restarts) == 30
    assert most_in_a_period(stay.restarts) <= INTENSITY
    assert {failure.reason for letter in letters(kept) for failure in letter.post.failures} == {"signal"}


def test_full_store_while_the_last_end_is_counted(kept: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No post is handled until it is on record which one has ended the agent, nor is that forgotten at a stop."""
    monkeypatch.setattr(explain, "last_exit", lambda *_: {"reason": "signal", "signal": 9})
    stay = Stay(str(kept.run_dir), Clock(), Poisoned)
    send(stay, -1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(box.PostBox, "fail", _killed)
        with pytest.raises(RuntimeError):
            stay.agent.work()
    stay.agent.close()

    def full(_: object, __: object) -> None:
        raise StoreFull("the store", "No space left on device")

    for incarnation in (2, 3):
        agent = MockAgent(str(kept.run_dir), Poisoned, "agent", incarnation)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", full)
            agent.begin()
            agent.work()
            agent.box.look_again()
            agent.work()
        assert [len(post.failures) for post in waiting(kept, "agent")] == [0, 0]
        agent.close()
    agent = MockAgent(str(kept.run_dir), Poisoned, "agent", 4)
    agent.begin()
    assert [len(post.failures) for post in waiting(kept, "agent")] == [1, 0]
    agent.close()


def test_the_only_post_is_taken_up_again(kept: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody rings for it: it is in the box already when its agent comes back."""
    monkeypatch.setattr(explain, "last_exit", lambda *_: {"reason": "signal", "signal": 9})
    stay = Stay(str(kept.run_dir), Clock(), Poisoned)
    send(stay, -1)
    with monkeypatch.context() as patch:
        patch.setattr(box.PostBox, "fail", _killed)
        with pytest.raises(RuntimeError):
            stay.agent.work()
    stay.agent.close()
    agent = MockAgent(str(kept.run_dir), Poisoned, "agent", 2)
    agent.begin()
    assert [len(post.failures) for post in waiting(kept, "agent")] == [1]
    assert agent.box.is_due
    agent.close()


def _killed(self: box.PostBox, *_: object) -> None:
    """In place of `fail`: the process is gone before it can say anything, and so is `close`."""
    self.leave_open()


def test_clock_is_set(kept: House, stay: Stay, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time jumps back by years while a post waits for its retry: it waits no longer than it would have."""
    send(stay, -1)
    stay.pass_time(clock.now_s)
    monkeypatch.setattr(clock, "time", lambda: clock.now_s - 900.0)
    began_s = clock.now_s
    stay.pass_time(began_s + 100)
    assert clock.now_s <= began_s + 12.0
    assert len(letters(kept)) == 1


def test_delays_grow_to_five_minutes() -> None:
    """Doubling, never more; an end that looks like an accident is retried at once, the first time."""

    def delay_s(*reasons: str) -> float:
        failures = tuple(Failure(1, 0.0, reason) for reason in reasons)
        return retry_delay_s(Post("x", msgspec.Raw(b"\x90"), msgspec.Raw(b"\x80"), failures=failures))

    assert [delay_s(*["exception"] * count) for count in (1, 2, 3, 8, 9, 5000)] == [2, 4, 8, 256, 300, 300]
    assert [delay_s(*["signal"] * count) for count in (1, 2, 3)] == [0, 4, 8]


@pytest.mark.timeout(60)
def test_in_real_time(kept: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delays are there: an exception each time, and the restarts come as slowly as they should."""
    ward = Ward(kept, "Taker")
    monkeypatch.setattr(explain, "last_exit", ward.last_exit)
    post(kept, (1, "raise"), (2,))
    ward.run(3)
    ward.await_got([2])
    first, second, third = ward.restarts
    assert 1.9 < second - first < 4.0
    assert 3.9 < third - second < 6.0
