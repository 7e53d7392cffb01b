"""
Hearing a stop signal, wherever the main thread is when it comes.

Python runs a signal's handler between two instructions: a signal that comes after the last one before a wait would be
heard after the wait. So the interpreter also writes to a pipe that the wait includes.

Source: Python's signal.set_wakeup_fd; pipe(7).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from regrow.ipc.dispositions import Handler, set_handler, set_mask
from regrow.ipc.forks import from_first_use

if TYPE_CHECKING:
    from regrow.ipc.node import Node

STOP = (int(signal.SIGTERM), int(signal.SIGINT))
"""SIGINT too: with `stop_signal = "SIGINT"` it is what the supervisor sends."""


class StopSignals:
    """While it is entered, `stop` is called in the main thread for each stop signal."""

    def __init__(self, node: Node, stop: Callable[[], None]) -> None:
        self._node = node
        self._stop = stop
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> None:
        _heed_forks()
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._node.watch(self._read_fd, self)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._before = {number: set_handler(number, self._handle) for number in STOP}
        _installed.append(self)

    def heard(self) -> None:
        """A signal has come, this or another; its handler runs as soon as the wait is over."""
        try:
            os.read(self._read_fd, 4096)
        except BlockingIOError:
            pass  # somebody else has ended the wait

    def dropped(self) -> None:
        """Nobody waits any more."""

    def _handle(self, number: int, frame: object) -> None:
        self._stop()

    def __exit__(self, *_error: object) -> None:
        if self not in _installed:
            return  # a forked process that has come up here
        _installed.remove(self)
        self._restore()
        self._node.unwatch(self._read_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _restore(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            set_handler(number, before)


_installed: list[StopSignals] = []
_masks: list[set[int]] = []


def _before_fork() -> None:
    """A signal for the child must not meet our handler there: it waits until the child has its own."""
    if _installed:
        _masks.append(set_mask(signal.SIG_BLOCK, STOP))


def _after_fork() -> None:
    if _masks:
        set_mask(signal.SIG_SETMASK, _masks.pop())


def _in_child() -> None:
    """A process that the agent forks, with multiprocessing or by itself, ends by a signal as processes do."""
    while _installed:
        _installed.pop()._restore()
    _after_fork()


_heed_forks = from_first_use(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
