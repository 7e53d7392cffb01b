"""State as a mapping: what it takes, what it hands out, and what is written."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import math
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from endless import longer_than_any_form
from fake_rows import FakeRows, commit
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from regrow.ipc.errors import BadState
from regrow.ipc.statekeys import Key, encode
from regrow.workers import state_values
from regrow.workers.state import State

DAY = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


class Order(msgspec.Struct):
    sku: str
    lines: list[str] = []


@dataclass
class Point:
    x: float
    tags: set[str] = field(default_factory=set)


class Colour(enum.Enum):
    RED = "red"


@pytest.fixture
def rows() -> FakeRows:
    """An empty store."""
    return FakeRows()


@pytest.fixture
def state(rows: FakeRows) -> State[Any]:
    """A state of natural values."""
    return State(rows)


keys: st.SearchStrategy[Key] = st.sampled_from(["a", "b", "ab", 1, -2, b"a", ("a", 1), ("a", 2), ("a", "b", 1), "é"])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    max_leaves=4,
)


def in_order(model: dict[Key, Any]) -> list[Key]:
    """The keys as state orders them."""
    return sorted(model, key=encode)


class AgainstDict(RuleBasedStateMachine):
    """State does what a dict does, which is copied at each commit and taken back at each rollback."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = FakeRows()
        self.state: State[Any] = State(self.rows)
        self.model: dict[Key, Any] = {}
        self.committed: dict[Key, Any] = {}

    @rule(key=keys, value=values)
    def assign(self, key: Key, value: Any) -> None:
        self.state[key] = value
        self.model[key] = copy.deepcopy(value)

    @rule(key=keys, value=values)
    def assign_and_change(self, key: Key, value: Any) -> None:
        kept = [value]
        self.state[key] = kept
        kept.append("later")
        self.model[key] = copy.deepcopy(kept)

    @rule(key=keys)
    def delete(self, key: Key) -> None:
        if key in self.model:
            del self.state[key], self.model[key]
        else:
            with pytest.raises(KeyError):
                del self.state[key]

    @rule(key=keys, value=values)
    def pop(self, key: Key, value: Any) -> None:
        assert self.state.pop(key, value) == self.model.pop(key, value)

    @rule(key=keys)
    def change_in_place(self, key: Key) -> None:
        for value in (self.state.get(key), self.model.get(key)):
            if isinstance(value, list):
                value.append(1)
            elif isinstance(value, dict):
                value.setdefault("deep", []).append(2)

    @rule(key=keys)
    def setdefault(self, key: Key) -> None:
        for value in (self.state.setdefault(key, []), self.model.setdefault(key, [])):
            if isinstance(value, list):
                value.append(3)

    @rule()
    def change_all_in_a_loop(self) -> None:
        for mapping in (self.state, self.model):
            for value in mapping.values():
                if isinstance(value, list):
                    value.append(4)

    @rule(n=st.integers(-3, 3))
    def add(self, n: int) -> None:
        if type(self.model.get("n", 0)) is int:
            self.model["n"] = self.model.get("n", 0) + n
            assert self.state.add("n", n) == self.model["n"]

    @rule(key=st.sampled_from([1, 2, ("b", 1)]), value=values)
    def assign_in_a_space(self, key: Any, value: Any) -> None:
        self.state.space("a")[key] = value
        self.model["a", *(key if isinstance(key, tuple) else (key,))] = copy.deepcopy(value)

    @rule()
    def clear_a_space(self) -> None:
        self.state.space("a").clear()
        self.model = {
            key: value for key, value in self.model.items() if not (isinstance(key, tuple) and key[0] == "a")
        }  # fmt: skip

    @precondition(lambda self: len(self.model) > 6)
    @rule()
    def clear(self) -> None:
        self.state.clear()
        self.model.clear()

    @rule()
    def commit(self) -> None:
        commit(self.state, self.rows)
        self.committed = copy.deepcopy(self.model)

    @rule()
    def settle_and_go_on(self) -> None:
        self.state.settle()

    @rule()
    def roll_back(self) -> None:
        self.rows.roll_back()
        self.state.forget()
        self.model = copy.deepcopy(self.committed)

    @rule()
    def read_only(self) -> None:
        commit(self.state, self.rows)
        self.committed = copy.deepcopy(self.model)
        assert list(self.state.values()) == [self.model[key] for key in in_order(self.model)]
        assert commit(self.state, self.rows) == {}

    @rule(first=keys, last=keys, reverse=st.booleans())
    def look_at_a_range(self, first: Key, last: Key, reverse: bool) -> None:
        found = list(self.state.keys(first=first, last=last, reverse=reverse))
        wanted = [key for key in in_order(self.model) if encode(first) <= encode(key) <= encode(last)]
        assert found == (wanted[::-1] if reverse else wanted)

    @invariant()
    def same(self) -> None:
        wanted = in_order(self.model)
        assert list(self.state) == wanted
        assert len(self.state) == len(wanted)
        assert list(reversed(self.state)) == wanted[::-1]
        assert bool(self.state) == bool(wanted)

    @rule(key=keys)
    def look(self, key: Key) -> None:
        assert (key in self.state) == (key in self.model)
        assert self.state.get(key, "none") == self.model.get(key, "none")

    @rule()
    def look_at_all(self) -> None:
        assert dict(self.state.items()) == self.model
        assert self.state == self.model


TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = settings(max_examples=80, stateful_step_count=40)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, (1 << 64) - 1, 1.0, "text", b"\0", [1, [2]], {"a": {1: [None]}}, DAY, [DAY], {(1, 2): 3}, [math.inf]],
)
def test_natural_values_come_back(state: State[Any], rows: FakeRows, value: Any) -> None:
    """Without a type, a value comes back as what it is."""
    state["x"] = value
    commit(state, rows)
    assert state["x"] == value
    assert type(state["x"]) is type(value)


def test_nan_is_no_other_value(state: State[Any], rows: FakeRows) -> None:
    """A NaN equals nothing, not even itself, and is taken nevertheless."""
    state["x"] = {"a": [math.nan, 1]}
    commit(state, rows)
    assert math.isnan(state["x"]["a"][0])


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ({"a": [1, object()]}, "$.a[1]", "of type object is unsupported"),
        ([1 << 64], "$[0]", "can't serialize ints"),
        ("\ud800", "$", "surrogates"),
        ({1, 2}, "$", "a set would come back as a list"),
        ({"a": [(1, 2)]}, "$['a'][0]", "a tuple would come back as a list"),
        ([{1}, {2}], "$[0]", "a set would come back as a list; say the type, as in space(…, of=list[set[…]])"),
        ({"a": {1}}, "$['a']", "say the type, as in space(…, of=dict[…, set[…]])"),
        (Order("x"), "$", "a Order would come back as a dict; say the type, as in space(…, of=Order)"),
        (bytearray(b"x"), "$", "a bytearray would come back as a bytes; say the type, as in space(…, of=bytearray)"),
        (DAY.replace(tzinfo=None), "$", "a datetime would come back as a str"),
        (decimal.Decimal("1.5"), "$", "a Decimal would come back as a str"),
        ({Colour.RED: 1}, "$, a key", "a Colour would come back as a str"),
    ],
)
def test_what_cannot_come_back_is_refused_at_once(
    state: State[Any], rows: FakeRows, value: Any, path: str, said: str
) -> None:
    """The error names key, place and remedy; nothing was put."""
    with pytest.raises(BadState) as caught:
        state["a", 1] = value
    assert caught.value.key == ("a", 1)
    assert caught.value.path == path
    assert said in str(caught.value)
    assert rows.puts == {}


