"""
Loading `threading` into a supervisor without the price of its fork hook.

The hook brings threading's books up to date in a forked child whose parent had other threads. A supervisor has
none, so its books are right as they are; and the hook costs each child some 120 page faults, 0.3 ms, before its
first line. Workers get the hook back before user code runs, for the forks that they make.

Source: Python's threading._after_fork, os.register_at_fork.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

_held_back: list[dict[str, Callable[[], object]]] = []


def _load_threading() -> None:
    """Import threading, keeping back what it registers; nothing to do where it is loaded already."""
    if "threading" in sys.modules:
        return
    register = os.register_at_fork

    def keep(**hooks: Any) -> None:
        _held_back.append(hooks)

    os.register_at_fork = keep
    try:
        import threading  # noqa: F401
    finally:
        os.register_at_fork = register


def restore() -> None:
    """Register what was kept back, in the process that will run user code."""
    while _held_back:
        os.register_at_fork(**_held_back.pop())


_load_threading()
