"""
What the kernel says of a process: memory, processor time, wake-ups.

Source: proc_pid_smaps(5) for smaps_rollup, proc_pid_stat(5), proc_pid_status(5).
"""

from __future__ import annotations

import os
from pathlib import Path


def private_kib(pid: int) -> int:
    """Memory that is this process's alone (Private_Clean + Private_Dirty), in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def cpu_ticks(pid: int) -> int:
    """Processor time used so far, user and system, in clock ticks (10 ms as a rule)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wake_ups(pid: int) -> int:
    """How often the process has gone to sleep by itself, and so has been woken."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/status has no voluntary_ctxt_switches")


def descriptors(pid: int) -> int:
    """How many descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
