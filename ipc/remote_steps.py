"""
What takes its time in a remote client, said once for programs with threads and for those with an event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Awaited(Protocol):
    """What can be waited for, by threads and by event loops."""

    @property
    def done(self) -> bool: ...

    def wait_until_done(self, timeout_s: float) -> object:
        """Return when it is done, after `timeout_s` seconds at most."""

    def tell(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, by any thread, once or more often when it is done; at once if it is."""

    def tell_no_more(self, callback: Callable[[], None]) -> None: ...


Steps: TypeAlias = Generator[tuple[Awaited, float], None, T]
"""Yields what is to be waited for, with the seconds that are given to it, and returns the result."""


def finish(steps: Steps[T]) -> T:
    """Take the steps; this thread waits."""
    try:
        while True:
            awaited, timeout_s = next(steps)
            awaited.wait_until_done(timeout_s)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()  # whoever is interrupted gives up what was begun


class Once:
    """Something that happens once, when `happen` is called."""

    __slots__ = ("_callbacks", "_event")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def wait_until_done(self, timeout_s: float) -> object:
        return self._event.wait(min(timeout_s, threading.TIMEOUT_MAX))

    def tell(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        if self._event.is_set():  # who has set it may have looked before
            callback()

    def tell_no_more(self, callback: Callable[[], None]) -> None:
        self._callbacks.remove(callback)

    def happen(self) -> None:
        self._event.set()
        for callback in tuple(self._callbacks):
            callback()
