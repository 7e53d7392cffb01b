"""
Removing what the dead have left in run_dir: their records in the names table, their mailboxes and their bells.

Neither does harm, as who is dead has no name; but a daemon that runs for months would fill its memory with them. It is
for one process of a daemon to do, and for a thread of it: a writer of the table that is stopped (SIGSTOP) holds up
every other one.

Source: architecture section 6; pidfd_open(2), unix(7).
"""

from __future__ import annotations

import os
import re
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from regrow.ipc.bell import SUFFIX
from regrow.ipc.names import Names, Record
from regrow.ipc.process import start_time

if TYPE_CHECKING:
    import lmdb

BATCH = 64
"""Records that are read, judged and removed at once: about a millisecond."""

FRESH_S = 60.0
"""A file this young is left alone: a socket has a file an instant before somebody can listen at it."""

FIRST = b"\1"
"""Where the names begin; before it is what others keep beside them."""

Item = tuple[bytes, bytes]

_decode = msgspec.msgpack.Decoder(Record).decode
_is_mailbox = re.compile(rf".+\.[0-9]+\.[0-9a-f]{{8}}({re.escape(SUFFIX)})?", re.DOTALL).fullmatch


def sweep(names: Names, mbox_folder: str, goes_on: Callable[[], bool] = lambda: True) -> tuple[int, int]:
    """
    Remove the records and the sockets of processes that are dead; returns how many of each.

    What cannot be said to be a dead one's stays. `goes_on` is asked now and then; once it says no, the rest stays too.

    Raises:
        lmdb.Error: the table is gone, or not ours to write; OSError: so is the folder, or descriptors have run out.
    """
    living: set[str] = set()
    with names.borrowed() as env:
        env.reader_check()
        records, last = 0, b""
        while goes_on() and (batch := _read(env, last)):
            last = batch[-1][0]
            dead = [item for item in batch if _is_left_behind(item[1], living)]
            records += _remove(env, dead)
    folder = os.open(mbox_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files = 0
        for file in os.listdir(folder):
            if not goes_on():
                break
            if file.removesuffix(SUFFIX) not in living and _is_mailbox(file):
                files += _unlink_unheard(folder, file)
        return records, files
    finally:
        os.close(folder)


def _read(env: lmdb.Environment, last: bytes) -> list[Item]:
    """The next records after `last`; "" is before all of them."""
    batch: list[Item] = []
    with env.begin() as txn, txn.cursor() as cursor:
        if cursor.set_range(last or FIRST):
            for key, value in cursor:
                if key != last:
                    batch.append((bytes(key), bytes(value)))
                if len(batch) == BATCH:
                    break
    return batch


def _is_left_behind(value: bytes, living: set[str]) -> bool:
    """Whether this record is a dead process's; the mailbox of any other is noted among the living."""
    try:
        record = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False  # nobody's, that anybody could tell
    if is_surely_dead(record):
        return True
    living.add(record.mailbox)
    return False


def _remove(env: lmdb.Environment, dead: list[Item]) -> int:
    """Remove these records, except those that are others by now."""
    if not dead:
        return 0
    with env.begin(write=True) as txn:
        return sum(txn.delete(key) for key, value in dead if txn.get(key) == value)


def is_surely_dead(record: Record) -> bool:
    """Whether the kernel says so; unlike `not is_alive()`, False where it could not be asked."""
    try:
        fd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    try:
        started = start_time(record.pid)
        if started and started != record.started:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))
    except OSError:
        return False
    finally:
        os.close(fd)


def _unlink_unheard(folder: int, file: str) -> bool:
    """Remove a mailbox at which nobody listens; whether it was one."""
    try:
        found = os.lstat(file, dir_fd=folder)
        if not stat.S_ISSOCK(found.st_mode) or time.time() - found.st_mtime < FRESH_S or _is_heard(folder, file):
            return False
        os.unlink(file, dir_fd=folder)
    except (FileNotFoundError, PermissionError):
        return False  # another has removed it; or may, but this user may not
    return True


def _is_heard(folder: int, file: str) -> bool:
    """Whether somebody listens at this socket, or may do so."""
    kind = socket.SOCK_DGRAM if file.endswith(SUFFIX) else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as probe:
        try:
            # sun_path holds 107 bytes; a descriptor makes a short name of any folder.
            probe.connect(f"/proc/self/fd/{folder}/{file}")
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # a full queue, or a refusal that says nothing about who is there
    return True
