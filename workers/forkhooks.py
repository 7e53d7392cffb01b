"""
Loading modules of Python's into a supervisor without the price of their fork hooks.

That of `threading` brings its books up to date in a forked child whose parent had other threads. A supervisor has
none, so its books are right as they are; and the hook costs each child some 120 page faults, 0.3 ms, before its
first line. That of `random`, which zmq loads, gives the child numbers of its own: 40 page faults, of which half are
Python's way to the generator. Workers get the hooks back before user code runs, for the forks that they make.

Source: Python's threading._after_fork, random._inst.seed, os.register_at_fork.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

_held_back: list[dict[str, Callable[[], object]]] = []
_seeding = False


def _load(module: str) -> bool:
    """Import it, keeping back what it registers. False: nothing to do, it is loaded already."""
    if module in sys.modules:
        return False
    register = os.register_at_fork

    def keep(**hooks: Any) -> None:
        _held_back.append(hooks)

    os.register_at_fork = keep
    try:
        import_module(module)
    finally:
        os.register_at_fork = register
    return True


def load_random() -> None:
    """Import `random`, before anything else does, where it is needed anyway."""
    global _seeding
    _seeding = _load("random") or _seeding


def restore() -> None:
    """Register what was kept back, in the process that will run user code, and give it random numbers of its own."""
    global _seeding
    while _held_back:
        os.register_at_fork(**_held_back.pop())
    seed()
    _seeding = False


def seed() -> None:
    """Give a supervisor random numbers of its own, where user code is to run in it: it has those of its parent."""
    if _seeding:
        _seed_anew()


def _seed_anew() -> None:
    """What `random` does after a fork, and would do to the generator in its own time."""
    import _random
    import random

    own = random.random.__self__  # type: ignore[attr-defined]
    _random.Random.seed(own)
    own.gauss_next = None


_load("threading")
