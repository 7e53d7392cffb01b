"""
The levels of the store's format, and how a store of an older one becomes one of the next.

Each step is one transaction that also writes down the new level: a store is at one level, whoever is killed when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from regrow.ipc.levels import FORMAT, put_meta
from regrow.ipc.store import Store, Txn

Migration: TypeAlias = Callable[[Store, Txn], None]

MIGRATIONS: Sequence[Migration] = ()
"""The first brings level 1 to level 2, and so on: as many as there are levels above the first."""


def migrate(store: Store, level: int, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """
    Bring the store to the newest level, step by step. Returns that level.

    Raises:
        StoreError: it is at the level that the last step which was done has left.
    """
    for number, change in enumerate(migrations[level - 1 :], level + 1):
        store.write(_step(store, change, number))
    return max(level, len(migrations) + 1)


def _step(store: Store, change: Migration, number: int) -> Callable[[Txn], None]:
    def step(txn: Txn) -> None:
        change(store, txn)
        put_meta(txn, store.meta, "format", number)

    return step


assert len(MIGRATIONS) + 1 == FORMAT
