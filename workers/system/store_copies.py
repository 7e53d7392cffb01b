"""
Copies of a store, for its operator: a backup while it is in use, and another store in its place while it is not.

Source: LMDB's mdb_env_copyfd2 (MDB_CP_COMPACT).
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from regrow.ipc import meta_page
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import DATA, FORMAT, STEADY, get_meta, sync_folder
from regrow.ipc.store import DATABASES, SIGNS, Store
from regrow.workers.system.keeper_making import make_signs
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.keeper_recovery import fault_in, unused
from regrow.workers.system.store_site import claimed

if TYPE_CHECKING:
    import lmdb

ANOTHER = "name another file"


class Content(Struct, frozen=True):
    """What a store's file says of itself."""

    daemon: str
    store_id: str
    level: int


def back_up(store: Store, path: str) -> int:
    """
    Write what is committed now to a new file, as small as it can be; on disk when this returns. Returns its size.

    Raises:
        StoreUnusable: there is such a file; OSError: there is none more than before; StoreError.
    """
    folder = os.path.dirname(os.path.abspath(path))
    unfinished = os.path.join(folder, f".{os.path.basename(path)}.unfinished")
    if os.path.lexists(path):
        raise StoreUnusable(path, "it exists", f"nothing is written over: {ANOTHER}")
    fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _copy(store.env, fd, unfinished)
        os.fsync(fd)
        size = os.fstat(fd).st_size
        os.link(unfinished, path)  # unlike a rename, it replaces nothing
    finally:
        os.close(fd)
        os.unlink(unfinished)
    sync_folder(folder)
    return size


def content_of(path: str) -> Content:
    """
    What is in a file that is to become a store: all of it is looked at.

    Raises:
        StoreUnusable: it is none that this regrow can use; OSError.
    """
    if fault := fault_in(path):
        raise StoreUnusable(path, fault, ANOTHER)
    with _open(path) as (txn, databases):
        try:
            level, name, store_id = (get_meta(txn, databases["meta"], key) for key in ("format", "name", "id"))
        except msgspec.MsgspecError as error:
            raise StoreUnusable(path, f"it is no store of regrow: {error}", ANOTHER) from None
    if not isinstance(level, int) or not isinstance(name, str) or not isinstance(store_id, str):
        raise StoreUnusable(path, "it is no store of regrow: it does not say what it is", ANOTHER)
    if level > FORMAT:
        why = f"its format is {level}, of a newer regrow; this one knows {FORMAT}"
        raise StoreUnusable(path, why, "use that regrow")
    return Content(name, store_id, level)


