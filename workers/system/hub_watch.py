"""The descriptors that the hub waits for besides its sockets: processes, the root, its own messages, signals."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from types import FrameType


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


class StopSignals:
    """SIGTERM and SIGHUP as bytes in a pipe; SIGINT and SIGPIPE are ignored."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, _nothing),
                (signal.SIGHUP, _nothing),
                (signal.SIGINT, signal.SIG_IGN),
                (signal.SIGPIPE, signal.SIG_IGN),
            )
        }
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})

    def fileno(self) -> int:
        return self._out

    def arrived(self) -> bytes:
        """The numbers of the signals that came since the last call."""
        try:
            return os.read(self._out, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Give the signals back."""
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._out)
        os.close(self._in)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Python writes the number to the wake-up descriptor; that is all that is wanted."""
