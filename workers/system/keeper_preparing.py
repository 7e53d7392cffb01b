"""
Before anybody opens the store: it is made, or what is there is looked at; what cannot be used is refused.

Nothing that is there is ever written over: who is refused can go to the regrow, the daemon or the backup that fits.
Until the first steady point stands, what is there is not changed either, except by the recovery from a loss of power.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from regrow.ipc import meta_page
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import FORMAT, OWNER, Owner, get_meta, read_owner
from regrow.ipc.store import DATABASES, MAX_READERS
from regrow.workers.system.keeper_making import admit, make, make_signs, probe
from regrow.workers.system.keeper_place import ELSEWHERE, Place, is_same_root, own_identity, refuse_other
from regrow.workers.system.keeper_recovery import RESTORE, after_power_loss, fault_in, make_long_enough

if TYPE_CHECKING:
    import lmdb

MORE_SPACE = "raise the limit of the address space (`ulimit -v`, systemd: LimitAS=)"


class Prepared(Struct, frozen=True):
    """
    The store can be opened. `notes` are for the operator, a line each.

    `before` is who had it last, None when it is new.
    """

    owner: Owner
    before: Owner | None
    store_id: str
    format: int
    notes: tuple[str, ...] = ()


@contextmanager
def beginning(place: Place) -> Iterator[None]:
    """
    Of two who begin with a store at once, one is refused: until this ends nobody else finds out that it is free.

    For whoever is going to use it, from before `prepare` until it is on record who has it.

    Raises:
        StoreUnusable.
    """
    try:
        os.makedirs(place.state_dir, mode=0o755, exist_ok=True)
        os.makedirs(place.folder, mode=0o700, exist_ok=True)
        fd = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreUnusable(error.filename or place.folder, error.strerror or str(error), _remedy(error)) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "another daemon or command begins with it at this moment"
            raise StoreUnusable(place.folder, why, f"try again, or {ELSEWHERE}") from None
        yield
    finally:
        os.close(fd)


def prepare(place: Place) -> Prepared:
    """
    Make the store, or see that the one which is there can be used.

    Raises:
        StoreUnusable: in one line what is the matter, where, and what to do.
    """
    try:
        return _prepare(place)
    except OSError as error:
        raise StoreUnusable(error.filename or place.folder, error.strerror or str(error), _remedy(error)) from None


def _prepare(place: Place) -> Prepared:
    os.makedirs(place.state_dir, mode=0o755, exist_ok=True)
    os.makedirs(place.folder, mode=0o700, exist_ok=True)
    probe(place.folder)
    mine, before = own_identity(place), read_owner(place.folder)
    continues = before is not None and is_same_root(before, mine)  # others may have it open
    lost_power = before is not None and not before.clean and before.boot_id != mine.boot_id
    if not continues:
        refuse_other(place, before, lost_power)
    notes: tuple[str, ...] = ()
    if not os.path.exists(place.data):
        _refuse_lost_data(place, before)
        make(place)
    elif not continues:
        if before is not None and lost_power:
            notes = after_power_loss(place.folder, place.snapshots, before.durability)
        _check_file(place)
    make_signs(place.folder)
    store_id, level = _check_content(place)
    return Prepared(mine, before, store_id, level, (*notes, *admit(place.folder)))


def _refuse_lost_data(place: Place, before: Owner | None) -> None:
    if before is not None:
        why = f"it is gone, and {os.path.join(place.folder, OWNER)} says that there was one"
        raise StoreUnusable(place.data, why, RESTORE)


def _check_file(place: Place) -> None:
    """LMDB reads it as memory: where the file ends too early, whoever reads there would be killed."""
    if fault := fault_in(place.data, deep=False):
        raise StoreUnusable(place.data, fault, RESTORE)
    fd = os.open(place.data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        make_long_enough(place.data, meta_page.read(fd))
    finally:
        os.close(fd)


def _check_content(place: Place) -> tuple[str, int]:
    """Whose it is and how it is laid out. Returns its id and its format."""
    import lmdb

    try:
        with open_env(place.folder) as env:
            meta = env.open_db(b"meta", create=False)
            for name in DATABASES:
                env.open_db(name.encode(), create=False)
            with env.begin() as txn:
                level, name, store_id = (get_meta(txn, meta, key) for key in ("format", "name", "id"))
    except lmdb.MemoryError:
        raise StoreUnusable(place.data, "there is too little address space for its map", MORE_SPACE) from None
    except (lmdb.Error, msgspec.MsgspecError) as error:
        raise StoreUnusable(place.data, f"it is no store of regrow, or it is damaged: {error}", RESTORE) from None
    if not isinstance(level, int) or not isinstance(store_id, str):
        raise StoreUnusable(place.data, "it is no store of regrow: it says neither its format nor its id", RESTORE)
    if level > FORMAT:
        why = f"its format is {level}, of a newer regrow; this one knows {FORMAT}"
        raise StoreUnusable(place.data, why, f"use that regrow, or {ELSEWHERE}")
    if name != place.daemon:
        raise StoreUnusable(place.data, f"it belongs to the daemon {name!r}, not {place.daemon!r}", ELSEWHERE)
    return store_id, level


def open_env(folder: str) -> lmdb.Environment:
    """The environment to look at, for who is alone. Raises lmdb.Error."""
    import lmdb

    return lmdb.open(
        folder,
        map_size=0,
        max_dbs=len(DATABASES) + 5,
        max_readers=MAX_READERS,
        create=False,
        sync=False,
        metasync=False,
    )


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there"
    return f"see to it, or {ELSEWHERE}"
