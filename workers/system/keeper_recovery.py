"""
After a loss of power: which state the store goes back to, by the level at which it was in use then.

`full`: nothing is to be done, as every commit waited for the disk. `system`: the last steady point. `process`: the
newest snapshot; the file as the power left it is kept aside, and may hold more for whoever looks into it.

Source: architecture section 7; docs on levels in `regrow.workers.system.keeper_steady`.
"""

from __future__ import annotations

import os
import shutil
import time

from regrow.config.spec import Durability
from regrow.ipc import meta_page
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import DATA, SteadyFile, sync_file, sync_folder
from regrow.ipc.meta_page import BadMeta, Meta
from regrow.workers.system import keeper_snapshots
from regrow.workers.system.keeper_walk import walk

RESTORE = "restore a backup (`regrow state restore`), or move it away to begin anew"


def after_power_loss(folder: str, snapshots: str, durability: Durability) -> tuple[str, ...]:
    """
    Make the store fit for use again; says what was done, for the operator. May be interrupted and repeated.

    Raises:
        StoreUnusable: there is nothing certain to go back to; nothing was changed.
        OSError.
    """
    if durability is Durability.SYSTEM:
        return (_to_steady_point(folder),)
    if durability is Durability.PROCESS:
        return (_to_snapshot(folder, snapshots),)
    return ()


def _to_steady_point(folder: str) -> str:
    path = os.path.join(folder, DATA)
    steady = SteadyFile(folder)
    try:
        meta = steady.newest()
    finally:
        steady.close()
    if meta is None:
        raise StoreUnusable(path, "the power failed, and no steady point is known to go back to", RESTORE)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        latest = _latest(fd)
        meta_page.put_back(fd, meta)
    finally:
        os.close(fd)
    lost = latest - meta.txnid
    later = f"; {lost} later commits are lost" if lost > 0 else ""
    return f"the power failed: {path} is as of its last steady point{later}"


def _latest(fd: int) -> int:
    try:
        return meta_page.read(fd).txnid
    except BadMeta:
        return 0


def _to_snapshot(folder: str, snapshots: str) -> str:
    path = os.path.join(folder, DATA)
    found = next((snapshot for snapshot in keeper_snapshots.listed(snapshots) if not fault_in(snapshot)), None)
    if found is None:
        raise StoreUnusable(path, f"the power failed, and {snapshots} holds no snapshot to go back to", RESTORE)
    aside = unused(f"{path}.{time.strftime('%Y-%m-%d', time.gmtime())}")
    replace_file(found, path, aside)
    taken = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(os.stat(found).st_mtime))
    return f"the power failed: {path} is as of its snapshot of {taken}; the file that was in use is kept as {aside}"


def replace_file(source: str, path: str, aside: str) -> None:
    """
    Put a copy of `source` in the place of `path`, which is kept as `aside`; at no moment is neither there.

    Raises:
        OSError: no room; `path` is as it was.
    """
    fresh = f"{path}.new"
    try:
        shutil.copyfile(source, fresh)
        shutil.copymode(path, fresh)
        sync_file(fresh)
        os.link(path, aside)
        os.rename(fresh, path)
    finally:
        if os.path.exists(fresh):
            os.unlink(fresh)
    sync_folder(os.path.dirname(path))


def fault_in(path: str, *, deep: bool = True) -> str:
    """
    What is wrong with an LMDB file, empty when nothing is.

    `deep`: go through all of it. Otherwise only what can be told at once, and all of it where that leaves doubt.

    Raises:
        OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        meta = meta_page.read(fd)
        short = os.fstat(fd).st_size < meta.file_bytes
        if not deep and not short:
            return ""
        faults = walk(fd, meta).faults
        if faults and short:
            return f"it is truncated: {os.fstat(fd).st_size} bytes of {meta.file_bytes}"
        return f"it is damaged: {faults[0]}" if faults else ""
    except BadMeta as error:
        return str(error)
    finally:
        os.close(fd)


def make_long_enough(path: str, meta: Meta) -> None:
    """
    LMDB maps pages that a transaction took and gave back unused, though they were never written: let them be there.

    Raises:
        OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size < meta.file_bytes:
            os.ftruncate(fd, meta.file_bytes)
    finally:
        os.close(fd)


def unused(path: str) -> str:
    """The first of `path` and `path` with a number behind it at which there is nothing."""
    number, found = 1, path
    while os.path.exists(found):
        number, found = number + 1, f"{path}.{number + 1}"
    return found
