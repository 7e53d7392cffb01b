"""
What a process does about signals, set without the wrappers of Python's `signal`.

These turn every number into a member of an enumeration and back. For a number that is none, as most handlers are, that
is an exception with a text: some 50 pages that a fork shared until then, 0.1 ms.

Source: Python's signal.py, which wraps _signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from signal import SIG_BLOCK, SIG_SETMASK, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, Any], object] | int | None
"""A function, or SIG_DFL or SIG_IGN as plain numbers; None: not set by Python."""

_plain = import_module("_signal")

set_handler: Callable[[int, Handler], Handler] = _plain.signal
"""As `signal.signal`."""

set_mask: Callable[[int, Iterable[int]], set[int]] = _plain.pthread_sigmask
"""As `signal.pthread_sigmask`."""

_FAULTS = {int(each) for each in (SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS)}
_LATER = frozenset(_plain.valid_signals()) - _FAULTS


@contextmanager
def held_back() -> Iterator[None]:
    """Whatever signal comes meanwhile to this thread has come afterwards; but for those that say that it is broken."""
    before = set_mask(SIG_BLOCK, _LATER)
    try:
        yield
    finally:
        set_mask(SIG_SETMASK, before)
