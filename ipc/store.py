"""
The store: one LMDB environment, shared by all processes of a daemon, in which what is to outlive them is kept.

A transaction is one LMDB transaction: whole or not at all, whoever is killed when. What a commit survives besides is
said by the daemon's `durability`; the keeper prepares the store and looks after it (`regrow.keeper`).

Source: architecture section 7; LMDB's lmdb.h on mdb_env_open, mdb_env_set_mapsize, MDB_NOSYNC.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from regrow.config.spec import Durability
from regrow.ipc.bell import Rope
from regrow.ipc.errors import StoreError, StoreFull, StoreUnusable
from regrow.ipc.points import Point, hit

if TYPE_CHECKING:
    import lmdb


class _Replaced(Exception):
    """It is to be opened anew."""


class _Seen(Exception):
    """What was to be seen; nothing is to be committed."""


T = TypeVar("T")
Txn: TypeAlias = Any
"""An open `lmdb.Transaction`."""

FOLDER = "state"
INFO = "store"
SIGNS = "signs"
"""
Beside the environment: bytes that all who have it open share, mapped. The first is 0 until something is committed,
which the keeper is then told of; the second changes when the store is to be opened anew, as after a restore.
"""

SIGNS_BYTES = 4096
MAP_BYTES = 1 << 30
"""How large the map is made at first: address space, not memory and not disk."""

MAX_READERS = 16_384
DATABASES = ("state", "messages", "meta")
KEEPER_BELL = "regrow.keeper.bell"

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreInfo(Struct, frozen=True):
    """What `<run_dir>/store` says, as soon as the store is fit for use: where it is, and what a commit survives."""

    path: str
    durability: Durability


class Store:
    """
    The store as this process has it open; `Store.open` gives everybody here the same one. Thread-safe.

    `state`, `messages` and `meta` are its databases, for `db=` of an LMDB transaction.

    Args:
        info: where the environment is, which exists, and its level.
        run_dir: of the daemon, whose keeper is told of commits; "" where none runs.
    Raises:
        StoreUnusable.
    """

    def __init__(self, info: StoreInfo, run_dir: str = "") -> None:
        self.path = info.path
        self.durability = info.durability
        self.run_dir = run_dir
        self._lock = threading.RLock()
        self._writing = False
        self._rope = Rope(run_dir)
        try:
            self._open_env()
        except BaseException:
            self._rope.close()
            raise

    @staticmethod
    def open(run_dir: str) -> Store:
        """
        The store of the daemon at `run_dir`; each `open` needs a `close`.

        Raises:
            StoreUnusable: it is not there (yet), or cannot be used.
        """
        return _stores.take(run_dir)

    def close(self) -> None:
        """The last of this process's users closes it."""
        _stores.give_back(self)

    def read(self, look: Callable[[Txn], T]) -> T:
        """
        What `look` makes of the newest committed state; it must not keep the transaction.

        Raises:
            StoreError.
        """
        with self._lock:
            try:
                with self.env.begin() as txn:
                    return look(txn)
            except Exception as error:
                if not _is_of_lmdb(error):
                    raise
                return self._read_again(look)

    def row(self, key: bytes) -> bytes | None:
        """
        One row of `state`, as it was committed last.

        Raises:
            StoreError.
        """
        with self._lock:
            try:
                with self.env.begin(db=self.state) as txn:
                    found: bytes | None = txn.get(key)
                    return found
            except Exception as error:
                if not _is_of_lmdb(error):
                    raise
                found = self._read_again(lambda txn: txn.get(key, db=self.state))
                return found

    def _read_again(self, look: Callable[[Txn], T]) -> T:
        """Do what can be done first. LMDB is not looked up for reads that go well."""
        import lmdb

        with self._lock:
            for _ in range(2):
                try:
                    with self.env.begin() as txn:
                        return look(txn)
                except lmdb.MapResizedError:
                    self.env.set_mapsize(0)
                except (lmdb.ReadersFullError, lmdb.BadRslotError):
                    self.env.reader_check()
                except lmdb.Error as error:
                    self._recover(error)
            raise StoreUnusable(self.path, "it cannot be read", "see the log of regrow.keeper")

    def write(self, change: Callable[[Txn], T]) -> T:
        """
        Do `change` in one transaction, all of it or nothing; it may be called again, after one that came to nothing.

        Raises:
            StoreError: nothing was changed; and whatever `change` raises.
        """
        with self._lock:
            if self._writing:
                raise RuntimeError("a transaction of the store is open in this thread already")
            self._writing = True
            try:
                while True:
                    try:
                        return self._write_once(change)
                    except _Replaced:
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
        hit(Point.BEFORE_COMMIT)
        signs = self._signs
        txn = self.env.begin(write=True)
        try:
            if signs[1] != self._generation:
                raise _Replaced
            result = change(txn)
            if not signs[0] and self.run_dir:
                signs[0] = 1
                self.ring(KEEPER_BELL)
            hit(Point.INSIDE_COMMIT)
            txn.commit()
        except BaseException:
            txn.abort()
            raise
        hit(Point.AFTER_COMMIT)
        return result

    def _open_env(self) -> None:
        import lmdb

        try:
            with open(os.path.join(self.path, SIGNS), "r+b") as file:
                self._signs = mmap.mmap(file.fileno(), SIGNS_BYTES)
            self._generation = self._signs[1]
            self.env: lmdb.Environment = lmdb.open(
                self.path,
                map_size=0,  # as large as it was made; LMDB keeps that in the file
                max_dbs=len(DATABASES) + 5,
                max_readers=MAX_READERS,
                create=False,
                sync=self.durability is Durability.FULL,
                metasync=self.durability is Durability.FULL,
                readahead=False,
            )
            self.state, self.messages, self.meta = (self.env.open_db(name.encode(), create=False) for name in DATABASES)
        except (lmdb.Error, OSError) as error:
            why = "it is not there" if not os.path.isdir(self.path) else str(error)
            raise StoreUnusable(self.path, why, "see `regrow logs regrow.keeper`") from None

    def _open_anew(self) -> None:
        """The daemon was started anew, perhaps with another level, or the store was replaced by another."""
        self._close_env()
        if self.run_dir:
            info = read_info(self.run_dir)
            self.path, self.durability = info.path, info.durability
        self._open_env()

    def shut(self) -> None:
        """Close it here, whoever else has it open; only for one that `open` has not given."""
        with self._lock:
            self._close_env()
            self._rope.close()

    def _close_env(self) -> None:
        self.env.close()
        self._signs.close()

    def ring(self, bell: str) -> bool:
        """Ring a bell of the daemon; False when nobody is there to hear it."""
        return self._rope.ring(bell)

    def _is_helped(self, error: Exception) -> bool:
        """Whether it was LMDB that has raised, and it can go on now; raises StoreError: it cannot."""
        import lmdb

        if isinstance(error, lmdb.MapResizedError):
            self.env.set_mapsize(0)
        elif isinstance(error, lmdb.MapFullError):
            self._grow()
        elif isinstance(error, lmdb.Error):
            self._recover(error)
        else:
            return False
        return True

    def _grow(self) -> None:
        """The map is full: follow whoever has made it larger already, or double it."""
        before = self.env.info()["map_size"]
        self.env.set_mapsize(0)
        if self.env.info()["map_size"] <= before:
            self.env.reader_check()
            self.env.set_mapsize(2 * before)

    def _recover(self, error: lmdb.Error) -> None:
        """Open it anew if that can help, or say what is the matter."""
        import lmdb

        number = _errno(error)
        if number in _NO_ROOM:
            raise StoreFull(self.path, os.strerror(number)) from None
        if isinstance(error, lmdb.TxnFullError):
            raise StoreUnusable(
                self.path, "one transaction changes too much, some 500 MB", "commit in parts: with self.transaction()"
            ) from None
        if isinstance(error, lmdb.PanicError):  # a write to the file has failed before
            self._close_env()
            self._open_env()
            return
        if number:
            raise StoreUnusable(self.path, str(error), "see to the disk; what is committed is there") from None
        raise StoreUnusable(self.path, str(error), "stop the daemon and run `regrow state verify`") from None


