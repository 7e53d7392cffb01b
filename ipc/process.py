"""
Which process is meant, beyond doubt: a pid together with the moment at which that process began.

Source: pidfd_open(2), proc_pid_stat(5).
"""

from __future__ import annotations

import os


def start_time(pid: int) -> int:
    """
    When the process began, in clock ticks since boot; 0 when there is none.

    A zombie has its start time still; `open_pidfd` tells that it is dead.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            text = stat.read(4096)
    except OSError:
        return 0
    # The name in parentheses may hold anything; the fields after its end do not.
    return int(text[text.rindex(b")") + 2 :].split(b" ", 20)[19])


def open_pidfd(pid: int, started: int) -> int:
    """
    A descriptor of exactly that process, readable once it is dead; -1 when it is gone.

    The start time is compared after the descriptor is open: then the pid cannot have been used again in between.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return -1
    if start_time(pid) != started:
        os.close(fd)
        return -1
    return fd
