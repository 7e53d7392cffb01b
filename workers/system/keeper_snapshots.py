"""
Snapshots: whole copies of the store, made while it is in use. They are what level `process` falls back on.

Numbered, because a clock may be set back; the name also says which state of which store it is, so that no state is
copied twice: `<number>-<transaction>-<store>.mdb`.

Source: LMDB's mdb_env_copyfd2 (MDB_CP_COMPACT); a copy holds a read transaction for as long as it takes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from regrow.ipc import meta_page
from regrow.ipc.levels import sync_folder

if TYPE_CHECKING:
    import lmdb

    from regrow.ipc.store import Store
    from regrow.workers.system.hub_timers import Timer, Timers
    from regrow.workers.system.hub_watch import Watch

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
    txnid = last_transaction(env)  # the copy may hold later commits too: then the next one is not left out
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
    """LMDB numbers the transactions of a compact copy from 1. Here they go on: ordinals of posts are made of them."""
    import lmdb

    try:
        env.copyfd(fd, compact=True)
        meta_page.put_back(fd, msgspec.structs.replace(meta_page.read(fd), txnid=last_transaction(env)))
    except lmdb.IncompatibleError:  # pages that are neither free nor in use: no harm, but the copy cannot be compact
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        env.copyfd(fd)


def _number(name: str) -> int | None:
    head = name.partition("-")[0]
    return int(head) if name.endswith(SUFFIX) and head.isascii() and head.isdigit() else None


class Snapshots:
    """
    When snapshots are taken: at the beginning, then hourly while there are commits, and at the end.

    A thread copies, and lives as long as that takes, so that nobody waits for a large store. What goes wrong is told
    to `complain`, and is no reason to end.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        store_id: str,
        watch: Watch,
        complain: Callable[[str, str], None],
    ) -> None:
        self._store, self._folder, self._store_id = store, folder, store_id
        self._watch, self._complain = watch, complain
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        watch.add(self._fd, self._copied)
        self._thread: threading.Thread | None = None
        self._fault = ""
        self._timer: Timer | None = None
        self._taken_s = time.monotonic()

    def begin(self, *, lately: bool) -> None:
        """
        See that there is one of the store as it is; `lately`: one that is not much older will do until then.

        Raises:
            OSError, lmdb.Error: there is none, and nothing to fall back on.
        """
        if is_taken(self._folder, last_transaction(self._store.env), self._store_id):
            return
        if lately and listed(self._folder):
            self._start()
        else:
            self._take()

    def due(self, timers: Timers) -> None:
        """There were commits: an hour after the last one there is to be another."""
        if self._timer is None:
            self._timer = timers.after(max(0.0, self._taken_s + PERIOD_S - time.monotonic()), self._start)

    def _start(self) -> None:
        self._timer = None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="regrow-snapshot", daemon=True)
            self._thread.start()

    def _take(self) -> None:
        self._taken_s = time.monotonic()
        take(self._store.env, self._folder, self._store_id)

    def _run(self) -> None:
        self._fault = fault_of(self._take)
        os.eventfd_write(self._fd, 1)

    def _copied(self) -> None:
        os.eventfd_read(self._fd)
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        self._complain("snapshot", f"no snapshot was taken: {self._fault}" if self._fault else "")

    def finish(self) -> None:
        """One of the last state, when there is none."""
        if self._thread is not None:
            self._copied_at_last()
        if not is_taken(self._folder, last_transaction(self._store.env), self._store_id):
            fault = fault_of(self._take)
            self._complain("snapshot", f"no snapshot was taken: {fault}" if fault else "")

    def _copied_at_last(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._copied()

    def close(self) -> None:
        """Wait for the one that is under way."""
        if self._thread is not None:
            self._thread.join()
        self._watch.remove(self._fd)
        os.close(self._fd)


def last_transaction(env: lmdb.Environment) -> int:
    """The number of the last one that was committed."""
    return int(env.info()["last_txnid"])


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
