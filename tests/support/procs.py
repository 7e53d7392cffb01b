"""What the kernel says about processes: the witness of the tests."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path


def pidfd(pid: int) -> int:
    """A descriptor of the process; raises ProcessLookupError when it is gone."""
    return os.pidfd_open(pid)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal through a pidfd, so that never a later owner of the number is hit."""
    fd = pidfd(pid)
    try:
        signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def wait_dead(pid: int, timeout_s: float) -> bool:
    """Wait until the process has ended (it may still be a zombie); False when the time is up."""
    try:
        fd = pidfd(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def is_dead(pid: int) -> bool:
    """Whether the process has ended, be it a zombie."""
    return wait_dead(pid, 0)


def state(pid: int) -> str:
    """The letter of proc(5), `""` for none: R, S, D, T, Z…"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def freeze(pid: int, timeout_s: float) -> None:
    """SIGSTOP, and return when the process has really stopped; only its state in proc(5) tells that to a stranger."""
    kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + timeout_s
    while state(pid) != "T":
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stop: {state(pid)}")
        os.sched_yield()


def carrying(text: str) -> dict[int, str]:
    """Live processes (not this one) whose arguments or environment hold `text`: pid -> arguments."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes()
            if text.encode() in arguments or text.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode(errors="replace")
    return found
