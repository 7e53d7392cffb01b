"""Iterating over state that is being changed: what is laid over the store, in which order, and at what cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.ipc import transaction
from regrow.ipc.store import Store
from regrow.ipc.transaction import Transaction

KEYS = st.integers(0, 30).map(lambda number: b"%02d" % number)
PUTS = st.dictionaries(KEYS, st.sampled_from([None, b"new"]))
FIRST, END = b"05", b"25"


class Rows:
    """A store that is read in chunks, as `_chunk` does it."""

    state = None

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.rows = rows
        self.reads = 0

    def read(self, look: partial[Any]) -> list[tuple[bytes, bytes]]:
        self.reads += 1
        first, end, reverse = (look.keywords[name] for name in ("first", "end", "reverse"))
        keys = sorted((key for key in self.rows if first <= key < end), reverse=reverse)
        return [(key, self.rows[key]) for key in keys[: transaction.CHUNK]]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 4)


def scanned(of: Transaction, rows: Rows, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
    """What comes of the range, while it is iterated over."""
    return of.scan(cast(Store, rows), FIRST, END, reverse=reverse)


@given(
    rows=st.dictionaries(KEYS, st.just(b"old")),
    outer=PUTS,
    inner=PUTS,
    reverse=st.booleans(),
    changes=st.lists(st.sampled_from([None, b"again"]), max_size=40),
)
def test_all_that_is_there_comes_once_and_in_order(
    rows: dict[bytes, bytes],
    outer: dict[bytes, bytes | None],
    inner: dict[bytes, bytes | None],
    reverse: bool,
    changes: list[bytes | None],
) -> None:
    """The inner transaction lies over the outer, and that over the store; what has come may be changed meanwhile."""
    whole = Transaction()
    whole.puts.update(outer)
    part = Transaction(whole)
    part.puts.update(inner)
    merged = {**rows, **outer, **inner}
    expected = [
        (key, merged[key]) for key in sorted(merged, reverse=reverse) if FIRST <= key < END and merged[key] is not None
    ]
    found = []
    for key, value in scanned(part, Rows(rows), reverse=reverse):
        found.append((key, value))
        if changes:
            part.puts[key] = changes.pop()
    assert found == expected


@pytest.mark.parametrize("reverse", [False, True])
def test_changes_are_looked_through_once(monkeypatch: pytest.MonkeyPatch, reverse: bool) -> None:
    """To change each row in a loop takes each change in once, however many there are already."""
    taken_in: list[int] = []
    original: Callable[[Any, list[bytes]], None] = transaction._Changes._take_in

    def counted(changes: Any, new: list[bytes]) -> None:
        taken_in.append(len(new))
        original(changes, new)

    monkeypatch.setattr(transaction._Changes, "_take_in", counted)
    rows = Rows({b"1%04d" % number: b"old" for number in range(100)})
    work = Transaction()
    for key, _ in scanned(work, rows, reverse=reverse):
        work.puts[key] = None
    assert rows.reads > 20
    assert sum(taken_in) <= 100


def test_begun_anew_in_the_middle() -> None:
    """What was committed meanwhile lies over the rows no more."""
    work = Transaction()
    rows = Rows({b"1%d" % number: b"old" for number in range(9)})
    work.puts[b"18"] = None
    found = []
    for key, _ in scanned(work, rows, reverse=False):
        found.append(key)
        if key == b"10":
            work.clear()
    assert found == sorted(rows.rows)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_large_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reverse: bool, shared: bool) -> None:
    """No more of them are in memory at once than a megabyte and one; who asks for keys reads none."""
    monkeypatch.setattr(transaction, "CHUNK", 256)
    values = {b"%02d" % number: bytes([number]) * (600_000 if number % 2 else 10) for number in range(20)}
    with lmdb.open(str(tmp_path), map_size=1 << 26) as env:
        with env.begin(write=True) as txn:
            for key, value in values.items():
                txn.put(key, value)
        store = LargeRows(env)
        found = list(Transaction().scan(cast(Store, store), b"", b"99", reverse=reverse, shared=shared))
        assert found == sorted(values.items(), reverse=reverse)
        assert max(store.sizes) < transaction.CHUNK_BYTES + 600_000
        assert len(store.sizes) > 5
        del store.sizes[:]
        of = Transaction()
        of.puts[b"05"] = None
        keys = [key for key, _ in of.scan(cast(Store, store), b"", b"99", reverse=reverse, shared=shared, values=False)]
        assert keys == sorted(values.keys() - {b"05"}, reverse=reverse)
        assert shared or store.sizes == [0]
        assert of.seen == (values if shared else {})


class LargeRows:
    """A store, and how much it has given at a time."""

    state = None

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env
        self.sizes: list[int] = []

    def read(self, look: partial[list[tuple[bytes, bytes]]]) -> list[tuple[bytes, bytes]]:
        with self._env.begin() as txn:
            rows = look(txn)
        self.sizes.append(sum(len(value) for _, value in rows))
        return rows
