"""
What the keeper does about boxes: who has had posts is told so when he starts, and ids are forgotten after a while.
"""

from __future__ import annotations

import time

from regrow.ipc.errors import StoreError
from regrow.ipc.names import Names
from regrow.ipc.posting import MAIL
from regrow.ipc.posts import boxes, forget_ids, oldest_id
from regrow.ipc.store import Store
from regrow.workers.system.hub_timers import Timers

ID_DAYS = 7
"""How long a post's id is remembered, and another post with it is the same one."""

_DAY_S = 86_400.0
_AGAIN_S = 60.0
_AT_ONCE = 1_000
"""Ids forgotten in one transaction: others wait for it."""


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
    """Once a day, and when the keeper begins, old ids are forgotten: some at a time, others in between."""

    def __init__(self, store: Store, timers: Timers) -> None:
        self._store = store
        self._timers = timers
        timers.after(0.0, self._some)

    def _some(self) -> None:
        try:
            wait_s = 0.01 if self._forgotten() else _DAY_S
        except StoreError:  # full, say: whoever waits for it is told by others
            wait_s = _AGAIN_S
        self._timers.after(wait_s, self._some)

    def _forgotten(self) -> bool:
        store, before = self._store, time.time() - ID_DAYS * _DAY_S
        oldest = store.read(lambda txn: oldest_id(txn, store.messages))
        if oldest is None or oldest >= before:
            return False
        store.write(lambda txn: forget_ids(txn, store.messages, before, _AT_ONCE))
        return True
