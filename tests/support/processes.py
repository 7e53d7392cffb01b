"""What the test process has under it: children (also adopted ones) and open descriptors."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans below this process become its own children, so that a test cannot lose one (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def has_children() -> bool:
    """Whether this process has any child, dead or alive. One system call; reaps nothing."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children() -> set[int]:
    """Pids of all children of this process, dead ones that were not reaped included."""
    if not has_children():
        return set()
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except FileNotFoundError:
            continue  # that thread has just ended
    return found


def describe(pid: int) -> str:
    """The pid, its state and its command line, for a failure message."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} ({'zombie' if state == 'Z' else argv or state})"


def await_no_children(timeout_s: float = 10.0, keep: frozenset[int] = frozenset()) -> None:
    """
    Wait until no child but those in `keep` is left, reaping each as it dies. Orphans count as children.

    Raises:
        AssertionError naming those that live on after `timeout_s`. They are not signalled.
    """
    deadline_s = time.monotonic() + timeout_s
    while pids := children() - keep:
        pid = min(pids)
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
                raise AssertionError(f"still there after {timeout_s} s: {', '.join(map(describe, sorted(pids)))}")
            os.waitid(os.P_PID, pid, os.WEXITED)
        finally:
            os.close(pidfd)


def kill_children(pids: set[int]) -> None:
    """SIGKILL these children of ours and reap them, with whatever falls to us when they die."""
    keep = frozenset(children() - pids)
    while left := children() - keep:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED)


def descriptors() -> set[int]:
    """Numbers of this process's open descriptors."""
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return {int(name) for name in os.listdir(listing)} - {listing}
    finally:
        os.close(listing)


def describe_descriptor(number: int) -> str:
    """The number and what it refers to, for a failure message."""
    try:
        return f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}"
    except OSError:
        return f"{number} (closed meanwhile)"
