"""
The store: one LMDB environment, shared by all processes of a daemon, in which what is to outlive them is kept.

A transaction is one LMDB transaction: whole or not at all, whoever is killed when. What a commit survives besides is
said by the daemon's `durability`; the keeper prepares the store and looks after it (`regrow.keeper`).

Source: architecture section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

from regrow.ipc.errors import StoreError, StoreFull, StoreUnusable
from regrow.ipc.points import Point, hit
from regrow.ipc.store_env import OpenStore, Replaced
from regrow.ipc.store_place import (
    DATABASES,
    FOLDER,
    INFO,
    KEEPER_BELL,
    MAP_BYTES,
    MAX_READERS,
    SIGNS,
    SIGNS_BYTES,
    StoreInfo,
    read_info,
)
from regrow.ipc.store_users import StoreUsers


class _Seen(Exception):
    """What was to be seen; nothing is to be committed."""


T = TypeVar("T")
Txn: TypeAlias = Any
"""An open `lmdb.Transaction`."""

_BEFORE_COMMIT = Point.BEFORE_COMMIT
_INSIDE_COMMIT = Point.INSIDE_COMMIT
_AFTER_COMMIT = Point.AFTER_COMMIT

TRIES = 4
"""More than can go wrong with one read: closed, replaced, grown."""


class Store(OpenStore):
    """
    The store as this process has it open; `Store.open` gives everybody here the same one. Thread-safe.

    `state`, `messages` and `meta` are its databases, for `db=` of an LMDB transaction.

    Args:
        info: where the environment is, which exists, and its level.
        run_dir: of the daemon, whose keeper is told of commits; "" where none runs.
    Raises:
        StoreUnusable.
    """

    _writing = False

    @staticmethod
    def open(run_dir: str) -> Store:
        """
        The store of the daemon at `run_dir`; each `open` needs a `close`.

        Raises:
            StoreUnusable: it is not there (yet), or cannot be used.
        """
        return _users.take(run_dir)

    def close(self) -> None:
        """The last of this process's users closes it."""
        _users.give_back(self)

    def read(self, look: Callable[[Txn], T]) -> T:
        """
        What `look` makes of the newest committed state; it must not keep the transaction.

        Raises:
            StoreError.
        """
        with self.lock:
            try:
                with self.env.begin() as txn:
                    if self._signs[1] != self._generation:
                        raise Replaced
                    return look(txn)
            except Exception as error:
                if not _may_pass(error):
                    raise
                return self._read_again(look)

    def row(self, key: bytes) -> bytes | None:
        """
        One row of `state`, as it was committed last.

        Raises:
            StoreError.
        """
        with self.lock:
            try:
                with self.env.begin(db=self.state) as txn:
                    if self._signs[1] != self._generation:
                        raise Replaced
                    found: bytes | None = txn.get(key)
                    return found
            except Exception as error:
                if not _may_pass(error):
                    raise
                return self._read_again(lambda txn: cast("bytes | None", txn.get(key, db=self.state)))

    def _read_again(self, look: Callable[[Txn], T]) -> T:
        """Do what can be done first. LMDB is not looked up for reads that go well."""
        import lmdb

        with self.lock:
            for _ in range(TRIES):
                try:
                    with self.env.begin() as txn:
                        if self._signs[1] != self._generation:
                            raise Replaced
                        return look(txn)
                except lmdb.MapResizedError:
                    self._set_map(0)
                except (lmdb.ReadersFullError, lmdb.BadRslotError):
                    return self.look(look)  # who writes needs no place among the readers
                except Replaced:
                    self._open_anew()
                except lmdb.Error as error:
                    self._recover(error)
            raise StoreUnusable(self.path, "it cannot be read", "see the log of regrow.keeper")

    def write(self, change: Callable[[Txn], T]) -> T:
        """
        Do `change` in one transaction, all of it or nothing; it may be called again, after one that came to nothing.

        Raises:
            StoreError: nothing was changed; and whatever `change` raises.
        """
        with self.lock:
            if self._writing:
                raise RuntimeError("a transaction of the store is open in this thread already")
            self._writing = True
            try:
                while True:  # each time something else has been done about it, or an error is raised
                    try:
                        return self._write_once(change)
                    except Replaced:
                        self._open_anew()
                    except Exception as error:
                        if not self._is_helped(error):
                            raise
            finally:
                self._writing = False

    def look(self, look: Callable[[Txn], T]) -> T:
        """
        What `look` makes of the state after all transactions that have begun: it waits for the one that is open.

        Raises:
            StoreError.
        """
        def only_look(txn: Txn) -> T:
            raise _Seen(look(txn))

        try:
            self.write(only_look)
        except _Seen as seen:
            found: T = seen.args[0]
            return found
        raise AssertionError("it was looked at")

    def _write_once(self, change: Callable[[Txn], T]) -> T:
        hit(_BEFORE_COMMIT)
        signs = self._signs
        txn = self.env.begin(write=True)
        try:
            if signs[1] != self._generation:
                raise Replaced
            result = change(txn)
            if not signs[0] and self.run_dir:
                signs[0] = 1
                self.ring(KEEPER_BELL)
            hit(_INSIDE_COMMIT)
            txn.commit()
        except BaseException:
            txn.abort()
            raise
        hit(_AFTER_COMMIT)
        return result


def _may_pass(error: Exception) -> bool:
    import lmdb

    return isinstance(error, (lmdb.Error, Replaced))


_users: StoreUsers[Store] = StoreUsers(Store)

__all__ = [
    "DATABASES",
    "FOLDER",
    "INFO",
    "KEEPER_BELL",
    "MAP_BYTES",
    "MAX_READERS",
    "SIGNS",
    "SIGNS_BYTES",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreInfo",
    "StoreUnusable",
    "Txn",
    "read_info",
]
