"""
Python stacks of a worker that hangs: written when its supervisor asks, whatever the worker is doing.

The supervisor sends SIGUSR1 before it kills. The handler is faulthandler's, in C: it needs neither the interpreter nor
its lock, so it works in an endless loop, in a system call, and in a C function that never returns.

Source: Python's faulthandler.
"""

from __future__ import annotations

import faulthandler
import signal

ASK = signal.SIGUSR1
"""Asks a worker for its stacks; a worker that has a handler of its own for it is left without."""


def register(fd: int) -> None:
    """From now on write the stacks of all threads to `fd` (non-blocking: nobody may be reading) for each `ASK`."""
    faulthandler.register(ASK, file=fd, all_threads=True, chain=False)