@contextmanager
def _open(path: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    import lmdb

    try:
        with lmdb.open(
            path, subdir=False, readonly=True, lock=False, create=False, max_dbs=len(DATABASES) + 5, map_size=0
        ) as env:
            databases = {name: env.open_db(name.encode(), create=False) for name in DATABASES}
            with env.begin() as txn:
                yield txn, databases
    except lmdb.Error as error:
        raise StoreUnusable(path, f"it is no store of regrow: {error}", ANOTHER) from None


def restore(place: Place, path: str, *, rename: bool = False) -> str:
    """
    Put a copy of the file in the place of the store, which is kept; returns where, "" when there was none.

    Args:
        rename: it may belong to another daemon, and belongs to this one from now on.
    Raises:
        StoreUnusable: it is no store that can be used there, or somebody uses the one that is there.
        OSError: all is as it was.
    """
    found = content_of(path)
    if found.daemon != place.daemon and not rename:
        why = f"it is of the daemon {found.daemon!r}, not {place.daemon!r}"
        raise StoreUnusable(path, why, "to use it all the same: --force-name")
    os.makedirs(place.state_dir, mode=0o755, exist_ok=True)
    os.makedirs(place.folder, mode=0o700, exist_ok=True)
    make_signs(place.folder)
    ready = os.path.join(place.folder, f"{DATA}.restored")
    try:
        _copy_file(path, ready)
        if found.daemon != place.daemon:
            _name(ready, place.daemon)
        return put_in_place(place, ready)
    finally:
        if os.path.exists(ready):
            os.unlink(ready)


def compact(place: Place, store: Store) -> tuple[int, int]:
    """
    Write a file without free pages in the place of the one that is in use; its size before and after.

    `store` is the claimed store, and is shut by this.

    Raises:
        OSError: all is as it was.
    """
    ready = os.path.join(place.folder, f"{DATA}.compact")
    before = os.path.getsize(place.data)
    fd = os.open(ready, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _copy(store.env, fd, ready)
        os.fsync(fd)
        store.shut()
        os.rename(ready, place.data)
        bump_generation(place)
        sync_folder(place.folder)
    finally:
        os.close(fd)
        if os.path.exists(ready):
            os.unlink(ready)
    return before, os.path.getsize(place.data)


def put_in_place(place: Place, ready: str) -> str:
    """
    Let this file be the store; the one that was is kept. Returns where, "" when there was none.

    Raises:
        StoreUnusable: somebody uses it; OSError.
    """
    with claimed(place):
        aside = ""
        if os.path.exists(place.data):
            aside = unused(f"{place.data}.before-{time.strftime('%Y-%m-%d', time.gmtime())}")
            os.link(place.data, aside)
        with _steady_point_aside(place, aside):
            os.rename(ready, place.data)
        sync_folder(place.folder)
        bump_generation(place)
    return aside


@contextmanager
def _steady_point_aside(place: Place, aside: str) -> Iterator[None]:
    """It leads to pages of the file that was: after a loss of power, it must not be put into the other one."""
    steady, kept = os.path.join(place.folder, STEADY), f"{aside or place.data}.steady"
    if not os.path.exists(steady):
        yield
        return
    os.rename(steady, kept)
    try:
        sync_folder(place.folder)
        yield
    except OSError:
        os.rename(kept, steady)
        raise


def bump_generation(place: Place) -> None:
    """Whoever has the store open all the same opens it anew before he writes."""
    with open(os.path.join(place.folder, SIGNS), "r+b") as file, mmap.mmap(file.fileno(), 0) as signs:
        signs[1] = (signs[1] + 1) % 256


def _copy(env: lmdb.Environment, fd: int, path: str) -> None:
    """
    All that is committed, without free pages, into the file `path`, which `fd` is.

    LMDB numbers a copy's transactions from 1. Here they go on: the ordinals of posts are made of them, and are to be
    used once. (No page says of which transaction it is.)
    """
    import lmdb

    try:
        env.copyfd(fd, compact=True)
    except lmdb.IncompatibleError:  # pages that are neither free nor in use, as after a loss of power
        os.ftruncate(fd, 0)
        _copy_rows(env, path)
    meta_page.put_back(fd, msgspec.structs.replace(meta_page.read(fd), txnid=env.info()["last_txnid"]))


def _copy_rows(env: lmdb.Environment, path: str) -> None:
    import lmdb

    size = env.info()["map_size"]
    with lmdb.open(path, subdir=False, lock=False, max_dbs=len(DATABASES), map_size=size) as fresh:
        databases = [(env.open_db(name.encode(), create=False), fresh.open_db(name.encode())) for name in DATABASES]
        with env.begin(buffers=True) as txn, fresh.begin(write=True) as written:
            for source, target in databases:
                with txn.cursor(db=source) as rows, written.cursor(db=target) as put:
                    put.putmulti(rows, append=True)


def _copy_file(source: str, target: str) -> None:
    import shutil

    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(source, "rb") as read, os.fdopen(fd, "wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def _name(path: str, daemon: str) -> None:
    """Let the store of this file belong to another daemon."""
    import lmdb

    with lmdb.open(path, subdir=False, lock=False, create=False, max_dbs=len(DATABASES), map_size=0) as env:
        meta = env.open_db(b"meta", create=False)
        with env.begin(write=True) as txn:
            txn.put(b"name", msgspec.msgpack.encode(daemon), db=meta)
