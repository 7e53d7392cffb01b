"""The descriptors that the hub waits for besides its sockets: processes, the root, its own messages, signals."""

from __future__ import annotations

import os
import select
from collections.abc import Callable


class Watch:
    """One epoll, and what to do about each descriptor in it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, fd: int, call: Callable[[], None]) -> None:
        """Call whenever `fd` is readable."""
        self._epoll.register(fd, select.EPOLLIN)
        self._calls[fd] = call

    def remove(self, fd: int) -> None:
        """Forget it; before it is closed."""
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self) -> None:
        """Call for those that are readable now."""
        for fd, _ in self._epoll.poll(0):
            call = self._calls.get(fd)
            if call is not None:
                call()

    def close(self) -> None:
        self._epoll.close()


class Death:
    """Tells once that a process is dead; owns the pidfd. `call` is made by the watch, never by `__init__`."""

    def __init__(self, watch: Watch, pidfd: int, call: Callable[[], None]) -> None:
        self._watch = watch
        self._pidfd = pidfd
        self._call = call
        watch.add(pidfd, self._died)

    def _died(self) -> None:
        if self.cancel():
            self._call()

    def cancel(self) -> bool:
        """Tell no more; whether there was still something to tell."""
        if self._pidfd < 0:
            return False
        self._watch.remove(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        return True
