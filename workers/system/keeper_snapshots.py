"""
Snapshots: whole copies of the store, made while it is in use. They are what level `process` falls back on.

Numbered, because a clock may be set back; the name also says which state of which store it is, so that no state is
copied twice: `<number>-<transaction>-<store>.mdb`.

Source: LMDB's mdb_env_copyfd2 (MDB_CP_COMPACT); a copy holds a read transaction for as long as it takes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from regrow.ipc.levels import sync_folder

if TYPE_CHECKING:
    import lmdb

KEPT = 2
PERIOD_S = 3600.0
"""At least so long from one to the next while the store is in use."""

SUFFIX = ".mdb"
_UNFINISHED = "unfinished"


def listed(folder: str) -> list[str]:
    """The paths of the snapshots, newest first; empty where there is none. Raises OSError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    numbered = sorted((number, name) for name in names if (number := _number(name)) is not None)
    return [os.path.join(folder, name) for _, name in reversed(numbered)]


def is_taken(folder: str, txnid: int, store_id: str) -> bool:
    """Whether the newest snapshot is of exactly this state. Raises OSError."""
    return any(path.endswith(f"-{txnid}-{store_id[:8]}{SUFFIX}") for path in listed(folder)[:1])


def take(env: lmdb.Environment, folder: str, store_id: str) -> str:
    """
    Copy what is committed now; returns the path, which is there only when all of it is on disk. Older ones go.

    Raises:
        OSError, lmdb.Error: there is none more than before.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    txnid = env.info()["last_txnid"]  # the copy may hold later commits too: then the next one is not left out
    unfinished = os.path.join(folder, _UNFINISHED)
    fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _copy(env, fd)
        os.fsync(fd)
    except BaseException:
        os.unlink(unfinished)
        raise
    finally:
        os.close(fd)
    before = listed(folder)
    number = (_number(os.path.basename(before[0])) or 0) + 1 if before else 1
    path = os.path.join(folder, f"{number:08d}-{txnid}-{store_id[:8]}{SUFFIX}")
    os.rename(unfinished, path)
    sync_folder(folder)
    for old in before[KEPT - 1 :]:
        os.unlink(old)
    return path


def _copy(env: lmdb.Environment, fd: int) -> None:
    import lmdb

    try:
        env.copyfd(fd, compact=True)
    except lmdb.IncompatibleError:  # pages that are neither free nor in use: no harm, but the copy cannot be compact
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        env.copyfd(fd)


def _number(name: str) -> int | None:
    head = name.partition("-")[0]
    return int(head) if name.endswith(SUFFIX) and head.isascii() and head.isdigit() else None


class Copier:
    """
    Copies in a thread that lives as long as it takes, so that nobody waits for a large store.

    `done` is written to the eventfd `fileno()` and `outcome` says how it went: None while it runs.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._fault = ""

    def fileno(self) -> int:
        return self._fd

    def start(self, copy: Callable[[], object]) -> None:
        """Begin, unless one is under way."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(copy,), name="regrow-snapshot", daemon=True)
            self._thread.start()

    def _run(self, copy: Callable[[], object]) -> None:
        self._fault = fault_of(copy)
        os.eventfd_write(self._fd, 1)

    def finish(self) -> str:
        """Wait for the one that is under way; what went wrong, empty when all is well or nothing was to be done."""
        thread, self._thread = self._thread, None
        if thread is None:
            return ""
        thread.join()
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        return self._fault

    def close(self) -> None:
        self.finish()
        os.close(self._fd)


def fault_of(copy: Callable[[], object]) -> str:
    """Do it, and say what went wrong, if anything did."""
    import lmdb

    try:
        copy()
    except OSError as error:
        return f"{error.filename or 'snapshots'}: {error.strerror or error}"
    except lmdb.Error as error:
        return str(error)
    return ""
