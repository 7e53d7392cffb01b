"""Posts that end whoever handles them: each becomes a dead letter with its evidence, and the others are handled."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from agents import House
from storehouse import make_store
from wards import Ward, letters, numbers, post, waiting

from regrow.ipc import deadletters, explain
from regrow.ipc.client import Client
from regrow.ipc.deadletters import Cause
from regrow.ipc.explain import FORGIVEN
from regrow.ipc.posts import WAITING
from regrow.ipc.store import Store, Txn
from regrow.workers import box_pace


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


@pytest.mark.parametrize("kind", ["Taker", "AsyncTaker"])
@pytest.mark.parametrize("how", ["come back", "come back raising", "come back exiting"])
def test_child_that_comes_back(ward: Ward, kind: str, how: str) -> None:
    """A handler forks, and the child leaves it: the child fails, what the parent has done takes effect once."""
    ward.kind = kind
    agent = ward.start()
    post(ward.house, (1, how), (2,))
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
