"""
How large a store is, by what it says of itself: nothing is gone through.

Source: LMDB's mdb_stat, mdb_env_info.
"""

from __future__ import annotations

import os
from typing import Any

from msgspec import Struct

from regrow.ipc import meta_page
from regrow.ipc.levels import DATA
from regrow.ipc.store import DATABASES, Store, Txn


class Database(Struct, frozen=True):
    """What one database takes."""

    entries: int
    pages: int


class Size(Struct, frozen=True):
    """`free_pages` are those that hold nothing, and are used before the file grows."""

    file_bytes: int
    map_bytes: int
    page_bytes: int
    pages: int
    free_pages: int
    databases: dict[str, Database]

    def facts(self) -> dict[str, Any]:
        """As JSON has it; with the bytes of each database too."""
        made = {name: getattr(self, name) for name in self.__struct_fields__ if name != "databases"}
        databases = [
            {"name": name, "entries": each.entries, "pages": each.pages, "bytes": each.pages * self.page_bytes}
            for name, each in self.databases.items()
        ]
        return {**made, "databases": databases}


def size_of(store: Store) -> Size:
    """
    As it is now.

    Raises:
        StoreError, OSError.
    """
    fd = os.open(os.path.join(store.path, DATA), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return store.look(lambda txn: _size(txn, store, fd))  # nobody commits between the two looks
    finally:
        os.close(fd)


def _size(txn: Txn, store: Store, fd: int) -> Size:
    meta = meta_page.read(fd)
    found = {name: txn.stat(getattr(store, name)) for name in DATABASES}
    databases = {name: Database(stat["entries"], _pages(stat)) for name, stat in found.items()}
    of_trees = sum(root.branches + root.leaves + root.overflows for root in (meta.free, meta.main))
    pages = meta.last_page + 1
    used = 2 + of_trees + sum(each.pages for each in databases.values())
    return Size(
        file_bytes=os.fstat(fd).st_size,
        map_bytes=meta.map_bytes,
        page_bytes=meta.page_bytes,
        pages=pages,
        free_pages=max(pages - used, 0),
        databases=databases,
    )


def _pages(stat: dict[str, int]) -> int:
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
