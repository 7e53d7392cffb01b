"""
What a worker and its runner that were killed at the same moment have left of a command, which our supervisor has
adopted and cannot tell from others': ended before another worker serves.

Ours is who is a child of our supervisor and works in the directory of a command: nobody else can be both.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, proc_pid_cwd(5), pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import signal
import time

from regrow.workers.system.commands_below import children_of

END_S = 2.0


def end_survivors(folder: str) -> None:
    """Kill them and wait until they are dead, for a bounded time."""
    end_s = time.monotonic() + END_S
    while found := _survivors(folder):
        poll = select.poll()
        for pidfd in found:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                poll.register(pidfd, select.POLLIN)
            except OSError:
                pass  # it is dead already, or not ours to signal
        poll.poll(max(0.0, end_s - time.monotonic()) * 1000)
        for pidfd in found:
            os.close(pidfd)
        if time.monotonic() > end_s:
            return


def _survivors(folder: str) -> list[int]:
    """Descriptors of them. What is below one comes to our supervisor when it dies: hence the loop above."""
    found = []
    for pid in children_of(os.getppid()):
        if pid != os.getpid() and _works_in(pid, folder):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            if _works_in(pid, folder):  # still the one that was looked at
                found.append(pidfd)
            else:
                os.close(pidfd)
    return found


def _works_in(pid: int, folder: str) -> bool:
    try:
        place = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
    except OSError:
        return False  # dead, a zombie included
    return place == folder or place.startswith(folder + "/")
