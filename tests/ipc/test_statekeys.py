"""Keys of state as bytes: their order, their ranges, their limits."""

from __future__ import annotations

import contextlib
import enum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regrow.ipc.errors import BadState
from regrow.ipc.statekeys import (
    END,
    FIRST,
    Element,
    Key,
    decode,
    encode,
    encode_all,
    end_behind,
    is_reserved,
    limit_of,
    prefix_range,
    reserved,
)

ROOMY = 10_000

texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\0\1ab\u00ff\U0010ffff")))
blobs = st.one_of(st.binary(), st.text("\0\1\xff", max_size=4).map(lambda text: text.encode("latin-1")))
ints = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-300, 300))
elements: st.SearchStrategy[Element] = st.one_of(texts, ints, blobs)
tuples: st.SearchStrategy[tuple[Element, ...]] = st.lists(elements, min_size=2, max_size=4).map(tuple)
keys: st.SearchStrategy[Key] = st.one_of(elements, tuples)


def ordinal(key: Key) -> list[Any]:
    """What Python would order keys by, if it could compare elements of different types."""
    rank = {bytes: 0, int: 1, str: 2}
    return [(rank[type(each)], each) for each in (key if isinstance(key, tuple) else (key,))]


@given(keys)
@example("\0")
@example("\1\0\0\1\1\2")
@example(-(1 << 63))
@example((1 << 64) - 1)
@example(("a\0", b"\0\xff"))
def test_a_key_comes_back(key: Key) -> None:
    """What is decoded is what was encoded, of the same type."""
    back = decode(encode(key, ROOMY))
    assert back == key
    assert type(back) is type(key)


@given(keys, keys)
@example("a", "a\0")
@example(("a", 1), "a\0")
@example((-256, 1), -256)
@example(255, 256)
@example(-255, -256)
@example(b"\0", (b"", b""))
def test_keys_are_ordered_as_tuples(one: Key, other: Key) -> None:
    """The bytes are in the order of the keys, and different keys have different bytes."""
    first, second = encode(one, ROOMY), encode(other, ROOMY)
    assert (first < second) == (ordinal(one) < ordinal(other))
    assert (first == second) == (one == other)


@given(elements, elements)
@example("a", "a\0")
@example("a\0", "a\1")
@example(b"\0\1\1\0", b"\0\1")
def test_no_element_begins_as_another_ends(one: Element, other: Element) -> None:
    """No element's encoding is the beginning of another's: below a tuple there is nothing else."""
    if one != other:
        assert not encode(one, ROOMY).startswith(encode(other, ROOMY))


@given(st.lists(elements, max_size=3).map(tuple), keys)
def test_a_tuple_prefix_has_the_keys_below_it(prefix: tuple[Element, ...], key: Key) -> None:
    """Its range holds the longer keys that begin with its elements, and no other."""
    first, end = prefix_range(prefix, ROOMY)
    whole = key if isinstance(key, tuple) else (key,)
    for each in (whole, prefix + whole):
        is_below = len(each) > len(prefix) and each[: len(prefix)] == prefix
        assert (first <= encode_all(each, ROOMY) < end) == is_below


@given(st.one_of(texts, blobs), keys, st.one_of(texts, blobs))
@example("a\0", "a\0b", "")
@example("a", "a\0", "")
@example("a\0", ("a", b"\xff"), "")
def test_a_text_prefix_has_what_begins_with_it(prefix: str | bytes, key: Key, rest: str | bytes) -> None:
    """Its range holds the keys whose first element begins with it, alone or in a tuple."""
    first, end = prefix_range(prefix, ROOMY)
    longer = prefix + rest if isinstance(prefix, str) and isinstance(rest, str) else prefix  # of one type
    for each in (key, longer, (longer, 7)):
        begin = each[0] if isinstance(each, tuple) else each
        matches = type(begin) is type(prefix) and begin[: len(prefix)] == prefix
        assert (first <= encode(each, ROOMY) < end) == matches


@given(keys, keys, st.booleans())
def test_the_last_key_of_a_range(last: Key, key: Key, is_full: bool) -> None:
    """A range's end lets its last key in, and no later one, even where no key may be longer than that."""
    limit = len(encode(last, ROOMY)) if is_full else ROOMY
    try:
        encoded = encode(key, limit)
    except BadState:
        return
    assert (encoded < end_behind(last, limit)) == (ordinal(key) <= ordinal(last))


@given(keys)
def test_all_keys_are_where_regrows_own_rows_are_not(key: Key) -> None:
    """A reserved row is before all keys."""
    assert FIRST <= encode(key, ROOMY) < END
    assert is_reserved(reserved("version"))
    assert not is_reserved(encode(key, ROOMY))


@given(st.binary())
def test_other_bytes_are_no_key(garbage: bytes) -> None:
    """Whatever stands in the store is decoded to a key, or said to be none."""
    with contextlib.suppress(BadState):
        assert isinstance(decode(garbage), str | int | bytes | tuple)


class Colour(enum.StrEnum):
    RED = "red"


def test_a_str_enum_is_its_text() -> None:
    """A member of a StrEnum equals its text, and is the same key."""
    assert encode(Colour.RED) == encode("red")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (True, "not a bool"),
        (1.5, "not a float"),
        (None, "not a NoneType"),
        (("a", 1.5), "not a float in a tuple"),
        (("a", ("b", "c")), "not a tuple in a tuple"),
        (("a",), "a tuple of one"),
        ((), "empty tuple"),
        (["a"], "not a list"),
        (1 << 64, "an int in a key is from -9223372036854775808 to 18446744073709551615"),
        (-(1 << 63) - 1, "an int in a key"),
        ("\ud800", "not Unicode"),
    ],
)
def test_what_is_no_key_is_refused(key: Any, said: str) -> None:
    """The error names the key and what is wrong with it."""
    with pytest.raises(BadState) as caught:
        encode(key)
    assert said in str(caught.value)
    assert caught.value.key == key


def test_a_key_that_is_too_long() -> None:
    """The limit is named, and the key is shown without all of its length."""
    limit = limit_of("agent")
    assert limit == 505
    assert len(encode("x" * (limit - 2), limit)) == limit
    with pytest.raises(BadState, match=r"at most 505 bytes in the store, this one would have 600") as caught:
        encode("x" * 598, limit)
    assert len(str(caught.value)) < 400
    with pytest.raises(BadState, match="at most 505"):
        prefix_range("x" * 600, limit)
    with pytest.raises(BadState, match="at most 504"):
        prefix_range(("x" * 503,), limit)


@pytest.mark.parametrize("prefix", [5, 1.5, None, ["a"]])
def test_what_is_no_prefix_is_refused(prefix: Any) -> None:
    """A prefix is a text or a tuple."""
    with pytest.raises(BadState, match="a prefix is a str, bytes or a tuple"):
        prefix_range(prefix)
