"""
Where the store of a daemon is, whose it is now, and whether somebody else uses it.

Source: fcntl(2) on record locks: LMDB holds one on the first byte of its lock file for as long as it is open.
"""

from __future__ import annotations

import os
import select

import msgspec
from msgspec import Struct

from regrow.config.spec import Durability
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import DATA, LOCK, SNAPSHOTS, Owner
from regrow.ipc.process import boot_id, lock_holder, open_pidfd, start_time
from regrow.ipc.store import FOLDER

ELSEWHERE = "choose another [daemon] state_dir"


class Place(Struct, frozen=True):
    """Where the store of a daemon is, and whose: what the keeper is told."""

    daemon: str
    run_dir: str
    state_dir: str
    durability: Durability

    @property
    def folder(self) -> str:
        return os.path.join(self.state_dir, FOLDER)

    @property
    def data(self) -> str:
        return os.path.join(self.folder, DATA)

    @property
    def snapshots(self) -> str:
        return os.path.join(self.state_dir, SNAPSHOTS)


class _Root(Struct, frozen=True):
    """What `<run_dir>/identity` says of the root."""

    pid: int
    start: int


def own_identity(place: Place) -> Owner:
    """Of this daemon; outside of one, of this process."""
    try:
        with open(os.path.join(place.run_dir, "identity"), "rb") as file:
            root = msgspec.json.decode(file.read(), type=_Root)
    except FileNotFoundError:
        root = _Root(os.getpid(), start_time(os.getpid()))
    return Owner(
        daemon=place.daemon,
        run_dir=place.run_dir,
        pid=root.pid,
        start=root.start,
        boot_id=boot_id(),
        durability=place.durability,
    )


def is_same_root(one: Owner, other: Owner) -> bool:
    """Whether it is the same run of the same daemon."""
    return (one.pid, one.start, one.boot_id) == (other.pid, other.start, other.boot_id)


def refuse_other(place: Place, before: Owner | None, lost_power: bool) -> None:
    """Two daemons on one store, or a process that has it open while it is to be recovered."""
    if before is not None and before.boot_id == boot_id() and is_alive(before.pid, before.start):
        who = f"the daemon {before.daemon} at {before.run_dir} (pid {before.pid}) uses it"
        raise StoreUnusable(place.folder, who, f"stop it, or {ELSEWHERE}")
    user = user_of(place.folder)
    if user == 0 or (user is not None and lost_power):
        who = f"pid {user}" if user else "a process in another container"
        raise StoreUnusable(place.folder, f"{who} has it open", f"end it, or {ELSEWHERE}")


def is_alive(pid: int, start: int) -> bool:
    """Whether exactly that process lives. Raises OSError when it cannot be told."""
    fd = open_pidfd(pid, start)
    if fd < 0:
        return False
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(fd)


def user_of(folder: str) -> int | None:
    """
    A process that has the store open: its pid, 0 when it is in another container; None when nobody has.

    Only for a process that does not have it open: its own locks would be lost with the descriptor (fcntl(2)).
    """
    try:
        fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return locker(fd)
    finally:
        os.close(fd)


def locker(fd: int) -> int | None:
    """The same, of LMDB's lock file, open; this process does not count."""
    return lock_holder(fd, 1)
