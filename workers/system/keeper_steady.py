"""
Steady points: states of the store that are certainly on disk, although no commit waits for the disk (level `system`).

A read transaction that begins under the writers' lock pins the state as of then: LMDB writes over none of its pages
as long as it is open. That state is brought to disk and its meta page written to `steady`; only then is the pin of the
steady point before ended. So whenever the power goes, the pages that `steady` leads to are there, whole.

Source: LMDB 0.9, mdb.c: mdb_find_oldest (a page is used anew only when it was freed before the oldest reader began),
mdb_reader_check0 and mdb_mutex_failed (after a death with the writers' lock the next writer clears the slots of all the
dead, a dead keeper's pin among them).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from regrow.ipc.levels import DATA, SteadyFile
from regrow.ipc.meta_page import Meta, read
from regrow.ipc.points import Point, hit

if TYPE_CHECKING:
    import lmdb

LONGEST_S = 0.2
"""What has been committed is on disk after this time and that of one fsync."""

GROWTH_BYTES = 32 << 20
"""
Sooner, when the file has grown by so much since the last one: what is pinned cannot be used anew. When it grows by so
much while one is brought to disk, the writers are faster than the disk, and wait until it has caught up.
"""

_CHUNK_BYTES = 1 << 20


class SteadyPoints:
    """
    The steady points of an open environment.

    Nothing protects the steady point of an earlier keeper while there is none: its pin may be gone. So the first point
    of each keeper is made with the writers' lock held throughout; no later one is.
    """

    def __init__(self, env: lmdb.Environment, folder: str) -> None:
        self._env = env
        self._pin: Any = None
        self._file = SteadyFile(folder)
        try:
            self._data_fd = os.open(os.path.join(folder, DATA), os.O_RDWR | os.O_CLOEXEC)
        except BaseException:
            self._file.close()
            raise
        self._done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._next: tuple[Any, Meta] | None = None
        self._fault: OSError | None = None
        self._failed = False
        self._page_bytes = int(env.stat()["psize"])
        self._bytes = 0  # of the file at the last one

    def first(self, under_lock: Callable[[], None] = lambda: None) -> Meta:
        """
        Make the first one. Most of what is to be brought to disk is, before any writer has to wait.

        Raises:
            OSError, lmdb.Error, BadMeta: there is none, and the store must not be used at this level.
        """
        os.fdatasync(self._data_fd)
        hit(Point.STEADY_BEGUN)
        with self._env.begin(write=True) as lock:
            hit(Point.STEADY_LOCKED)
            under_lock()
            pin, meta = self._pin_under(lock)
            try:
                os.fdatasync(self._data_fd)
                hit(Point.STEADY_SYNCED)
                self._file.write(meta)
                hit(Point.STEADY_WRITTEN)
            except BaseException:
                pin.abort()
                raise
            self._replace(pin)
            lock.abort()
        self._bytes = meta.file_bytes
        hit(Point.STEADY_MADE)
        self._env.reader_check()  # the pin of an earlier keeper
        return meta

    def make(self, under_lock: Callable[[], None] = lambda: None) -> None:
        """
        Make the next one, and wait for it; `begin` says about what, and `finish` what may go wrong.
        """
        if self.begin(under_lock):
            self.finish()

    def begin(self, under_lock: Callable[[], None] = lambda: None) -> bool:
        """
        Pin the next one, and have it brought to disk; `fileno` is readable when that is done: then `finish`.

        `under_lock` is called when all commits before are certain to be in it, and no later one. False when it is made
        already, as a first one.

        Raises:
            OSError, lmdb.Error: there is none; to be tried again.
        """
        if not self._is_pinned():
            self.first(under_lock)
            return False
        if self._failed:
            self._write_anew()
        with self._env.begin(write=True) as lock:
            under_lock()
            self._next = self._pin_under(lock)
            lock.abort()
        self._bytes = self._next[1].file_bytes
        hit(Point.STEADY_PINNED)
        self._thread = threading.Thread(target=self._sync, name="regrow-sync", daemon=True)
        self._thread.start()
        return True

    def hold_writers(self) -> None:
        """They are faster than the disk: have them wait until it has caught up. Raises lmdb.Error."""
        if self._thread is not None:
            with self._env.begin(write=True) as lock:
                self._thread.join()
                lock.abort()

    def finish(self) -> None:
        """
        What is pinned is on disk, and is the last steady point; what was pinned before need not be any more.

        Raises:
            OSError: it is not, the one before stays; to be tried again. lmdb.Error.
        """
        pin, meta = self._end_sync()
        try:
            if self._fault is not None:
                self._failed = True
                raise self._fault
            hit(Point.STEADY_SYNCED)
            self._file.write(meta)
            hit(Point.STEADY_WRITTEN)
        except BaseException:
            pin.abort()
            raise
        self._replace(pin)
        hit(Point.STEADY_MADE)
        self._env.reader_check()  # whoever died while he read pins pages too

    def _end_sync(self) -> tuple[Any, Meta]:
        assert self._thread is not None
        assert self._next is not None
        self._thread.join()
        os.eventfd_read(self._done_fd)
        self._thread = None
        made, self._next = self._next, None
        return made

    def _sync(self) -> None:
        """In a thread: it takes as long as the disk takes, and timers do not wait."""
        try:
            os.fdatasync(self._data_fd)
            self._fault = None
        except OSError as error:
            self._fault = error
        finally:
            os.eventfd_write(self._done_fd, 1)

    def fileno(self) -> int:
        """Readable when one that was begun is to be finished."""
        return self._done_fd

    def _pin_under(self, lock: Any) -> tuple[Any, Meta]:
        pin = self._env.begin()
        try:
            txnid = pin.id()
            if lock.id() != txnid + 1:
                raise AssertionError(f"internal error: {lock.id()} does not follow {txnid}")
            return pin, read(self._data_fd, txnid)
        except BaseException:
            pin.abort()
            raise

    def _replace(self, pin: Any) -> None:
        before, self._pin = self._pin, pin
        if before is not None:
            before.abort()

    def _write_anew(self) -> None:
        """
        Write all pages once more as they are.

        After a failed fsync the kernel takes what it could not write for written: the next one would succeed, with
        pages missing (fsync(2), errors). Piece by piece under the writers' lock, so that nobody waits for long.
        """
        size = os.fstat(self._data_fd).st_size
        for at in range(0, size, _CHUNK_BYTES):
            with self._env.begin(write=True) as lock:
                os.pwrite(self._data_fd, os.pread(self._data_fd, min(_CHUNK_BYTES, size - at), at), at)
                lock.abort()
        os.fdatasync(self._data_fd)
        self._failed = False

    def growth(self) -> int:
        """By how many bytes the file has grown since the last one was pinned."""
        return (int(self._env.info()["last_pgno"]) + 1) * self._page_bytes - self._bytes

    def follow(self, env: lmdb.Environment) -> None:
        """The environment may have been opened anew since, after an error."""
        self._env = env

    def _is_pinned(self) -> bool:
        """A map that was made anew, and an environment that was closed, have ended the transaction."""
        import lmdb

        try:
            return self._pin is not None and self._pin.id() > 0
        except lmdb.Error:
            return False

    def close(self) -> None:
        """End the pin: only after the store was closed in order, or when somebody else takes over."""
        if self._thread is not None:
            self._end_sync()[0].abort()
        if self._pin is not None:
            self._pin.abort()
            self._pin = None
        os.close(self._done_fd)
        os.close(self._data_fd)
        self._file.close()
