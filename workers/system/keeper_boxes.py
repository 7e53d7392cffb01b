"""
What the keeper does about boxes: who has had posts is told so when he starts; ids are forgotten after a while, and the
pages of those who are gone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque

import lmdb

from regrow.ipc.errors import StoreError, Unreachable
from regrow.ipc.names import Names
from regrow.ipc.posting import MAIL
from regrow.ipc.posts import Box, boxes, forget_ids, oldest_id
from regrow.ipc.store import Store, Txn
from regrow.workers.begun import Begun, folder_beside
from regrow.workers.system.hub_timers import Timers

ID_DAYS = 7
"""How long a post's id is remembered, and another post with it is the same one."""

_DAY_S = 86_400.0
_AGAIN_S = 60.0
_AT_ONCE = 1_000
"""Ids forgotten in one transaction: others wait for it."""

_PAGES_AT_ONCE = 50


def leave_signs(store: Store, run_dir: str) -> None:
    """
    Let all who have ever had posts look for some when they begin: the table of names is a new one.

    Raises:
        Unreachable: there is no such table; StoreError.
    """
    names = Names(run_dir)
    try:
        for name in store.read(lambda txn: list(boxes(txn, store.messages))):
            if not names.has_flag(MAIL + name.encode()):
                names.set_flag(MAIL + name.encode())
    finally:
        names.close()


class Forgetting:
    """
    Once a day, and when the keeper begins, old ids and pages are forgotten: some at a time, others in between.

    A page is that of an agent which was handling a post (`begun`). It is of no use when nobody has had that name for a
    day and the post is done; names that are used once would leave one each for ever.
    """

    def __init__(self, store: Store, timers: Timers) -> None:
        self._store = store
        self._timers = timers
        self._pages: deque[str] | None = None
        timers.after(0.0, self._some)

    def _some(self) -> None:
        try:
            wait_s = 0.01 if self._ids() or self._some_pages() else _DAY_S
        except (StoreError, Unreachable):  # full, say: whoever waits for it is told by others
            wait_s = _AGAIN_S
        self._timers.after(wait_s, self._some)

    def _some_pages(self) -> bool:
        """Forget some; whether there are more."""
        if self._pages is None:
            self._pages = deque(old_pages(self._store, time.time() - _DAY_S))
        some = [self._pages.popleft() for _ in range(min(len(self._pages), _PAGES_AT_ONCE))]
        if some:
            forget_pages(self._store, some)
            return True
        self._pages = None
        return False

    def _ids(self) -> bool:
        store, before = self._store, time.time() - ID_DAYS * _DAY_S
        oldest = store.read(lambda txn: oldest_id(txn, store.messages))
        if oldest is None or oldest >= before:
            return False
        store.write(lambda txn: forget_ids(txn, store.messages, before, _AT_ONCE))
        return True


def old_pages(store: Store, before_s: float) -> list[str]:
    """The names whose pages were touched last before this time (seconds since the epoch)."""
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder_beside(store.path)) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < before_s:
                    found.append(entry.name)
    return found


def forget_pages(store: Store, owners: list[str]) -> None:
    """
    Remove the pages of those that are gone, and say nothing of a post that waits still.

    Under the writers' lock: an agent has announced itself before it opens its page, and has that lock before it handles
    a post: then it sees whether its page is gone.

    Raises:
        Unreachable: there is no table of names; StoreError.
    """
    names, folder = Names(store.run_dir), folder_beside(store.path)

    def is_needed(txn: Txn, name: str, path: str) -> bool:
        try:
            record = names.get(name)
        except lmdb.Error:  # the table's, and not for the store to mend
            return True
        if record is not None and record.is_alive():
            return True
        ordinal = Begun.said(path)
        return ordinal > 0 and Box(store.messages, name).get(txn, ordinal) is not None

    def forget(txn: Txn) -> None:
        for name in owners:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if not is_needed(txn, name, path):
                    os.unlink(path)

    try:
        store.look(forget)
    finally:
        names.close()
