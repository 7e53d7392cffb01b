"""
Where a supervisor's record goes: a pipe to the logger, never waited for.

Source: pipe(7) on O_NONBLOCK and partial writes.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from msgspec import Struct

from regrow.config.spec import LogRotation
from regrow.daemon.core.effects import Effect
from regrow.daemon.core.events import Event
from regrow.daemon.core.state import SupervisorState
from regrow.daemon.loop import Loop, Timer
from regrow.daemon.pipes import Stream
from regrow.daemon.record import Recorder

FLUSH_S = 0.02
"""A burst of steps is written in one go: the logger is not to wake for each while processes are being made."""

MAX_UNWRITTEN = 1 << 20
ROTATION = LogRotation(max_size_bytes=10 * 1024 * 1024, keep=2)


class Kept(Struct, frozen=True):
    """A record as it goes through an exec: where it goes (-1: nowhere), what is not there yet, and how many steps."""

    fd: int
    unwritten: bytes
    steps: int


class Recording:
    """The record of one supervisor, in `<log_dir>/<supervisor>.steps.log`."""

    def __init__(self, loop: Loop, supervisor: str) -> None:
        self._loop = loop
        self._fd = -1
        self._unwritten = bytearray()
        self._timer: Timer | None = None
        self._full = False
        self._supervisor = supervisor
        self._recorder = Recorder(supervisor, self._write)

    def open(self, hand_over: Callable[[Stream, int], None]) -> None:
        """Make the pipe and give its read end away; when there is no room for that, there is no record."""
        try:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        try:
            hand_over(Stream(self._supervisor, f"{self._supervisor}.steps", 0, ROTATION), read_fd)
            self._fd = write_fd
        except OSError:
            os.close(write_fd)
        finally:
            os.close(read_fd)

    def carried(self) -> Kept:
        """All of it, to go through an exec."""
        return Kept(self._fd, bytes(self._unwritten), self._recorder.steps)

    def take_up(self, kept: Kept) -> None:
        """Go on with what was `carried`, with a snapshot: another program may decide otherwise."""
        self._fd = kept.fd
        self._recorder = Recorder(self._supervisor, self._write, kept.steps)
        if kept.fd >= 0 and kept.unwritten:
            self._write(kept.unwritten)

    def step(
        self, before: SupervisorState, event: Event, now_s: float, after: SupervisorState, effects: tuple[Effect, ...]
    ) -> None:
        if self._fd < 0:
            return
        if len(self._unwritten) > MAX_UNWRITTEN:  # nobody reads; the next snapshot begins the record anew
            self._recorder.lost()
        else:
            self._recorder.step(before, event, now_s, after, effects)

    def _write(self, line: bytes) -> None:
        self._unwritten += line
        if self._timer is None and not self._full:
            self._timer = self._loop.call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what the pipe takes now; the rest when it takes more."""
        self._timer = None
        full = False
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._fd, self._unwritten[:65536])]
        except BlockingIOError:
            full = True
        except OSError:
            self._loop.unwatch(self._fd)
            self._fd, self._full = -1, False  # the root is gone, and soon this process too
            return
        if full and not self._full:
            self._loop.watch(self._fd, select.EPOLLOUT, lambda _events: self.flush())
        elif self._full and not full:
            self._loop.unwatch(self._fd)
        self._full = full
