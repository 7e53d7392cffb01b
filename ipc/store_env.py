"""
The store's LMDB environment as one process has it open: opened, closed, opened anew, made larger, and mended.

Source: LMDB's lmdb.h on mdb_env_open, mdb_env_set_mapsize, MDB_NOSYNC.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING

from regrow.config.spec import Durability
from regrow.ipc.bell import Rope
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.inherited import LOCK_FILE, close_inherited
from regrow.ipc.store_faults import fault
from regrow.ipc.store_place import DATABASES, MAX_READERS, SIGNS, SIGNS_BYTES, StoreInfo, file_of, read_info

if TYPE_CHECKING:
    import lmdb


class Replaced(Exception):
    """It is to be opened anew."""


class OpenStore:
    """
    The environment, and what all who have it open share.

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
        self._is_open = False
        self._is_shut = False
        self._signs = mmap.mmap(-1, SIGNS_BYTES)
        self._rope = Rope(run_dir)
        try:
            self._open_env()
        except BaseException:
            self._rope.close()
            raise

    def _open_env(self) -> None:
        import lmdb

        try:
            self.file = file_of(self.path)
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
            self.state, self.messages, self.meta = self._open_databases()
        except (lmdb.Error, OSError, ValueError) as error:
            why = "it is not there" if not os.path.isdir(self.path) else str(error)
            self._close_env()
            raise StoreUnusable(self.path, why, "see `regrow logs regrow.keeper`") from None

    def _open_databases(self) -> list[lmdb._Database]:
        """Opened in a transaction: without one, py-lmdb waits for the writers' lock and holds up all threads."""
        import lmdb

        while True:
            try:
                with self.env.begin(write=True) as txn:
                    return [self.env.open_db(name.encode(), txn=txn, create=False) for name in DATABASES]
            except lmdb.MapResizedError:  # others have at least doubled the map since LMDB read how large it is
                self.env.set_mapsize(0)

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
        if failed_before or not self._is_open or self.file != file_of(self.path):  # the disk was gone, and is back
            self._open_anew()
        else:
            raise fault(self.path, error) from None
