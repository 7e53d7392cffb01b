"""
Descriptors and memory of a process, as the kernel counts them.

Source: proc_pid_fd(5), /proc/PID/smaps_rollup in proc_pid_smaps(5), proc_pid_status(5).
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct


class Size(Struct, frozen=True):
    """
    One process. `anonymous` is what it or those it was forked from have written; `private` what nobody shares with it.
    """

    descriptors: int
    private_bytes: int
    anonymous_bytes: int


def descriptors(pid: int) -> dict[str, str]:
    """Open descriptors by number, and what they refer to."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def size(pid: int) -> Size:
    """The size of a process. Raises FileNotFoundError or ProcessLookupError when it is gone."""
    # What commands are started with is made when it is first needed, after a re-execution again: 16 at most.
    count = sum(not target.startswith("/memfd:") for target in descriptors(pid).values())
    sums: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sums[name] = int(rest.split()[0]) * 1024
    return Size(count, sums["Private_Clean"] + sums["Private_Dirty"], sums["Anonymous"])


def switches(pid: int) -> int:
    """How often the process has given up or lost a CPU: each wake-up ends in one more."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)
