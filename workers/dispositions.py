"""
What a process does about signals, set without the wrappers of Python's `signal`.

These turn every number into a member of an enumeration and back. For a number that is none, as most handlers are, that
is an exception with a text: some 50 pages that a fork shared until then, 0.1 ms.

Source: Python's signal.py, which wraps _signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, Any], object] | int | None
"""A function, or SIG_DFL or SIG_IGN as plain numbers; None: not set by Python."""

_plain = import_module("_signal")

set_handler: Callable[[int, Handler], Handler] = _plain.signal
"""As `signal.signal`."""

set_mask: Callable[[int, Iterable[int]], set[int]] = _plain.pthread_sigmask
"""As `signal.pthread_sigmask`."""
