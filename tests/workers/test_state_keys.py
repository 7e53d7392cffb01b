"""State with many keys: iterations, ranges, prefixes, and parts of it."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from fake_rows import FakeRows, commit

from regrow.ipc.errors import BadState
from regrow.ipc.statekeys import Key
from regrow.workers.state import State

DAY = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


class Order(msgspec.Struct):
    sku: str
    lines: list[str] = []


@pytest.fixture
def rows() -> FakeRows:
    """An empty store."""
    return FakeRows()


@pytest.fixture
def state(rows: FakeRows) -> State[Any]:
    """A state of natural values."""
    return State(rows)


def on_loan(state: State[Any]) -> int:
    """How many objects are held."""
    return len(state._loans.held)


def test_all_of_a_large_state_is_changed_in_a_loop(state: State[Any], rows: FakeRows) -> None:
    """Each value is stored, and few of them are held at once, however many there are."""
    for number in range(1000):
        state[number] = {"n": [number], "when": DAY}
    commit(state, rows)
    most = 0
    for key, value in state.items():
        value["n"].append(key)
        most = max(most, on_loan(state))
    assert most <= 4
    commit(state, rows)
    assert all(value["n"] == [number, number] for number, value in state.items())
    assert commit(state, rows) == {}


def test_what_the_caller_keeps_of_an_iteration_stays_on_loan(state: State[Any], rows: FakeRows) -> None:
    """All of a value or a part deep inside it may be kept, and be changed later."""
    for number in range(20):
        state[number] = {"deep": [[number]]}
    commit(state, rows)
    kept = [value["deep"][0] for value in state.values() if value["deep"][0][0] % 5 == 0]
    whole = [value for value in state.values() if value["deep"][0][0] % 5 == 1]
    assert on_loan(state) < 12
    kept[2].append("part")
    whole[2]["whole"] = True
    commit(state, rows)
    assert state[10] == {"deep": [[10, "part"]]}
    assert state[11] == {"deep": [[11]], "whole": True}


def test_a_state_changes_while_it_is_iterated(state: State[Any], rows: FakeRows) -> None:
    """What was deleted does not come up, nor come back, and what was assigned comes up as it is."""
    for number in range(6):
        state[number] = [number]
    commit(state, rows)
    seen = []
    for key, value in state.items():
        if key == 0:
            del state[1]
            state[2], state[3] = "new", ["new"]
            state[4].append("in place")
            commit(state, rows)
        value.append("seen") if isinstance(value, list) else None
        seen.append((key, value))
    assert seen == [(0, [0, "seen"]), (2, "new"), (3, ["new", "seen"]), (4, [4, "in place", "seen"]), (5, [5, "seen"])]
    commit(state, rows)
    assert dict(state.items()) == {0: [0], **dict(seen[1:])}
    for key in state:
        state.clear()
        assert key == 0
    assert not state


def test_an_iteration_reads_no_further_than_it_is_asked(state: State[Any], rows: FakeRows) -> None:
    """The first of many keys costs one row."""
    state.update({number: number for number in range(1000)})
    rows.reads = 0
    assert next(iter(state.items(first=500))) == (500, 500)
    assert state
    assert rows.reads == 2


def test_prefixes_and_ranges(state: State[Any]) -> None:
    """A tuple prefix has what is below it; a text prefix what begins with it; first and last belong to a range."""
    everything: list[Key] = [b"x", 5, "or", "order", ("order", 1), ("order", 2), ("order", 2, "a"), "orders", "p"]
    state.update({key: number for number, key in enumerate(everything)})
    assert list(state) == everything
    assert list(state.keys(prefix=("order",))) == everything[4:7]
    assert list(state.keys(prefix=("order", 2))) == [("order", 2, "a")]
    assert list(state.keys(prefix="ord")) == everything[3:8]
    assert list(state.keys(prefix="ord", first="p")) == []
    assert list(state.keys(prefix=("order",), last=("order", 1))) == [("order", 1)]
    assert list(state.keys(first=5, last="order")) == [5, "or", "order"]
    assert list(state.values(first="orders", reverse=True)) == [8, 7]
    assert list(reversed(state.items(prefix="or", last="or"))) == [("or", 2)]
    assert len(state.items(prefix=("order",))) == 3
    assert "order" in state.keys(prefix="ord")
    assert "p" not in state.keys(prefix="ord")
    assert ("order", 3) in state.items()
    assert 8 in state.values(first="p")
    assert 7 not in state.values(first="p")
    assert state.keys(prefix="order") & {"order", "p"} == {"order"}


def test_a_space_is_a_part_with_keys_of_its_own(state: State[Any]) -> None:
    """What is in a space is below its names, and the names alone are not in it."""
    orders = state.space("orders", of=Order)
    state["orders"] = "about them"
    orders[7] = Order("a")
    orders["eu", 8] = Order("b")
    state.space("orders", of=Order).space("eu")[9] = Order("c")
    assert list(orders) == [7, ("eu", 8), ("eu", 9)]
    assert list(state) == ["orders", ("orders", 7), ("orders", "eu", 8), ("orders", "eu", 9)]
    assert orders.space("eu")[8] is orders["eu", 8]
    assert list(orders.keys(prefix="e")) == [("eu", 8), ("eu", 9)]
    assert orders.space("eu").pop(8) == Order("b")
    orders.clear()
    assert dict(state.items()) == {"orders": "about them"}
    with pytest.raises(KeyError):
        orders[7]


def test_a_space_inherits_its_type(rows: FakeRows) -> None:
    """A part of a typed state holds values of that type unless it says another."""
    state: State[int] = State(rows, int)
    state.space("a")["x"] = 5
    with pytest.raises(BadState, match="the type is int"):
        state.space("a")["x"] = "text"  # type: ignore[assignment]
    state.space("b", of=str)["x"] = "text"


def test_the_limit_of_a_key_is_that_of_all_of_it(rows: FakeRows) -> None:
    """In a space there is less left for a key."""
    state: State[Any] = State(rows, limit=20)
    state["x" * 18] = 1
    space = state.space("y" * 8)
    space["x" * 8] = 1
    with pytest.raises(BadState, match="at most 10 bytes"):
        space["x" * 9] = 1
    with pytest.raises(BadState, match="at most 19 bytes"):
        state.space("y" * 18)
