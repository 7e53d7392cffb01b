"""
What can go wrong in the daemon, by who must act.

    RegrowError
    ├─ SpawnError        the kernel or the machine: no process could be made, with stage and errno
    ├─ RunDirError       the operator: run_dir cannot be used, or another daemon holds it
    └─ ListenError       the operator: a socket of the file cannot be had

Bad configuration is `regrow.config.errors.ConfigErrors`; refusals of requests are values (`core.effects.Refuse`).
"""

from __future__ import annotations

import errno as errno_names
import os


class RegrowError(Exception):
    """Base of what the daemon itself raises."""


class SpawnError(RegrowError):
    """No process was made, or it failed before its program ran; `stage` says where."""

    def __init__(self, stage: str, errno: int, subject: str = "") -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        where = f"{stage} {subject}" if subject else stage
        super().__init__(f"cannot {where}: {os.strerror(errno)} ({name})")
        self.stage = stage
        self.errno = errno
        self.subject = subject


class RunDirError(RegrowError):
    """The run_dir cannot be used; the message says why and what to do."""


class ListenError(RegrowError):
    """The daemon cannot listen where the file says; the message says where, why, and what to do."""
