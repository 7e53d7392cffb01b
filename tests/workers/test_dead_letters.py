"""Posts that end whoever handles them: each becomes a dead letter with its evidence, and the others are handled."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agents import House, Running
from mockups import MockAgent
from storehouse import make_store

from regrow.ipc import deadletters, explain
from regrow.ipc.client import Client
from regrow.ipc.deadletters import Cause, DeadLetter
from regrow.ipc.errors import StoreFull
from regrow.ipc.explain import FORGIVEN
from regrow.ipc.posts import WAITING, Failure, Post, decode
from regrow.ipc.store import Store, Txn
from regrow.workers import Agent, box, box_pace, handler
from regrow.workers.box_pace import retry_delay_s

AGENTS = "poisoned_agents"
INTENSITY, PERIOD_S = 3, 5.0


class Ward:
    """A house whose test is the supervisor: it restarts the agent until nothing is left to do, and knows each end."""

    def __init__(self, house: House, kind: str) -> None:
        self.house = house
        self.kind = kind
        self.ends: dict[tuple[str, int], dict[str, Any]] = {}
        self.restarts: list[float] = []
        self.incarnation = 0
        self.agent: Running | None = None

    def last_exit(self, _run_dir: str, name: str, incarnation: int) -> dict[str, Any] | None:
        """What the root would say; called in the agents, which are forked later."""
        return self.ends.get((name, incarnation))

    def start(self) -> Running:
        self.incarnation += 1
        self.agent = self.house.start(f"{AGENTS}:{self.kind}")
        return self.agent

    def ended(self) -> int:
        """Wait for the end of the agent, and note it."""
        assert self.agent is not None
        status = self.agent.wait(30.0)
        exit = {"reason": "signal", "signal": -status} if status < 0 else {"reason": "exit", "code": status}
        if any("X_REGROW_EXCEPTION" in fields for fields in self.agent.said):
            exit = {"reason": "exception", "text": "an exception"}
        self.ends["agent", self.incarnation] = {**exit, "at": time.time()}
        return status

    def run(self, times: int) -> None:
        """Restart it at once, as often as it is to end."""
        self.start()
        for _ in range(times):
            self.ended()
            self.restarts.append(time.monotonic())
            self.start()

    def await_got(self, expected: list[int]) -> None:
        end_s = time.monotonic() + 30.0
        while (got := self.house.call("agent", "got")) != expected:
            assert time.monotonic() < end_s, got


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0)
    return house


@pytest.fixture
def ward(kept: House, monkeypatch: pytest.MonkeyPatch) -> Ward:
    """The delays between attempts are left out; what the root knows is known."""
    made = Ward(kept, "Taker")
    monkeypatch.setattr(explain, "last_exit", made.last_exit)
    monkeypatch.setattr(box_pace, "retry_delay_s", lambda post: 0.0)
    monkeypatch.setattr(box_pace, "PACE_S", 0.0)
    return made


def post(house: House, *posts: tuple[Any, ...], **options: Any) -> None:
    """All of them in one commit, so that they are in one batch."""
    with Client(house.run_dir) as client, client.transaction():
        for args in posts:
            client.post("agent", "take", *args, **options)


def letters(house: House) -> list[DeadLetter]:
    """All that there are."""
    with closing(Store.open(str(house.run_dir))) as store:
        return store.read(lambda txn: [letter for _, letter in deadletters.listed(txn, store.messages)])


def waiting(house: House, name: str) -> list[Post]:
    """What is in a box."""
    first = WAITING + name.encode() + b"\0"

    with closing(Store.open(str(house.run_dir))) as store:

        def look(txn: Txn) -> list[Post]:
            with txn.cursor(db=store.messages) as cursor:
                rows = cursor.iternext() if cursor.set_range(first) else iter(())
                found = []
                for key, value in rows:
                    if not key.startswith(first):
                        break
                    found.append(decode(bytes(value)))
                return found

        return store.read(look)


def numbers(posts: list[Post]) -> list[int]:
    """The first argument of each."""
    return [msgspec.msgpack.decode(each.args)[0] for each in posts]


EVIDENCE = {
    "raise": ("exception", "RuntimeError: poison"),
    "kill": ("signal", "9"),
    "_exit": ("exit", "0"),
    "exit 1": ("exit", "sys.exit(1)"),
    "exit 0": ("exit", "sys.exit(None)"),
    "segfault": ("signal", "11"),
    "base": ("exception", "an exception"),
}


@pytest.mark.parametrize("how", EVIDENCE)
def test_poison(ward: Ward, how: str) -> None:
    """
    After `max_attempts` it is a dead letter that tells of each attempt. What came before it, in the same batch, has
    taken effect once, and so has what came behind; nothing of the poison has.
    """
    post(ward.house, (1,), (2,), (3, how), (4,), (5,))
    ward.run(3)
    ward.await_got([1, 2, 4, 5])
    assert numbers(waiting(ward.house, "other")) == [1, 2, 4, 5]
    assert waiting(ward.house, "agent") == []
    (letter,) = letters(ward.house)
    reason, text = EVIDENCE[how]
    assert (letter.to, letter.cause, numbers([letter.post])) == ("agent", Cause.ATTEMPTS, [3])
    assert [(failure.incarnation, failure.reason) for failure in letter.post.failures] == [
        (number, reason) for number in (1, 2, 3)
    ]
    assert [failure.text for failure in letter.post.failures if text not in failure.text] == []
    assert abs(letter.at - time.time()) < 30


def test_several_in_a_row(ward: Ward) -> None:
    """Each goes its way, and the order of the others stays."""
    post(ward.house, (1, "kill"), (2, "raise"), (3,), (4, "segfault"), (5, "refuse"), (6, "exit 0"), (7,))
    ward.run(12)
    ward.await_got([3, 7])
    assert [(numbers([each.post]), each.cause) for each in letters(ward.house)] == [
        ([1], "attempts"), ([2], "attempts"), ([4], "attempts"), ([5], "refused"), ([6], "attempts"),
    ]  # fmt: skip
    assert numbers(waiting(ward.house, "other")) == [3, 7]


def test_one_attempt_and_any_number(ward: Ward) -> None:
    """`max_attempts` of 1, and of 0: for ever."""
    ward.kind = "OnceOnly"
    post(ward.house, (1, "raise"), (2, "kill"), (3,))
    ward.run(2)
    ward.await_got([3])
    assert len(letters(ward.house)) == 2
    assert ward.agent is not None
    ward.agent.stop()
    ward.ended()
    ward.kind = "Stubborn"
    post(ward.house, (4, "kill"), (5,))
    ward.run(6)
    assert ward.agent is not None
    ward.agent.wait()
    assert numbers(waiting(ward.house, "agent")) == [4, 5]
    assert len(waiting(ward.house, "agent")[0].failures) == 6
    assert len(letters(ward.house)) == 2


def test_at_once(ward: Ward) -> None:
    """What no attempt can help is a dead letter without one: the agent lives on."""
    agent = ward.start()
    post(ward.house, (1,), (2, "refuse"), ("three",), (), (4,))
    with Client(ward.house.run_dir) as client:
        client.post("agent", "no_such_handler", 5)
        client.post("agent", "take", 6, expires=0)
        client.post("agent", "take", 7)
    ward.await_got([1, 4, 7])
    causes = [letter.cause for letter in letters(ward.house)]
    assert causes == ["refused", "bad_request", "bad_request", "bad_request", "expired"]
    texts = [letter.text for letter in letters(ward.house)]
    assert "Refusal: not this one" in texts[0]
    assert "$[0]" in texts[1] or "int" in texts[1]
    assert "no_such_handler" in texts[3]
    assert all(letter.post.failures == () for letter in letters(ward.house))
    assert agent.stop() == 0
    assert agent.printed().count("is a dead letter now") >= 3


def test_ends_that_are_forgiven(ward: Ward) -> None:
    """An attempt that is cut short by an orderly end from outside does not count."""
    post(ward.house, (1, "kill"))
    ward.start()
    for reason in sorted(FORGIVEN):
        ward.ended()
        ward.ends["agent", ward.incarnation]["reason"] = reason
        ward.start()
    ward.ended()
    assert waiting(ward.house, "agent")[0].failures == ()


def test_ends_that_nobody_can_explain(ward: Ward) -> None:
    """They count: what ends its process each time is not tried for ever because the daemon is too busy to say how."""
    post(ward.house, (1, "kill"), (2,))
    ward.start()
    for _ in range(3):
        ward.ended()
        del ward.ends["agent", ward.incarnation]
        ward.start()
    ward.await_got([2])
    (letter,) = letters(ward.house)
    assert [(each.reason, each.incarnation) for each in letter.post.failures] == [("unknown", n) for n in (1, 2, 3)]
    assert {each.text for each in letter.post.failures} == {"the daemon cannot say how the process ended"}


def test_killed_between_posts(ward: Ward) -> None:
    """A kill, or a crash by a call, when no post is being handled counts for none."""
    agent = ward.start()
    post(ward.house, (1,))
    ward.await_got([1])
    agent.signal(signal.SIGKILL)
    ward.ended()
    post(ward.house, (2,))
    ward.start()
    ward.await_got([1, 2])
    assert letters(ward.house) == []


@pytest.mark.parametrize("how", ["raise", "kill", "exit 1", "cancel"])
def test_async_handlers(ward: Ward, how: str) -> None:
    """The same for `async def`: attempts are counted, and others go on."""
    ward.kind = "AsyncTaker"
    post(ward.house, (1,), (2, how), (3,))
    ward.run(3)
    ward.await_got([1, 3])
    (letter,) = letters(ward.house)
    assert len(letter.post.failures) == 3
    assert numbers(waiting(ward.house, "other")) == [1, 3]


def test_child_that_comes_back(ward: Ward) -> None:
    """A handler forks, and the child returns from it: the child fails, what the parent has done takes effect once."""
    agent = ward.start()
    post(ward.house, (1, "come back"), (2,))
    ward.await_got([1, 2])
    post(ward.house, (3,))  # the bell is still there
    ward.await_got([1, 2, 3])
    assert numbers(waiting(ward.house, "other")) == [1, 2, 3]
    assert letters(ward.house) == []
    assert agent.stop() == 0
    assert "has come back from it" in agent.printed()


def test_damaged_post(ward: Ward) -> None:
    """What cannot be read is put away, and those behind it are handled."""
    post(ward.house, (1,), (2,))
    with closing(Store.open(str(ward.house.run_dir))) as store:

        def damage(txn: Txn) -> None:
            with txn.cursor(db=store.messages) as cursor:
                cursor.set_range(WAITING)
                cursor.put(cursor.key(), b"\xc1 garbage")

        store.write(damage)
    ward.start()
    ward.await_got([2])
    (letter,) = letters(ward.house)
    assert letter.cause == "bad_request"
    assert "damaged" in letter.text
    assert "garbage" in letter.text


@pytest.mark.parametrize("how", ["raise", "refuse"])
def test_more_letters_than_are_kept(ward: Ward, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten, and that is told: an event says how many."""
    monkeypatch.setattr(deadletters, "MOST", 3)
    ward.kind = "OnceOnly"
    post(ward.house, *((number, how) for number in range(5)), (5,))
    ward.run(5 if how == "raise" else 0)
    ward.await_got([5])
    found = letters(ward.house)
    assert numbers([letter.post for letter in found]) == [2, 3, 4]
    assert ward.agent is not None
    ward.agent.stop()
    said = [fields.get("X_REGROW_TEXT", "") for agent in ward.house.agents for fields in agent.said]
    forgotten = [int(text.split()[0]) for text in said if "of the oldest dead letters forgotten: the last 3" in text]
    assert sum(forgotten) == 2


# when


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
