"""The account of what a member of a group has taken."""

from __future__ import annotations

import pytest

from regrow.ipc import account
from regrow.ipc.account import Account


def nobody(_: bytes) -> bool:
    """All connections are over."""
    return False


def everybody(_: bytes) -> bool:
    """None is."""
    return True


def test_the_newest_of_each_connection() -> None:
    """It is told once, at the end."""
    made = Account()
    for id, routing in enumerate((b"a", b"b", b"a")):
        made.note(routing, id, nobody)
    assert (made.close(), made.taken, made.is_whole) == ({b"a": 2, b"b": 1}, {}, True)


def test_more_connections_than_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are over make room for others; where none is, it is not known what was taken."""
    monkeypatch.setattr(account, "MAX_NOTED", 2)
    made = Account()
    made.note(b"there", 1, everybody)
    made.note(b"over", 2, everybody)
    made.note(b"new", 3, lambda routing: routing != b"over")
    assert (made.taken, made.is_whole) == ({b"there": 1, b"new": 3}, True)
    made.note(b"newer", 4, everybody)
    assert (len(made.taken), made.taken[b"newer"], made.is_whole) == (2, 4, False)


def test_no_more_than_some_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, one more does not take longer."""
    monkeypatch.setattr(account, "MAX_NOTED", 100)
    made = Account()
    for number in range(100):
        made.note(b"%d" % number, number, everybody)
    asked: list[bytes] = []

    def is_there(routing: bytes) -> bool:
        asked.append(routing)
        return True

    made.note(b"new", 100, is_there)
    assert asked == [b"%d" % number for number in range(account.LOOKS)]
    assert len(made.taken) == 100