def test_a_value_that_is_too_long(state: State[Any], rows: FakeRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether msgpack cannot say it, or the store cannot hold it: an error that names the key, and nothing was put."""
    with pytest.raises(BadState, match=r"state\['a'\]: Can't encode bytes-like objects longer than 2\*\*32 - 1"):
        state["a"] = longer_than_any_form()
    monkeypatch.setattr(state_values, "MAX_VALUE_BYTES", 100)
    state["b"] = bytes(98)
    with pytest.raises(BadState, match=r"state\['c'\]: a value has at most 100 bytes in the store, this one"):
        state["c"] = bytes(99)
    assert len(rows.puts) == 1


def test_a_value_within_itself(state: State[Any]) -> None:
    """What has no end is refused like anything that cannot be encoded."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(BadState, match="within itself"):
        state["x"] = value


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (Order, Order("a", ["b"])),
        (Point, Point(1.5, {"x"})),
        (Order | None, None),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (bytearray, bytearray(b"x")),
        (decimal.Decimal, decimal.Decimal("1.50")),
        (Colour, Colour.RED),
        (datetime.datetime, DAY.replace(tzinfo=None)),
        (dict[str, Point], {"a": Point(1.0)}),
    ],
)
def test_typed_values_come_back(rows: FakeRows, of: Any, value: Any) -> None:
    """With a type, a value comes back as that."""
    state: State[Any] = State(rows, of)
    state["x"] = value
    commit(state, rows)
    assert state["x"] == value
    assert type(state["x"]) is type(value)


def test_a_value_of_another_type_is_refused_at_once(rows: FakeRows) -> None:
    """A typed state does not take what it could not read."""
    state: State[Any] = State(rows, Order)
    with pytest.raises(BadState, match=r"state\['x'\] at \$.sku: expected str, got int; the type is Order"):
        state["x"] = {"sku": 1}
    with pytest.raises(BadState, match="a dict is not the Order that it would come back as"):
        state["x"] = {"sku": "a"}
    with pytest.raises(BadState, match="expected object, got int"):
        state["x"] = 5


def test_what_is_stored_does_not_fit(rows: FakeRows, state: State[Any]) -> None:
    """The error names the key, what is stored, and what was expected."""
    state["orders", 7] = {"sku": 5}
    with pytest.raises(BadState) as caught:
        state.space("orders", of=Order)[7]
    said = "state[('orders', 7)] at $.sku: expected str, got int; stored is {'sku': 5}; the type is Order"
    assert said in str(caught.value)
    rows.put(encode("x"), b"\xc1")
    with pytest.raises(BadState, match="no msgpack"):
        state["x"]


def test_a_type_that_nothing_can_be_turned_into(rows: FakeRows) -> None:
    """The state of such a type cannot be made."""
    with pytest.raises(TypeError, match="State"):
        State(rows, State)
    with pytest.raises(TypeError):
        State(rows, Order | Point)


# -- what is handed out ------------------------------------------------------------------------------


def test_changes_in_place_are_stored(state: State[Any], rows: FakeRows) -> None:
    """A list that was handed out is the state's until the commit, and the same one each time."""
    state["items"] = [1]
    commit(state, rows)
    state["items"].append(2)
    assert state["items"] is state["items"]
    assert state.space().get("items") == [1, 2]
    assert list(state.values()) == [[1, 2]]
    commit(state, rows)
    assert state["items"] == [1, 2]


def test_only_what_changed_is_written(state: State[Any], rows: FakeRows) -> None:
    """What was only looked at is not put again."""
    for number in range(10):
        state[number] = {"n": [number]}
    commit(state, rows)
    for number in range(10):
        state[number]["n"].append(0) if number == 3 else state[number]
    assert list(commit(state, rows)) == [encode(3)]


def test_a_rollback_takes_changes_in_place_back(state: State[Any], rows: FakeRows) -> None:
    """What was handed out before is nobody's."""
    state["items"] = [1]
    commit(state, rows)
    before = state["items"]
    before.append(2)
    state.settle()
    rows.roll_back()
    state.forget()
    assert state["items"] == [1]
    before.append(3)
    assert commit(state, rows) == {}


