"""
The state of all agents and groups, each of which owns the keys behind its name.

Everything here works inside a transaction of whoever calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from regrow.ipc import statekeys
from regrow.ipc.store import Txn


class Owner(Struct, frozen=True):
    """How much an agent or a group keeps: `bytes` of keys and values together."""

    name: str
    keys: int
    bytes: int


def owners(txn: Txn, db: Any) -> Iterator[Owner]:
    """All that keep something, sorted by their names; looks at everything that is kept."""
    name, keys, size = b"", 0, 0
    with txn.cursor(db=db) as cursor:
        for key, value in cursor.iternext():
            of, _, row = key.partition(b"\0")
            if of != name:
                if name:
                    yield Owner(name.decode(errors="replace"), keys, size)
                name, keys, size = of, 0, 0
            keys += not statekeys.is_reserved(row)
            size += len(key) + len(value)
    if name:
        yield Owner(name.decode(errors="replace"), keys, size)


def rows(txn: Txn, db: Any, owner: str, first: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The rows of one, without its name: all of them, regrow's own too, or those with `first` <= row < `end`."""
    prefix = owner.encode() + b"\0"
    with txn.cursor(db=db) as cursor:
        if not cursor.set_range(prefix + first):
            return
        for key, value in cursor.iternext():
            if not key.startswith(prefix) or (end and key >= prefix + end):
                return
            yield key[len(prefix) :], value


def has_any(txn: Txn, db: Any, owner: str) -> bool:
    """Whether it keeps something."""
    return any(True for _ in rows(txn, db, owner))


def clear(txn: Txn, db: Any, owner: str) -> int:
    """Forget all that one keeps; how many rows there were."""
    prefix, count = owner.encode() + b"\0", 0
    with txn.cursor(db=db) as cursor:
        found = cursor.set_range(prefix)
        while found and cursor.key().startswith(prefix):
            found = cursor.delete()
            count += 1
    return count
