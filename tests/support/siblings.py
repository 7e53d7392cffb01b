"""
Forked processes that run a function of the test, and a line to each: what one says, the other hears.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

TIMEOUT_S = 20.0


class Line:
    """One end of it. What is said is anything that msgpack has."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def say(self, thing: Any) -> None:
        self._end.send(msgspec.msgpack.encode(thing))

    def hear(self, timeout_s: float = TIMEOUT_S) -> Any:
        """The next that the other end says. Raises EOFError when it is gone, TimeoutError when it says nothing."""
        if not select.select([self._end], [], [], timeout_s)[0]:
            raise TimeoutError(f"nothing was said within {timeout_s} s")
        try:
            heard = self._end.recv(1 << 20)
        except ConnectionResetError:  # it has ended without reading all; what it said comes after this
            heard = self._end.recv(1 << 20)
        if not heard:
            raise EOFError(self._end_text())
        return msgspec.msgpack.decode(heard)

    def _end_text(self) -> str:
        return "the other end is gone"

    def ask(self, thing: Any) -> Any:
        self.say(thing)
        return self.hear()

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()


class Sibling(Line):
    """
    A process that runs `body(line)` and ends; with status 1 and its traceback on stderr when that raised.

    Leaving its `with` block kills it if it is still there.
    """

    def __init__(self, body: Callable[[Line], object]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _run(body, Line(theirs))
        theirs.close()
        super().__init__(ours)
        self.pidfd = os.pidfd_open(self.pid)
        self.status: int | None = None

    def signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL it, and wait for its death."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.wait()

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for its end and return its status, negative for a signal."""
        if self.status is None:
            assert select.select([self.pidfd], [], [], timeout_s)[0], f"process {self.pid} goes on"
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def _end_text(self) -> str:
        return f"process {self.pid} has ended with {self.wait()}"

    def close(self) -> None:
        self.kill()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(body: Callable[[Line], object], line: Line) -> None:
    status = 1
    try:
        body(line)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into the test runner's frames
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def line_has(line: Line) -> bool:
    """Whether something was said."""
    return bool(select.select([line], [], [], 0)[0])
