"""Effects outside the store, each on record as soon as it is had."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from agents import House
from mockups import MockNode
from storehouse import make_store

from regrow.ipc import owners
from regrow.ipc.errors import BadState, RemoteError, StoreFull
from regrow.ipc.posting import Posting
from regrow.workers import once as once_module
from regrow.workers.once import once
from regrow.workers.unit import Owner, Unit

AGENTS = "careful_agents"


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0)
    return house


@pytest.fixture
def unit(kept: House) -> Iterator[Unit]:
    """That of a handler of `agent`, in this process."""
    posting = Posting(cast(Any, MockNode(str(kept.run_dir))))
    yield Unit(Owner("agent", "", posting, concurrent=False))
    posting.close()


class Effect:
    """Counts how often it is had."""

    def __init__(self, result: Any = 42) -> None:
        self.count = 0
        self.result = result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return [self.result, *args, *kwargs] if args or kwargs else self.result


def test_recorded_at_once(unit: Unit) -> None:
    """Whatever becomes of the handler: it is not had again, and the result is what it was; other keys are others."""
    effect = Effect()
    assert once(unit, "a", effect, 1, two=2) == [42, 1, "two"]
    unit.state["n"] = 1
    unit.roll_back()
    assert once(unit, "a", effect, 1, two=2) == [42, 1, "two"]
    assert effect.count == 1
    assert once(unit, "b", effect) == 42
    assert effect.count == 2
    assert dict(unit.state) == {}


@pytest.mark.parametrize("result", [None, False, 0, "", b"", [], {}])
def test_results_that_are_nothing(unit: Unit, result: Any) -> None:
    """They are on record as well."""
    effect = Effect(result)
    assert once(unit, "a", effect) == once(unit, "a", effect) == result
    assert effect.count == 1


@pytest.mark.parametrize("key", ["k" * 600, "\ud800", 1.5, None, (), object()])
def test_keys_that_are_none(unit: Unit, key: Any) -> None:
    """They are refused before anything is done."""
    effect = Effect()
    with pytest.raises(BadState):
        once(unit, key, effect)
    assert effect.count == 0


def test_result_that_cannot_be_kept(unit: Unit) -> None:
    """It is said; nothing is on record."""
    effect = Effect(object())
    for count in (1, 2):
        with pytest.raises(BadState, match="object"):
            once(unit, "a", effect)
        assert effect.count == count


def test_exception(unit: Unit) -> None:
    """Is no result."""
    effect = Effect()

    def fail() -> None:
        effect()
        raise ZeroDivisionError

    for count in (1, 2):
        with pytest.raises(ZeroDivisionError):
            once(unit, "a", fail)
        assert effect.count == count
    assert once(unit, "a", effect) == 42


def test_no_room_for_the_record(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The effect was had, the store is full: whoever tries again in the same process has the result, not the effect."""
    effect = Effect()

    def full(_: Callable[..., Any]) -> None:
        raise StoreFull("here", "no room")

    with monkeypatch.context() as patch:
        patch.setattr(unit.posting, "commit", full)
        for _ in range(3):
            with pytest.raises(StoreFull):
                once(unit, "a", effect)
    assert once(unit, "a", effect) == 42
    assert effect.count == 1
    assert once(Unit(Owner("agent", "", unit.posting, concurrent=False)), "a", effect) == 42
    assert effect.count == 1


def test_more_results_than_are_kept(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten, in the order in which they were had; whose effect was had again is the newest."""
    told: list[str] = []
    monkeypatch.setattr(once_module, "MOST", 3)
    monkeypatch.setattr(once_module, "notify", told.append)
    effects = {key: Effect(key) for key in "abcde"}
    for key in "abcb":
        once(unit, key, effects[key])
    assert told == []
    for key in "dadcbe":
        assert once(unit, key, effects[key]) == key
    assert {key: effect.count for key, effect in effects.items()} == {"a": 2, "b": 2, "c": 1, "d": 1, "e": 1}
    rows = unit.posting.store.read(lambda txn: list(owners.rows(txn, unit.posting.store.state, "agent")))
    assert len(rows) == 6
    (text,) = told
    assert "X_REGROW_EVENT=store" in text
    assert "agent forgets the oldest results of once(): the last 3 are kept" in text


def test_an_effect_that_two_have_had(unit: Unit) -> None:
    """At once, in overlapping handlers: the last result stays, and is one."""
    first = Effect(1)

    def second() -> int:
        return cast(int, once(unit, "a", first)) + 1

    assert once(Unit(Owner("agent", "", unit.posting, concurrent=True)), "a", second) == 2
    assert once(unit, "a", first) == 2
    rows = unit.posting.store.read(lambda txn: list(owners.rows(txn, unit.posting.store.state, "agent")))
    assert len(rows) == 2


def test_agents(kept: House, tmp_path: Path) -> None:
    """A handler that fails later, a kill in the middle, and one of whose effect nothing is known."""
    file = tmp_path / "effects"
    agent = kept.start(f"{AGENTS}:Everywhere")
    with pytest.raises(RemoteError):
        kept.call("agent", "effect", "a", str(file), "refuse later")
    assert kept.call("agent", "effect", "a", str(file)) == 42
    assert file.read_text() == "x"
    with pytest.raises(RemoteError):
        kept.call("agent", "effect", "b", str(file), "refuse")
    assert file.read_text() == "xx"
    kept.submit("agent", "effect", "c", str(file), "kill")
    assert agent.wait() == -signal.SIGKILL
    kept.start(f"{AGENTS}:Everywhere")
    assert kept.call("agent", "effect", "a", str(file)) == 42
    assert kept.call("agent", "effect", "c", str(file)) == 42
    assert kept.call("agent", "effect", "c", str(file)) == 42
    assert file.read_text() == "xxxx"
