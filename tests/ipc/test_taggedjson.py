"""Keys and values as JSON: whatever the store can hold comes back without a difference."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.ipc import statekeys
from regrow.ipc.taggedjson import BadJson, key_from_json, key_to_json, value_from_json, value_to_json

UTC = datetime.UTC
texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(1 << 63), (1 << 64) - 1)
floats = st.floats().map(lambda value: math.nan if math.isnan(value) else value)  # of them JSON has one
simple = st.none() | st.booleans() | numbers | floats | texts | st.binary()
moments = st.datetimes(timezones=st.just(UTC))
extensions = st.builds(msgspec.msgpack.Ext, st.integers(0, 127), st.binary())
values = st.recursive(
    simple | moments | extensions,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(texts | numbers | st.binary() | st.sampled_from(["$bytes", "$"]), inner, max_size=4),
    max_leaves=12,
)
elements = texts | numbers | st.binary()
keys = elements | st.lists(elements, min_size=2, max_size=4).map(tuple)


def there_and_back(made: Any) -> Any:
    """As a file holds it."""
    return json.loads(json.dumps(made))


@given(values)
def test_values_come_back(value: Any) -> None:
    """Byte for byte."""
    encoded = msgspec.msgpack.encode(value)
    assert value_from_json(there_and_back(value_to_json(encoded))) == encoded


@given(st.binary())
def test_any_bytes_come_back(encoded: bytes) -> None:
    """Also what is no msgpack, or not written as regrow does."""
    assert value_from_json(there_and_back(value_to_json(encoded))) == encoded
    assert key_from_json(there_and_back(key_to_json(encoded))) == encoded


@given(keys)
def test_keys_come_back(key: Any) -> None:
    """Byte for byte."""
    try:
        row = statekeys.encode(key)
    except ValueError:  # too long
        return
    assert key_from_json(there_and_back(key_to_json(row))) == row


def test_what_it_looks_like() -> None:
    """What JSON has is as it is; the rest is tagged."""
    value = {"n": 1, "list": [1.5, None, True], "b": b"\0\1", "at": datetime.datetime(2026, 1, 2, tzinfo=UTC)}
    found = value_to_json(msgspec.msgpack.encode(value))
    at = {"$time": "2026-01-02T00:00:00+00:00"}
    assert found == {"n": 1, "list": [1.5, None, True], "b": {"$bytes": "AAE="}, "at": at}
    assert value_to_json(msgspec.msgpack.encode({1: "a"})) == {"$map": [[1, "a"]]}
    assert value_to_json(msgspec.msgpack.encode(float("inf"))) == {"$float": "inf"}
    assert key_to_json(statekeys.encode(("a", 1, b"x"))) == ["a", 1, {"$bytes": "eA=="}]
    assert key_to_json(statekeys.reserved("version")) == {"$row": "AXZlcnNpb24="}
    assert value_to_json(b"\xcc\x01") == {"$msgpack": "zAE="}


@pytest.mark.parametrize(
    "wrong",
    [{"$nothing": 1}, {"$bytes": 1}, {"$bytes": "?"}, {"$time": "x"}, {"$float": "1"}, {"$map": [1]}, {"$ext": [1]},
     {"$bytes": "", "more": 1}, [{"$ext": [999, ""]}], {"$msgpack": 1}, 1 << 64],
)  # fmt: skip
def test_what_stands_for_nothing_is_refused(wrong: Any) -> None:
    """In words."""
    with pytest.raises(BadJson):
        value_from_json(wrong)


@pytest.mark.parametrize("wrong", [None, True, 1.5, {}, [], ["a"], ["a", None], {"$row": 1}])
def test_what_is_no_key_is_refused(wrong: Any) -> None:
    """In words."""
    with pytest.raises(BadJson):
        key_from_json(wrong)
