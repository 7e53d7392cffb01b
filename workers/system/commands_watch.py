"""
One epoll, and what to do about each descriptor in it.

Source: epoll(7).
"""

from __future__ import annotations

import select
from collections.abc import Callable

IN, OUT = select.EPOLLIN, select.EPOLLOUT
GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Watch:
    """`call` of a descriptor is given the events that have come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}

    def add(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        self._epoll.register(fd, events)
        self._calls[fd] = call
        self._events[fd] = events

    def want(self, fd: int, events: int) -> None:
        """Wait for other events of it from now on; nothing happens if it is not waited for at all."""
        if self._events.get(fd, events) != events:
            self._epoll.modify(fd, events)
            self._events[fd] = events

    def forget(self, fd: int) -> None:
        """Before it is closed; idempotent."""
        if self._calls.pop(fd, None) is not None:
            del self._events[fd]
            self._epoll.unregister(fd)

    def turn(self, longest_s: float | None) -> None:
        """Wait for events, and make the calls."""
        for fd, events in self._epoll.poll(longest_s):
            call = self._calls.get(fd)
            if call is not None:
                call(events)

    def close(self) -> None:
        self._epoll.close()
