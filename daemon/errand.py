"""
Work that may touch the disk or resolve names, done for the root by a short-lived process of its own.

The root itself must not wait for a file system or a name service (architecture, principle 2).
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from regrow.daemon.linux import kernel
from regrow.daemon.loop import Loop
from regrow.daemon.signalling import send

TIMEOUT_S = 20.0
MAX_RESULT = 64 << 20
AT_ONCE = 8
MAX_WAITING = 1000


class Failed(Exception):
    """The errand ended with an error; the text is for whoever asked, `problems` for whoever can show them better."""

    def __init__(self, text: str, problems: list[dict[str, Any]] | None = None) -> None:
        super().__init__(text)
        self.problems = problems or []


class Errands:
    """Runs errands, a few at a time; the others wait their turn."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._running = 0
        self._waiting: deque[tuple[Callable[[], bytes], Callable[[bytes | Failed], None]]] = deque()

    @property
    def busy(self) -> bool:
        """Whether any is under way."""
        return bool(self._running)

    def run(self, work: Callable[[], bytes], done: Callable[[bytes | Failed], None]) -> None:
        """Do `work`, now or later; refused when too many wait already."""
        if self._running < AT_ONCE:
            self._start(work, done)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((work, done))
        else:
            done(Failed(f"{MAX_WAITING} requests of this kind are waiting already"))

    def _start(self, work: Callable[[], bytes], done: Callable[[bytes | Failed], None]) -> None:
        self._running += 1

        def ended(result: bytes | Failed) -> None:
            self._running -= 1
            if self._waiting:
                self._start(*self._waiting.popleft())
            done(result)

        run(self._loop, work, ended)


def run(loop: Loop, work: Callable[[], bytes], done: Callable[[bytes | Failed], None]) -> None:
    """
    Run `work` in a fork; `done` gets what it returned, or the text of what it raised.

    The process is reaped by the supervisor's sweep like any stranger, and killed when it takes too long.
    """
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        done(Failed(f"cannot make a pipe: {error.strerror}"))
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    try:
        pid = os.fork()
        if pid == 0:
            _do(work, writer)
    except OSError as error:
        os.close(reader)
        done(Failed(f"cannot fork: {error.strerror}"))
        return
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writer)
    _await(loop, pid, reader, done)


def _await(loop: Loop, pid: int, reader: int, done: Callable[[bytes | Failed], None]) -> None:
    received = bytearray()

    def finish(result: bytes | Failed) -> None:
        timer.cancel()
        loop.unwatch(reader)
        os.close(reader)
        done(result)

    def late() -> None:
        send(pid, signal.SIGKILL)
        finish(Failed(f"it took more than {TIMEOUT_S:g} s"))

    os.set_blocking(reader, False)

    def readable(_events: int) -> None:
        try:
            data = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        received.extend(data)
        if not data or len(received) > MAX_RESULT:
            finish(_result(bytes(received)))

    timer = loop.call_later(TIMEOUT_S, late)
    loop.watch(reader, select.EPOLLIN, readable)


def _result(received: bytes) -> bytes | Failed:
    try:
        answer: dict[str, Any] = msgspec.msgpack.decode(received)
    except msgspec.DecodeError:
        return Failed("it died")
    return Failed(answer["error"], answer.get("problems")) if "error" in answer else answer["ok"]


def _do(work: Callable[[], bytes], writer: int) -> None:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        kernel.set_pdeathsig(signal.SIGKILL)
        try:
            answer: dict[str, Any] = {"ok": work()}
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer
            problems = msgspec.to_builtins(getattr(error, "problems", []))
            answer = {"error": str(error) or type(error).__name__, "problems": problems}
        data = msgspec.msgpack.encode(answer)
        while data:
            data = data[os.write(writer, data) :]
        sys.stderr.flush()
    finally:
        os._exit(0)
