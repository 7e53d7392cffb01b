"""
Ending all that a command has started, from the process that adopts its orphans.

Only unreaped children of ours, groups that one of them is in, and processes that a descriptor names are signalled: no
number can mean anybody else. What is below the dead comes to us, so we look again until there is nobody.

Whoever is stopped cannot fork, and goes on counting: so those who fork on and on are stopped first, down the tree until
all are, within the limit that they have reached; and then killed. Killed one by one, they would make room for others.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, kill(2), wait(2), pid_namespaces(7), cgroups(7).
"""

from __future__ import annotations

import os
import select
import signal
import time

from regrow.workers.system.commands_below import children_of, parent_of
from regrow.workers.system.commands_used import Used

STOP_ROUNDS = 100


def children() -> list[int]:
    """Our children, adopted and dead ones included, oldest first."""
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb", buffering=0) as listing:
            return [int(found) for found in listing.readall().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [found for found in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent_of(found) == pid]


def kill_all(pids: list[int]) -> None:
    """SIGKILL to these children of ours that are not reaped, to their process groups, and to all below them."""
    below = _stop_below(pids)
    for pid in pids:
        try:
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # its members run under another user, who is not ours to signal
    for pidfd in below.values():
        _signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _stop_below(pids: list[int]) -> dict[int, int]:
    """Stop all below these children of ours, and them, until there is nobody new. Returns descriptors by pid."""
    held: dict[int, int] = {}
    for _ in range(STOP_ROUNDS):
        level = [pid for pid in pids if _stop_child(pid)]
        known = set(held)
        while level:
            level = [
                pid for parent in level for pid in children_of(parent) if pid in held or _stop_one(pid, parent, held)
            ]
        if known == set(held):
            break
    return held


def _stop_child(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        return False
    return True


def _stop_one(pid: int, parent: int, held: dict[int, int]) -> bool:
    """Stop a process that is still a child of that stopped parent, which hence does not reap it."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False  # it is gone, or there are no more descriptors
    if parent_of(pid) != parent or not _signal(pidfd, signal.SIGSTOP):
        os.close(pidfd)
        return False
    held[pid] = pidfd
    return True


def _signal(pidfd: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    return True


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


def end_all(group_fd: int, used: Used, *, is_first: bool, within_s: float) -> bool:
    """
    Kill and reap everybody below us. `is_first`: we are the first process of a pid namespace, and all in it are ours.
    What they have used is added to `used`.

    Returns:
        Whether nobody is left; False when somebody does not die within `within_s` seconds.
    """
    end_s = time.monotonic() + within_s
    while not _nobody():
        if group_fd >= 0:
            kill_group(group_fd)
        if is_first:
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            kill_all(children())
        try:
            if not _reap_one(used, end_s):
                return False
            while used.bury(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
    return True


def _nobody() -> bool:
    """Whether we have no child at all, not even a dead one."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _reap_one(used: Used, end_s: float) -> bool:
    """Wait until some child is dead, and reap it; False when none is by then. Raises ChildProcessError without any."""
    if used.bury(-1, os.WNOHANG)[0]:
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
