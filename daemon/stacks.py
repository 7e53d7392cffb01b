"""
What a hanging worker was doing: its Python stacks, asked for before it is killed.

The worker writes them into a pipe of its own from a signal handler (`regrow.workers.stacks`). A pipe wakes the loop, so
nothing waits for them but the kill. Who is stopped, or deep in the kernel, does not answer and is killed all the same.

Source: signal(7), proc_pid_status(5), Python's faulthandler.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from regrow.daemon.linux import procfs
from regrow.daemon.loop import Loop, Timer
from regrow.daemon.signalling import send
from regrow.daemon.why import STACKS

ANSWER_S = 0.2
"""How long a kill is put off for the stacks. A worker that runs at all answers within a millisecond or two."""

QUIET_S = 0.02
"""A dump has no end mark of its own; this long without another byte, it is over."""

MAX_TEXT = 3_900
"""With what was printed last, 4 KiB, it fits into what is kept of an end."""

MAX_RAW = 256 * 1024

FOREIGN = b" in _be_child\n"
"""Below this frame come the supervisor's own, of before the fork: the worker's main thread, the last one, is told."""

OUTERMOST = (
    ("/workers/function.py", " in body"),
    ("/workers/runtime.py", " in body"),
    ("/daemon/forked.py", " in run_worker"),
)
"""Where the part of the stack ends that is the worker's own; what comes before is how every worker is started."""

OURS = '/workers/doorkeeper.py", line '
"""In the stack of a thread that is regrow's, and no part of what hangs."""


class Stacks:
    """
    The stacks of one worker; `fd` is where they come, and is closed by `close`. `text` is what is known, also of before
    an exec: it is asked for them once.
    """

    def __init__(self, loop: Loop, pid: int, fd: int, text: str = "") -> None:
        self._loop = loop
        self._pid = pid
        self._fd = fd
        self._raw = bytearray()
        self._asked = bool(text)
        self._answered: Callable[[], None] | None = None
        self._timers: list[Timer] = []
        self._why_none = text

    @property
    def fd(self) -> int:
        """Where they come; -1 after `close`."""
        return self._fd

    @property
    def awaited(self) -> bool:
        """Whether they were asked for, and a kill waits for them."""
        return self._answered is not None

    @property
    def text(self) -> str:
        """What it was doing, or why nobody knows; empty when it was not asked."""
        if self._raw:
            return f"{STACKS}\n{readable(bytes(self._raw))}"
        return self._why_none

    def ask(self, answered: Callable[[], None]) -> bool:
        """
        Ask for the stacks, once; `answered` is called when they are there, or when they are waited for no longer.

        False when nothing is to be waited for.
        """
        if self._asked or self._fd < 0:
            return False
        self._asked = True
        state, caught = procfs.state_and_caught(self._pid)
        if state in ("T", "t"):
            self._why_none = "it was stopped by a signal: no Python stacks"
            return False
        if not caught >> (signal.SIGUSR1 - 1) & 1:
            return False  # not yet, or no longer, ours to ask: the signal would end it
        self._read()
        self._raw.clear()
        self._answered = answered
        self._loop.watch(self._fd, select.EPOLLIN, lambda _events: self._heard())
        self._timers.append(self._loop.call_later(ANSWER_S, self._late))
        send(self._pid, signal.SIGUSR1)
        return True

    def close(self) -> None:
        """The worker is dead: take what it had written, and wait no more."""
        if self._fd >= 0:
            if self._answered is not None:
                self._read()
                self._done()
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _heard(self) -> None:
        open_still = self._read()
        if not open_still or FOREIGN in self._raw or len(self._raw) >= MAX_RAW:
            self._finish()
        else:
            self._timers.append(self._loop.call_later(QUIET_S, self._perhaps_over(len(self._raw))))

    def _perhaps_over(self, length: int) -> Callable[[], None]:
        def look() -> None:
            if len(self._raw) == length:
                self._finish()

        return look

    def _late(self) -> None:
        if not self._raw:
            self._why_none = f"no Python stacks came within {ANSWER_S * 1000:.0f} ms"
        self._finish()

    def _finish(self) -> None:
        answered = self._answered
        if answered is not None:
            self._done()
            answered()

    def _done(self) -> None:
        self._answered = None
        self._loop.unwatch(self._fd)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _read(self) -> bool:
        """Take what is there; False at the end of the pipe."""
        while len(self._raw) < MAX_RAW:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._raw += data
        return True


def readable(raw: bytes) -> str:
    """A dump of faulthandler's without the frames of before the fork, the last of it where it is long."""
    threads = [thread for thread in raw.decode(errors="replace").split("\n\n") if OURS not in thread]
    lines = []
    for line in "\n\n".join(threads).splitlines():
        if any(line.endswith(function) and f'{file}", line ' in line for file, function in OUTERMOST):
            break
        lines.append(line)
    text = "\n".join(lines).strip()
    return text if len(text) <= MAX_TEXT else f"…\n{text[-MAX_TEXT:].partition(chr(10))[2]}"
