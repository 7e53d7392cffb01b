"""
Ending all that a command has started, from the process that adopts its orphans.

Only unreaped children of ours, and groups that one of them is in, are signalled: those numbers cannot mean anybody
else as long as only we reap. What is below them comes to us when they die, so we look again until there is nobody.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, kill(2), wait(2), pid_namespaces(7), cgroups(7).
"""

from __future__ import annotations

import os
import select
import signal
import time


def children() -> list[int]:
    """Our children, adopted and dead ones included, oldest first."""
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb", buffering=0) as listing:
            return [int(found) for found in listing.readall().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [found for found in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(found) == pid]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            return int(stat.readall().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def kill_child(pid: int) -> None:
    """SIGKILL to a child of ours that is not reaped, and to its process group, all at once, unless that is ours."""
    try:
        group = os.getpgid(pid)
        if group != os.getpgrp():
            os.killpg(group, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # its members run under another user, who is not ours to signal


def kill_group(group_fd: int) -> None:
    """SIGKILL to everything in a control group, at once, where the kernel can do that (Linux 5.14)."""
    try:
        fd = os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group_fd)
    except OSError:
        return
    try:
        os.write(fd, b"1")
    except OSError:
        pass
    finally:
        os.close(fd)


def group_number(group_fd: int, file: str, key: str = "") -> int:
    """A number that a control group tells, or one of a file of `key number` lines; 0 where it tells none."""
    if group_fd < 0:
        return 0
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=group_fd)
        with os.fdopen(fd, "rb") as text:
            lines = [line.split() for line in text.read().splitlines()]
        return next((int(line[-1]) for line in lines if not key or line[0] == key.encode()), 0)
    except (OSError, ValueError):
        return 0


def end_all(group_fd: int, *, is_first: bool, within_s: float) -> bool:
    """
    Kill and reap everybody below us. `is_first`: we are the first process of a pid namespace, and all in it are ours.

    Returns:
        Whether nobody is left; False when somebody does not die within `within_s` seconds.
    """
    end_s = time.monotonic() + within_s
    while True:
        if group_fd >= 0:
            kill_group(group_fd)
        if is_first:
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            for pid in children():
                kill_child(pid)
        try:
            if not _reap_one(end_s):
                return False
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True


def _reap_one(end_s: float) -> bool:
    """Wait until some child is dead, and reap it; False when none is by then. Raises ChildProcessError without any."""
    if os.waitpid(-1, os.WNOHANG)[0]:
        return True
    # All were sent a SIGKILL, so each is as good as any.
    poll = select.poll()
    opened = []
    try:
        for pid in children()[:64]:
            opened.append(os.pidfd_open(pid))
            poll.register(opened[-1], select.POLLIN)
        return bool(poll.poll(max(0.0, end_s - time.monotonic()) * 1000)) or end_s > time.monotonic()
    finally:
        for fd in opened:
            os.close(fd)
