"""
The names tables that this process has open, shared by all who read and write them here.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from regrow.ipc.forks import from_first_use
from regrow.ipc.inherited import LOCK_FILE, close_inherited

if TYPE_CHECKING:
    import lmdb

MAP_BYTES = 64 * 1024 * 1024
"""A sparse file: only what is used takes room. A record takes about 150 bytes."""

MAX_READERS = 16_384
"""One slot for each process that reads, 64 bytes each; slots of the dead are taken back when they run out."""


class Environments:
    """
    The open tables of this process, by file: LMDB allows each to be open once in a process.

    What a forked process finds here was opened by its parent, and must not be used.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[lmdb.Environment, int, int]] = {}
        self._lock = threading.Lock()
        self._lost: deque[lmdb.Environment] = deque()
        self._heed_forks = from_first_use(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # a thread that is not here may have held it

    def take(self, path: str) -> tuple[lmdb.Environment, tuple[int, int]]:
        """
        The table that is at `path` now, and which file that is.

        Raises:
            lmdb.Error.
        """
        self._heed_forks()
        with self._lock:
            self._find()
            inode = inode_of(path)
            env, pid, users = self._open.get(inode, (None, 0, 0))
            if env is not None and pid != os.getpid():
                close_inherited(env, os.stat(os.path.join(path, LOCK_FILE)).st_ino)
                env, users = None, 0
            if env is None:
                env, inode = _open_table(path)
            self._open[inode] = env, os.getpid(), users + 1
            return env, inode

    def give_back(self, env: lmdb.Environment) -> None:
        with self._lock:
            self._find()
            self._give_back(env)

    def lose(self, env: lmdb.Environment) -> None:
        """Give it back now if nobody is at it, not even this thread further up; else whoever is next does."""
        self._lost.append(env)
        if self._lock.acquire(blocking=False):
            try:
                self._find()
            finally:
                self._lock.release()

    def _find(self) -> None:
        while self._lost:
            self._give_back(self._lost.popleft())

    def _give_back(self, env: lmdb.Environment) -> None:
        for inode, (known, pid, users) in list(self._open.items()):
            if known is env and pid == os.getpid():
                self._open[inode] = env, pid, users - 1
                if users == 1:
                    env.close()
                    del self._open[inode]


def _open_table(path: str) -> tuple[lmdb.Environment, tuple[int, int]]:
    import lmdb

    while True:
        inode = inode_of(path)
        env = lmdb.open(
            path,
            map_size=MAP_BYTES,
            max_readers=MAX_READERS,
            create=False,
            sync=False,  # it need not outlive the machine, and lies in memory as a rule
            metasync=False,
            readahead=False,
        )
        if inode == inode_of(path):
            return env, inode
        env.close()  # the daemon was started anew in between


def inode_of(path: str) -> tuple[int, int]:
    """Which file the table at `path` is now; (0, 0) when there is none."""
    try:
        found = os.stat(os.path.join(path, "data.mdb"))
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


ENVIRONMENTS = Environments()
