"""
Which process is meant, beyond doubt: a pid together with the moment at which that process began.

Source: pidfd_open(2), proc_pid_stat(5).
"""

from __future__ import annotations

import errno
import os
from functools import cache

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


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
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            text = stat.read(4096)
    except OSError as error:
        if is_shortage(error):
            raise
        return 0
    # The name in parentheses may hold anything; the fields after its end do not.
    return int(text[text.rindex(b")") + 2 :].split(b" ", 20)[19])


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
