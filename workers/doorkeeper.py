"""
Accepting messages while a handler takes its time, so that senders hear at once that theirs have arrived.

The main thread receives between handlers by itself, and that is all that happens as long as handlers are short. A
thread beside it looks every few milliseconds whether the same handler is still running, and while one is, it takes in
what comes. With nothing to do for a while it parks, and is not woken before the next message: an idle agent makes no
system call at all.

Source: architecture section 6 ("acceptance is prompt even while a handler is busy for seconds").
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Protocol

TICK_S = 0.005
"""How long a handler runs before somebody else minds the door; about the time after which Python shares a core."""

TICKS_UNTIL_PARKED = 20

SWITCH_S = 0.0005
"""
How soon a computing handler hands over the interpreter meanwhile. Each call into ZeroMQ gives it away and has to
win it back: with Python's own 5 ms, each message taken in would cost tens of milliseconds.
"""


class Door(Protocol):
    """What of the node is needed here."""

    def attend(self, still: Callable[[], bool]) -> None:
        """Accept in the calling thread, until another thread does, or not `still()`; returns soon when another does."""

    def wake(self) -> None:
        """Let `attend` look at `still` again."""


class Doorkeeper:
    """
    The main thread sets `task` to what it works on, and to None when it is done. If `is_parked` then, it calls
    `unpark`. These are attributes, to save the calls: it is done for each message.

    Args:
        look: called in the thread whenever something may have been accepted meanwhile.
        relieved: called in the thread when it accepts no more.
    """

    __slots__ = ("_bell", "_door", "_is_closed", "_look", "_relieved", "_thread", "is_helping", "is_parked", "task")

    def __init__(self, door: Door, look: Callable[[], None], relieved: Callable[[], None]) -> None:
        self._door = door
        self._look = look
        self._relieved = relieved
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.task: object = None
        self.is_parked = True
        self.is_helping = False

    def unpark(self) -> None:
        """`is_parked` was seen after `task` was set; the thread is made when it is first needed."""
        self.is_parked = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="regrow-doorkeeper", daemon=True)
            self._thread.start()
        else:
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """End the thread, before the door is closed."""
        self._is_closed = True
        self.task = None
        if self._thread is not None:
            os.eventfd_write(self._bell, 1)
            self._door.wake()
            self._thread.join()
        os.close(self._bell)

    def _run(self) -> None:
        last: object = None
        idle_ticks = 0
        while not self._is_closed:
            task = self.task
            if task is None:
                idle_ticks += 1
            else:
                idle_ticks = 0
                if task is last:
                    self._help(task)
            last = task
            if idle_ticks < TICKS_UNTIL_PARKED:
                self._wait(TICK_S)
            else:
                last = None
                self._park()
                idle_ticks = 0

    def _park(self) -> None:
        self.is_parked = True
        if self.task is None and not self._is_closed:  # or it was set before we said so, and nobody will wake us
            self._wait(None)
        self.is_parked = False

    def _wait(self, timeout_s: float | None) -> None:
        """Until the bell rings."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if not poll.poll(None if timeout_s is None else timeout_s * 1000):
            return
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            pass  # nobody has rung

    def _help(self, task: object) -> None:
        def still() -> bool:
            if self.task is not task:
                return False
            self._look()
            return True

        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(min(interval_s, SWITCH_S))
        self.is_helping = True
        while still():
            self._door.attend(still)
            self._wait(TICK_S)  # the handler waits for something itself, as it seems, and then accepts
        self.is_helping = False
        sys.setswitchinterval(interval_s)
        self._relieved()