def test_what_was_replaced_is_not_the_states(state: State[Any], rows: FakeRows) -> None:
    """An object that was handed out, and then replaced or deleted, is not stored over it."""
    state["a"], state["b"] = [1], [1]
    commit(state, rows)
    a, b = state["a"], state["b"]
    state["a"] = [9]
    del state["b"]
    a.append(2)
    b.append(2)
    commit(state, rows)
    assert dict(state.items()) == {"a": [9]}


def test_what_cannot_be_stored_any_more(state: State[Any], rows: FakeRows) -> None:
    """Something wrong that gets into a value later is found before the commit; nothing is put."""
    state["a"], state["b"] = [1], {"x": []}
    commit(state, rows)
    state["a"].append(2)
    state["b"]["x"].append({1})
    with pytest.raises(BadState, match=r"state\['b'\] at \$\['x'\]\[0\]: a set would come back as a list"):
        state.settle()
    assert rows.puts == {}


def test_typed_objects_are_changed_in_place(state: State[Any], rows: FakeRows) -> None:
    """A Struct, a dataclass and a set within it are on loan as a list is."""
    orders, points = state.space("orders", of=Order), state.space("points", of=Point)
    orders[1], points[1] = Order("a"), Point(1.0, {"x", "y"})
    commit(state, rows)
    assert points[1] == Point(1.0, {"x", "y"})
    orders[1].lines.append("b")
    assert state.space("orders", of=Order)[1] is orders[1]
    assert list(commit(state, rows)) == [encode(("orders", 1))]
    points[1].tags.discard("x")
    commit(state, rows)
    assert (orders[1], points[1]) == (Order("a", ["b"]), Point(1.0, {"y"}))


def test_a_field_with_a_default_does_not_write_all(state: State[Any], rows: FakeRows) -> None:
    """A class that has got a field since is read, and not written for that alone."""
    state["orders", 1] = {"sku": "a"}
    commit(state, rows)
    orders = state.space("orders", of=Order)
    assert orders[1] == Order("a")
    assert commit(state, rows) == {}


def test_two_types_of_one_row(state: State[Any], rows: FakeRows) -> None:
    """What was changed as one type is seen as the other; changing both is refused."""
    orders = state.space("orders", of=Order)
    orders[1] = Order("a")
    typed = orders[1]
    typed.lines.append("b")
    natural = state["orders", 1]
    assert natural == {"sku": "a", "lines": ["b"]}
    typed.lines.append("c")
    commit(state, rows)
    assert orders[1].lines == ["b", "c"]
    typed, natural = orders[1], state["orders", 1]
    typed.sku, natural["sku"] = "x", "y"
    with pytest.raises(BadState, match="was read as two types, and both were changed"):
        state.settle()


# -- counters ------------------------------------------------------------------------------------------


def test_a_counter(state: State[Any], rows: FakeRows) -> None:
    """It begins at 0, takes floats, and is a value like others."""
    assert state.add("n") == 1
    assert state.add("n", 4) == 5
    assert state.add("n", -0.5) == 4.5
    commit(state, rows)
    assert state["n"] == 4.5


@pytest.mark.parametrize(("old", "n"), [("text", 1), (True, 1), ([1], 1), (1, True), (1, "2"), ((1 << 64) - 1, 1)])
def test_what_cannot_be_added(state: State[Any], old: Any, n: Any) -> None:
    """A counter that is none, and a sum that is too large, are errors that name the key; nothing changes."""
    state["x"] = old
    with pytest.raises(BadState, match=r"state\['x'\]"):
        state.add("x", n)
    assert state["x"] == old


def test_a_counter_of_a_type(rows: FakeRows) -> None:
    """What is added to a typed counter keeps its type."""
    state: State[int] = State(rows, int)
    with pytest.raises(BadState, match="expected int, got float"):
        state.add("x", 0.5)
    assert "x" not in state
