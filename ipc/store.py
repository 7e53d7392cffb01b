"""
The store: one LMDB environment, shared by all processes of a daemon, in which what is to outlive them is kept.

A transaction is one LMDB transaction: whole or not at all, whoever is killed when. What a commit survives besides is
said by the daemon's `durability`; the keeper prepares the store and looks after it (`regrow.keeper`).

Source: architecture section 7; LMDB's lmdb.h on mdb_env_open, mdb_env_set_mapsize, MDB_NOSYNC.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Struct

from regrow.config.spec import Durability
from regrow.ipc.bell import Rope
from regrow.ipc.errors import StoreError, StoreFull, StoreUnusable
from regrow.ipc.inherited import LOCK_FILE, close_inherited
from regrow.ipc.points import Point, hit
from regrow.ipc.store_faults import fault

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
FORK_S = 2.0
"""How long a fork waits for other threads to be done with the store."""

TRIES = 4
"""More than can go wrong with one read: closed, replaced, grown."""

DATABASES = ("state", "messages", "meta")
KEEPER_BELL = "regrow.keeper.bell"


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
        self.lock = threading.RLock()
        self._writing = False
        self._is_open = False
        self._is_shut = False
        self._signs = mmap.mmap(-1, SIGNS_BYTES)
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
        with self.lock:
            try:
                with self.env.begin() as txn:
                    if self._signs[1] != self._generation:
                        raise _Replaced
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
                        raise _Replaced
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
                            raise _Replaced
                        return look(txn)
                except lmdb.MapResizedError:
                    self._set_map(0)
                except (lmdb.ReadersFullError, lmdb.BadRslotError):
                    return self.look(look)  # who writes needs no place among the readers
                except _Replaced:
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
            self.file = _file(self.path)
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
            self._is_open = True
            self._lock_inode = os.stat(os.path.join(self.path, LOCK_FILE)).st_ino
            with self.env.begin(write=True) as txn:  # without it, py-lmdb waits for this lock and holds up all threads
                databases = [self.env.open_db(name.encode(), txn=txn, create=False) for name in DATABASES]
            self.state, self.messages, self.meta = databases
        except (lmdb.Error, OSError, ValueError) as error:
            why = "it is not there" if not os.path.isdir(self.path) else str(error)
            self._close_env()
            raise StoreUnusable(self.path, why, "see `regrow logs regrow.keeper`") from None

    def _open_anew(self) -> None:
        """
        The daemon was started anew, perhaps with another level, or the store was replaced by another; or it was closed.

        Raises:
            StoreUnusable: it stays closed, until somebody uses it again; or for good, after `close`.
        """
        if self._is_shut:
            raise StoreUnusable(self.path, "this process has closed it", "open it again: Store.open")
        self._close_env()
        if self.run_dir:
            info = read_info(self.run_dir)
            self.path, self.durability = info.path, info.durability
        self._open_env()

    def shut(self) -> None:
        """
        Close it here, whoever else has it open; only for one that `open` has not given.

        Whoever still uses it is told so. Opened anew it would be a second one beside that of the next `open`, and
        closing one of two takes the locks of the other: they belong to the process (fcntl_locking(2)).
        """
        with self.lock:
            self._is_shut = True
            self._close_env()
            self._rope.close()

    def follow(self) -> None:
        """Another store is in its place. Raises: StoreUnusable."""
        with self.lock:
            self._open_anew()

    def leave_to_parent(self) -> None:
        """In a forked process: close it here, and touch nothing of the parent's."""
        self._is_shut = True
        if self._is_open:
            self._is_open = False
            close_inherited(self.env, self._lock_inode)
        self._signs.close()
        self._rope.leave_to_parent()

    def _close_env(self) -> None:
        if self._is_open:
            self._is_open = False
            self.env.close()
        self._signs.close()

    def ring(self, bell: str) -> bool:
        """Ring a bell of the daemon; False when nobody is there to hear it."""
        return self._rope.ring(bell)

    def _is_helped(self, error: Exception) -> bool:
        """Whether it was LMDB that has raised, and it can go on now; raises StoreError: it cannot."""
        import lmdb

        if isinstance(error, lmdb.MapResizedError):
            self._set_map(0)
        elif isinstance(error, lmdb.MapFullError):
            self._grow()
        elif isinstance(error, lmdb.Error):
            self._recover(error)
        elif self._is_shut and isinstance(error, ValueError):  # its signs are no longer mapped
            self._open_anew()
        else:
            return False
        return True

    def _grow(self) -> None:
        """The map is full: follow whoever has made it larger already, or double it."""
        before = self.env.info()["map_size"]
        self._set_map(0)
        if self.env.info()["map_size"] <= before:
            self._set_map(2 * before)

    def _set_map(self, size: int) -> None:
        """0: as large as somebody else has made it."""
        import lmdb

        try:
            self.env.set_mapsize(size)
        except lmdb.Error as error:  # it has no map any more
            self._close_env()
            raise fault(self.path, error) from None

    def _recover(self, error: lmdb.Error) -> None:
        """Open it anew if that can help, or say what is the matter."""
        import lmdb

        failed_before = isinstance(error, lmdb.PanicError)
        if failed_before or not self._is_open or self.file != _file(self.path):  # the disk was gone, and is back
            self._open_anew()
        else:
            raise fault(self.path, error) from None


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


def _may_pass(error: Exception) -> bool:
    import lmdb

    return isinstance(error, (lmdb.Error, _Replaced))


class _Stores:
    """The stores that are open in this process: LMDB allows each file to be open once."""

    def __init__(self) -> None:
        self._open: list[tuple[Store, int]] = []
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._held: dict[int, list[Any]] = {}
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._forked)

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

    def take(self, run_dir: str) -> Store:
        info, run_dir = read_info(run_dir), os.path.abspath(run_dir)
        with self._lock:
            if self._pid != os.getpid():
                self._leave_to_parent()
            file = _file(info.path)
            for place, (store, users) in enumerate(self._open):
                if store.file == file or store.run_dir == run_dir:
                    if store.file != file:
                        store.follow()
                    self._open[place] = store, users + 1
                    return store
            store = Store(info, run_dir)
            self._open.append((store, 1))
            return store

    def give_back(self, store: Store) -> None:
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


def _file(path: str) -> tuple[int, int]:
    try:
        found = os.stat(os.path.join(path, "data.mdb"))
    except OSError as error:
        raise StoreUnusable(path, error.strerror or str(error), "see `regrow logs regrow.keeper`") from None
    return found.st_dev, found.st_ino


_stores = _Stores()

__all__ = ["Store", "StoreError", "StoreFull", "StoreInfo", "StoreUnusable", "Txn", "read_info"]
