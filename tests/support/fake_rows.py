"""The rows of one owner in two dicts: what is committed, and what the present transaction has put."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regrow.workers.state import State


class FakeRows:
    """Does what the rows of a transaction do; `reads` counts the rows that a scan has yielded."""

    def __init__(self) -> None:
        self.committed: dict[bytes, bytes] = {}
        self.puts: dict[bytes, bytes | None] = {}
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        return self.puts[key] if key in self.puts else self.committed.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        self.puts[key] = value

    def scan(
        self, first: bytes, end: bytes | None, *, reverse: bool = False, values: bool = True
    ) -> Iterator[tuple[bytes, bytes]]:
        """As they are when it begins: the rows of a transaction are read many at once, too."""
        both = {**self.committed, **self.puts}
        for key in sorted(both, reverse=reverse):
            if key >= first and (end is None or key < end) and (value := both[key]) is not None:
                self.reads += 1
                yield key, value if values else b""

    def commit(self) -> dict[bytes, bytes | None]:
        """Make it last; returns what was put."""
        puts, self.puts = self.puts, {}
        self.committed.update({key: value for key, value in puts.items() if value is not None})
        for key, value in puts.items():
            if value is None:
                self.committed.pop(key, None)
        return puts

    def roll_back(self) -> None:
        self.puts = {}


def commit(state: State[Any], rows: FakeRows) -> dict[bytes, bytes | None]:
    """Do what the end of a handler does; returns what was put."""
    state.settle()
    puts = rows.commit()
    state.forget()
    return puts
