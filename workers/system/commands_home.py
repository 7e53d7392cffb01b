"""
What a runner is born with: its namespaces, its limits, its share of the processors; and whether it has them still.

A command may have the rights to change the process that is its parent, or the mounts that it shares with it. The next
command must not find that.

Source: proc_pid_mountinfo(5), which poll(2) tells of; getrlimit(2), getpriority(2), sched(7), ioprio_set(2),
proc_pid_oom_score_adj(5), proc_pid_coredump_filter(5), proc_pid_timerslack_ns(5),
KEYCTL_SESSION_TO_PARENT(2const), pid_namespaces(7), memfd_create(2) on vm.memfd_noexec.
"""

from __future__ import annotations

import os
import resource
import select
from typing import Any

from regrow.workers import clone
from regrow.workers.system import commands_calls as calls
from regrow.workers.system.commands_job import Post
from regrow.workers.system.commands_space import furnish


class Home:
    """
    Furnished for the place of that post, whose first command works in `work_dir`. `holds_processes`: its limit of them.

    Raises:
        CannotIsolate.
    """

    def __init__(self, post: Post, work_dir: str) -> None:
        place = post.place
        self.holds_processes = furnish(place.isolate, place.spaces, work_dir, post.worker_ids, place.most_processes)
        self._is_common = place.is_common
        self._mounts: select.poll | None = None
        if self._is_common and place.spaces & clone.NEW_MOUNTS:
            self._mounts = select.poll()
            self._mounts.register(os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC), select.POLLPRI)
        self._files = [fd for path in _FILES if (fd := _open(path)) is not None] if self._is_common else []
        self._imprint = self._look() if self._is_common else ()

    def is_as_it_was(self) -> bool:
        """Whether another command may be run here."""
        return (
            self._is_common
            and self._imprint == self._look()
            and not (self._mounts is not None and self._mounts.poll(0))
        )

    def _look(self) -> tuple[Any, ...]:
        return (*_imprint(), *(_text(fd) for fd in self._files))


_FILES = (
    "/proc/self/cgroup",
    "/proc/self/oom_score_adj",
    "/proc/self/coredump_filter",
    "/proc/self/timerslack_ns",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/vm/memfd_noexec",
)
"""What the process has, and what its pid namespace has; the kernel may lack some."""


_LIMITS = range(16)
"""All that there are (RLIM_NLIMITS)."""


def _imprint() -> tuple[Any, ...]:
    """What others can change in this process, and what it hands down to its children."""
    limits = (resource.getrlimit(which) for which in _LIMITS)
    return (
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        os.sched_getparam(0).sched_priority,
        os.sched_getaffinity(0),
        calls.io_priority(),
        calls.session_keyring(),
        *limits,
    )


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _text(fd: int) -> bytes:
    try:
        return os.pread(fd, 4096, 0)
    except OSError:
        return b""
