"""
Signals to children that have not been reaped.

An unreaped child keeps its pid, and only its supervisor reaps it: while it is held, the number can mean nobody
else, and a plain kill is as exact as one through a pidfd.

Source: kill(2), wait(2).
"""

from __future__ import annotations

import os


def kill_group(pid: int, number: int) -> None:
    """Signal the process group that the child leads, or the child alone before it has one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        send(pid, number)
    except PermissionError:
        pass  # every member runs a setuid program: the kernel has the last word


def send(pid: int, number: int) -> None:
    """Signal the child itself; that it is dead already is no error."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
