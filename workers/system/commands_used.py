"""
What a command has used, all its processes that have been waited for included.

Source: getrusage(2), wait4(2).
"""

from __future__ import annotations

import os


class Used:
    """Times are seconds; `peak_memory_bytes` is that of the process that needed most."""

    __slots__ = ("cpu_system_s", "cpu_user_s", "peak_memory_bytes")

    def __init__(self) -> None:
        self.cpu_user_s = 0.0
        self.cpu_system_s = 0.0
        self.peak_memory_bytes = 0

    def bury(self, pid: int, options: int = 0) -> tuple[int, int]:
        """As `os.waitpid`: (pid, status)."""
        found, status, used = os.wait4(pid, options)
        if found:
            self.cpu_user_s += used.ru_utime
            self.cpu_system_s += used.ru_stime
            self.peak_memory_bytes = max(self.peak_memory_bytes, used.ru_maxrss * 1024)
        return found, status
