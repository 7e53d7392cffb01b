"""Which replica a key belongs to."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.ipc.groups import by_key, least_outstanding, partition, round_robin

keys = st.integers() | st.text() | st.binary() | st.floats(allow_nan=False) | st.lists(st.integers(0, 9)).map(tuple)


@pytest.mark.parametrize(
    ("key", "partitions", "expected"),
    [
        (0, 4, 0),
        (7, 4, 3),
        (-7, 4, 3),
        (1 << 80, 7, (1 << 80) % 7),
        (True, 2, 1),
        ("", 16, 9),
        ("EUR", 16, 12),
        (b"EUR", 16, 3),
        (1.5, 16, 15),
        (("a", 1), 16, 14),
        ({"b": 1, "a": 2}, 16, 3),
    ],
)
def test_partitions_stay_the_same(key: Any, partitions: int, expected: int) -> None:
    """These are fixed for ever: another release that moved a key would part it from what belongs to it."""
    assert partition(key, partitions) == expected


def test_order_of_a_map_does_not_matter() -> None:
    """Equal keys belong together."""
    assert partition({"a": 2, "b": 1}, 1 << 30) == partition({"b": 1, "a": 2}, 1 << 30)


@given(keys, st.integers(1, 1000))
def test_partition_is_one_of_them(key: Any, partitions: int) -> None:
    """Always the same, and always below the number of partitions."""
    assert 0 <= partition(key, partitions) < partitions
    assert partition(key, partitions) == partition(key, partitions)


@pytest.mark.parametrize("partitions", [2, 3, 8, 10])
def test_keys_spread_evenly(partitions: int) -> None:
    """Each has its share of 20,000 names, within five standard deviations."""
    counts = Counter(partition(f"customer-{number}", partitions) for number in range(20_000))
    share = 20_000 / partitions
    assert all(abs(counts[number] - share) < 5 * share**0.5 for number in range(partitions))


def test_key_that_cannot_be_encoded() -> None:
    """It is refused by its type, at once."""
    with pytest.raises(TypeError):
        partition(object(), 3)


def test_addresses_say_what_they_are() -> None:
    """In errors they stand for the name."""
    assert str(by_key("pricer", "EUR")) == "pricer by key 'EUR'"
    assert str(least_outstanding("pricer")) == str(round_robin("pricer")) == "pricer"
