"""
Making the store and what lies beside it, and letting in those who use it.

Source: LMDB's mdb_env_open; acl(5).
"""

from __future__ import annotations

import os
import resource
import time
from typing import TYPE_CHECKING

from regrow.ipc import acl
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import DATA, FORMAT, LOCK, put_meta, sync_folder
from regrow.ipc.store import DATABASES, MAX_READERS, SIGNS, SIGNS_BYTES
from regrow.workers.system.keeper_place import ELSEWHERE, Place

if TYPE_CHECKING:
    import lmdb

MAPS = 4
"""So many times over a map has room below a limit of the address space: what else a process has needs some too."""

MAP_SIZES = (1 << 40, 1 << 38, 1 << 36, 1 << 34, 1 << 32, 1 << 30)
"""
The address space that everybody gives the store, the first that is to be had: it takes neither memory nor disk.

A map that is too small has to be made anew, which ends all read transactions of the process: in the keeper, the pin.
"""


def probe(folder: str) -> None:
    """
    A file system that is full or read-only is told of now, and not by the first commit.

    Raises:
        OSError.
    """
    path = os.path.join(folder, "probe")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, bytes(4 * 4096))
        os.fdatasync(fd)
    finally:
        os.close(fd)
        os.unlink(path)


def make(place: Place) -> None:
    """
    A new store: elsewhere first, so that there is never half of one.

    Raises:
        StoreUnusable, OSError.
    """
    import lmdb

    fresh = os.path.join(place.folder, "new")
    os.makedirs(fresh, mode=0o700, exist_ok=True)
    for name in (DATA, LOCK):
        if os.path.exists(path := os.path.join(fresh, name)):
            os.unlink(path)
    try:
        _fill(fresh, place.daemon)
    except lmdb.Error as error:
        raise StoreUnusable(place.folder, f"it cannot be made: {error}", ELSEWHERE) from None
    os.rename(os.path.join(fresh, DATA), place.data)
    os.unlink(os.path.join(fresh, LOCK))
    os.rmdir(fresh)
    sync_folder(place.folder)
    sync_folder(place.state_dir)


def _fill(folder: str, daemon: str) -> None:
    """What is in a store from the beginning, on disk when this returns."""
    with _new_env(folder) as env:
        databases = [env.open_db(name.encode()) for name in DATABASES]
        with env.begin(write=True) as txn:
            meta = databases[DATABASES.index("meta")]
            put_meta(txn, meta, "format", FORMAT)
            put_meta(txn, meta, "name", daemon)
            put_meta(txn, meta, "id", os.urandom(16).hex())
            put_meta(txn, meta, "created", time.time())


def _new_env(folder: str) -> lmdb.Environment:
    import lmdb

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    for size in MAP_SIZES:
        if limit != resource.RLIM_INFINITY and size > limit // MAPS and size != MAP_SIZES[-1]:
            continue
        try:
            return lmdb.open(folder, map_size=size, max_dbs=len(DATABASES), mode=0o600)
        except lmdb.MemoryError:
            if size == MAP_SIZES[-1]:
                raise
    raise AssertionError("internal error: no sizes")


_LOCK_BYTES = 64 * (MAX_READERS + 8)
"""LMDB's table of readers: its head, and a line of the cache for each."""


def make_signs(folder: str) -> None:
    """
    What all who have the store open share; never made anew, because they have it mapped.

    It has its room on the disk from the beginning: who touches a mapped page for which there is none gets SIGBUS.

    Raises:
        OSError: there is no room.
    """
    for name, size in ((SIGNS, SIGNS_BYTES), (LOCK, _LOCK_BYTES)):
        fd = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)


def admit(folder: str) -> tuple[str, ...]:
    """
    Let in who may send messages: they use the store themselves. Others do not see what is in it.

    Source: `regrow.daemon.commons`, which says so in `REGROW_MAILBOX`.
    """
    listed = [word for word in os.environ.get("REGROW_MAILBOX", "").split(",") if word]
    own = {0, os.geteuid()}
    users = {int(word[1:]) for word in listed if word.startswith("u")} - own
    groups = {int(word[1:]) for word in listed if word.startswith("g")}
    try:
        acl.permit(folder, 7, dict.fromkeys(users, 1), dict.fromkeys(groups, 1))
        for name in (DATA, LOCK, SIGNS):
            acl.permit(os.path.join(folder, name), 6, dict.fromkeys(users, 6), dict.fromkeys(groups, 6))
    except OSError as error:
        if users or groups:
            why = error.strerror or str(error)
            return (f"only the daemon's own user and root can use the store {folder}: {why}; {ELSEWHERE}",)
    return ()