def read_info(run_dir: str) -> StoreInfo:
    """
    Where the store of this daemon is.

    Raises:
        StoreUnusable: no daemon that has one runs there.
    """
    path = os.path.join(run_dir, INFO)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=StoreInfo)
    except FileNotFoundError:
        why = "the daemon keeps none: its tree has no agents" if os.path.isdir(run_dir) else "no daemon runs there"
        raise StoreUnusable(path, why, "see `regrow status`") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreUnusable(path, str(error), "see who may: [access] in its file") from None


def _is_of_lmdb(error: Exception) -> bool:
    import lmdb

    return isinstance(error, lmdb.Error)


def _errno(error: BaseException) -> int:
    """LMDB gives system errors as texts."""
    text = str(error)
    for number in (*_NO_ROOM, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE):
        if os.strerror(number) in text:
            return number
    return 0


class _Stores:
    """The stores that are open in this process: LMDB allows each file to be open once."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[Store, int]] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # a thread that is not here may have held it

    def take(self, run_dir: str) -> Store:
        info = read_info(run_dir)
        with self._lock:
            if self._pid != os.getpid():
                self._leave_to_parent()
            file = _file(info.path)
            store, users = self._open.get(file, (None, 0))
            if store is None:
                store = Store(info, os.path.abspath(run_dir))
            self._open[file] = store, users + 1
            return store

    def give_back(self, store: Store) -> None:
        with self._lock:
            for file, (known, users) in list(self._open.items()):
                if known is store and self._pid == os.getpid():
                    self._open[file] = store, users - 1
                    if users == 1:
                        del self._open[file]
                        store.shut()

    def _leave_to_parent(self) -> None:
        """What a forked process finds open was opened by its parent, and must not be used."""
        for store, _ in self._open.values():
            store._lock = threading.RLock()  # a thread that is not here may have held it
            store.shut()
        self._open.clear()
        self._pid = os.getpid()


def _file(path: str) -> tuple[int, int]:
    try:
        found = os.stat(os.path.join(path, "data.mdb"))
    except OSError as error:
        raise StoreUnusable(path, error.strerror or str(error), "see `regrow logs regrow.keeper`") from None
    return found.st_dev, found.st_ino


_stores = _Stores()

__all__ = ["Store", "StoreError", "StoreFull", "StoreInfo", "StoreUnusable", "Txn", "read_info"]
