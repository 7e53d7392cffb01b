"""
Which process is meant, beyond doubt: a pid together with the moment at which that process began.

Source: pidfd_open(2), proc_pid_stat(5), fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from functools import cache

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)


def is_shortage(error: OSError) -> bool:
    """Whether it says nothing of what was asked about, only that there is no descriptor or memory to ask with."""
    return error.errno in _SHORTAGES


def cannot_tell(error: OSError) -> str:
    """Why nobody knows whether a process lives, as a text."""
    why = error.strerror or str(error)
    return f"cannot tell whether it lives: {why[:1].lower()}{why[1:]}"


@cache
def boot_id() -> str:
    """The identity of this boot of the kernel: pids, and times since boot, of another mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """
    When the process began, in clock ticks since boot; 0 when there is none.

    A zombie has its start time still; `open_pidfd` tells that it is dead.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM: it cannot be told.
    """
    try:
        return int(stat_fields(pid)[19])
    except OSError as error:
        if is_shortage(error):
            raise
        return 0


def parent_of(pid: int) -> int:
    """
    The pid of its parent; 0 when that is in another pid namespace.

    Raises:
        OSError: there is no such process, or it cannot be told.
    """
    return int(stat_fields(pid)[1])


def stat_fields(pid: int) -> list[bytes]:
    """
    What /proc/PID/stat has behind the name of the program, which may hold anything: state, parent, group, and so on.

    Field N of proc_pid_stat(5) is at N - 3.

    Raises:
        OSError: there is no such process, or it cannot be told.
    """
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
        return stat.read(4096).rpartition(b")")[2].split()


def lock_holder(fd: int, first_bytes: int = 0) -> int | None:
    """
    Whose lock (fcntl(2)) keeps us from locking so many first bytes of a file, 0 meaning all of them; None: nobody's.

    The pid is 0 when that process cannot be seen from here. This process's own locks are in nobody's way.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, first_bytes, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def open_pidfd(pid: int, started: int) -> int:
    """
    A descriptor of exactly that process, readable once it is dead; -1 when it is gone.

    The start time is compared after the descriptor is open: then the pid cannot have been used again in between.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM: it cannot be told whether it lives.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        if is_shortage(error):
            raise
        return -1
    try:
        same = start_time(pid) == started
    except BaseException:
        os.close(fd)
        raise
    if not same:
        os.close(fd)
        return -1
    return fd
