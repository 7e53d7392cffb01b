"""What is noted of mailboxes that have said their last word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow.ipc.names import Names
from regrow.ipc.partings import KEPT, KEPT_BYTES, MAX_TAKEN, PREFIX, Parting, note, taken

LARGE = 1 << 62


@pytest.fixture
def names(run_dir: Path) -> Iterator[Names]:
    """A table with nobody in it."""
    made = Names(str(run_dir))
    yield made
    made.close()


def test_noted(names: Names) -> None:
    """Each by itself, whatever place they share; and no name comes of it."""
    note(names, Parting("a.0.1.00000012", (3, LARGE)))
    note(names, Parting("b.0.7.0000ff12", ()))
    known = [taken(names, each) for each in ("a.0.1.00000012", "b.0.7.0000ff12", "a.0.2.00000012", "x")]
    assert (known, list(names)) == ([(3, LARGE), (), None, None], [])


def test_the_newest_are_kept(names: Names) -> None:
    """There is room for so many in each place, and there are 256 of these."""
    for number in range(1000):
        note(names, Parting(f"a.0.{number}.00000012", ()))
    kept = [number for number in range(1000) if taken(names, f"a.0.{number}.00000012") is not None]
    assert kept == list(range(1000 - KEPT, 1000))
    with names.env.begin() as txn:
        assert txn.stat()["entries"] == 1


@pytest.mark.parametrize(("senders", "kept"), [(1_000, 3), (MAX_TAKEN, 1)])
def test_long_notes(names: Names, senders: int, kept: int) -> None:
    """A place has only so many bytes, however many senders each mailbox had."""
    for number in range(KEPT):
        note(names, Parting(f"{'a' * 240}.{number}.00000012", tuple(range(LARGE, LARGE + senders))))
    assert [taken(names, f"{'a' * 240}.{n}.00000012") is not None for n in reversed(range(KEPT))].index(False) == kept
    assert len(names.look_up(PREFIX + b"12") or b"") <= KEPT_BYTES


@pytest.mark.parametrize("found", [b"", b"\xc1", b"\x91\xa1\xff", b"\x01"])
def test_what_cannot_be_read(names: Names, found: bytes) -> None:
    """It says nothing of anybody, and gives way to the next note."""
    names.change(PREFIX + b"12", lambda _: found)
    assert taken(names, "a.0.1.00000012") is None
    note(names, Parting("a.0.1.00000012", (1,)))
    assert taken(names, "a.0.1.00000012") == (1,)


def test_a_table_that_is_closed(names: Names) -> None:
    """Then it is not known."""
    names.env.close()
    assert taken(names, "a.0.1.00000012") is None
