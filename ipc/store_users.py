"""
Who uses a store in this process: LMDB allows each file to be open once, so all here share one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from regrow.ipc.forks import from_first_use
from regrow.ipc.store_env import OpenStore
from regrow.ipc.store_place import StoreInfo, file_of, read_info

FORK_S = 2.0
"""How long a fork waits for other threads to be done with the store."""

S = TypeVar("S", bound=OpenStore)


class StoreUsers(Generic[S]):
    """The stores that are open in this process, made by `make`, and how many use each."""

    def __init__(self, make: Callable[[StoreInfo, str], S]) -> None:
        self._make = make
        self._open: list[tuple[S, int]] = []
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._held: dict[int, list[Any]] = {}
        self._heed_forks = from_first_use(
            before=self._hold, after_in_parent=self._let_go, after_in_child=self._forked
        )

    def _hold(self) -> None:
        """
        Before a fork: py-lmdb cannot close, in the child, what a thread of the parent is in the middle of.

        Whoever waits longer than this for the writers' lock has a child that cannot use the store.
        """
        locks = (self._lock, *(store.lock for store, _ in self._open))
        self._held[threading.get_ident()] = [lock for lock in locks if lock.acquire(timeout=FORK_S)]

    def _let_go(self) -> None:
        for lock in self._held.pop(threading.get_ident(), ()):
            lock.release()

    def _forked(self) -> None:
        self._held.clear()
        self._lock = threading.RLock()  # a thread that is not here may have held it

    def take(self, run_dir: str) -> S:
        """The one of that daemon; counts one user more. Raises StoreUnusable."""
        info, run_dir = read_info(run_dir), os.path.abspath(run_dir)
        self._heed_forks()
        with self._lock:
            if self._pid != os.getpid():
                self._leave_to_parent()
            file = file_of(info.path)
            for place, (store, users) in enumerate(self._open):
                if store.file == file or store.run_dir == run_dir:
                    if store.file != file:
                        store.follow()
                    self._open[place] = store, users + 1
                    return store
            store = self._make(info, run_dir)
            self._open.append((store, 1))
            return store

    def give_back(self, store: S) -> None:
        """One user less; the last one closes it."""
        with self._lock:
            for place, (known, users) in enumerate(self._open):
                if known is store and self._pid == os.getpid():
                    self._open[place] = store, users - 1
                    if users == 1:
                        del self._open[place]
                        store.shut()
                    return

    def _leave_to_parent(self) -> None:
        """What a forked process finds open was opened by its parent, and must not be used."""
        for store, _ in self._open:
            store.leave_to_parent()
        self._open.clear()
        self._pid = os.getpid()
