"""
The one wait of a regrow process: descriptors, timers and signals in a single epoll.

An idle loop sleeps in `epoll_wait` without a time limit and uses no CPU. Callbacks run one at a time;
none of them may block. Time is the monotonic clock in seconds, so a wall clock that is set back
changes nothing.

Source: epoll(7), signal(7), Python's `signal.set_wakeup_fd`.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count

from regrow.ipc.dispositions import set_handler

BATCH = 256
"""Descriptors served in one turn; the rest waits for the next, after timers had theirs."""

MAX_ERRORS, ERRORS_WITHIN_S = 100, 10.0

MAX_WAIT_S = 86_400.0
"""epoll counts in milliseconds in an int: a longer wait is cut and taken up again."""


class Timer:
    """A call at a moment; `cancel` is idempotent and safe after the call."""

    __slots__ = ("callback", "when_s")

    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s = when_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """
    Watch descriptors, run timers, deliver signals; one thread, no polling.

    `on_error` is told of an exception that a callback raised, and the loop goes on; without it, and when they
    come too fast, the exception ends `run`. The rest of the turn is served in the next.
    """

    def __init__(self, on_error: Callable[[Exception], None] | None = None) -> None:
        self._on_error = on_error
        self._errors_s: deque[float] = deque(maxlen=MAX_ERRORS)
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._compact_at = 64
        self._soon: list[Callable[[], None]] = []
        self._signals: dict[int, Callable[[], None]] = {}
        self._pending: set[int] = set()
        self._wakeup: tuple[int, int] | None = None
        self._stops = False

    def now(self) -> float:
        return time.monotonic()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(ready_events)` whenever `fd` is ready; replaces an earlier watch of `fd`."""
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; to be called before it is closed. Unknown descriptors are ignored."""
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already: the kernel has forgotten it too

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when_s, callback)
        heapq.heappush(self._timers, (when_s, next(self._order), timer))
        if len(self._timers) > self._compact_at:
            self._compact()
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(time.monotonic() + delay_s, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next turn, after descriptors and due timers."""
        self._soon.append(callback)

    def on_signals(self, handlers: dict[signal.Signals, Callable[[], None]]) -> None:
        """Deliver these signals as callbacks of the loop; several of one kind may arrive as one call."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = (reader, writer)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number, handler in handlers.items():
            self._signals[int(number)] = handler
            set_handler(number, _noted)
            signal.siginterrupt(number, False)
        self.watch(reader, select.EPOLLIN, self._deliver_signals)

    def listen_again(self) -> None:
        """Deliver signals whatever others have made of them, as what a supervisor imports may do."""
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
            for number in self._signals:
                set_handler(number, _noted)
                signal.siginterrupt(number, False)

    def unheard(self) -> set[int]:
        """Take the signals that have come and were not delivered yet."""
        if self._wakeup is not None:
            try:
                self._pending.update(os.read(self._wakeup[0], 4096))
            except BlockingIOError:
                pass
        taken, self._pending = self._pending, set()
        return taken

    def run(self) -> None:
        """Serve until `stop` is called; not at all when it was called already, by what has happened before."""
        while not self._stops:
            try:
                self._turn()
            except Exception as error:  # the owner decides whether one mistake ends the process
                if self._on_error is None or self._too_many_errors():
                    raise
                self._on_error(error)
        self._stops = False

    def _too_many_errors(self) -> bool:
        """A mistake that comes back at once would only burn the processor."""
        self._errors_s.append(time.monotonic())
        return len(self._errors_s) == MAX_ERRORS and self._errors_s[-1] - self._errors_s[0] < ERRORS_WITHIN_S

    def stop(self) -> None:
        self._stops = True

    def close(self) -> None:
        """Release the descriptors of the loop itself, not the watched ones."""
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            for fd in self._wakeup:
                os.close(fd)
            self._wakeup = None
        self._epoll.close()

    def _turn(self) -> None:
        if self._pending:
            self._handle_signals()
        for fd, events in self._poll():
            callback = self._watched.get(fd)
            if callback is not None:  # an earlier callback of this turn may have unwatched it
                callback(events)
        self._run_timers()
        if self._soon:
            soon, self._soon = self._soon, []
            for call in soon:
                call()

    def _poll(self) -> Iterable[tuple[int, int]]:
        return self._epoll.poll(self._wait_s(), BATCH)

    def _wait_s(self) -> float | None:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return min(max(0.0, self._timers[0][0] - time.monotonic()), MAX_WAIT_S)

    def _run_timers(self) -> None:
        now_s = time.monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def _compact(self) -> None:
        """Drop cancelled timers, which otherwise stay until they would have been due."""
        self._timers = [entry for entry in self._timers if entry[2].callback is not None]
        heapq.heapify(self._timers)
        self._compact_at = max(64, 2 * len(self._timers))

    def _deliver_signals(self, _events: int) -> None:
        reader = self._wakeup[0] if self._wakeup else -1
        try:
            self._pending.update(os.read(reader, 4096))
        except BlockingIOError:
            return
        self._handle_signals()

    def _handle_signals(self) -> None:
        """Each is taken off before it is handled, so that a mistake in one handler loses no other signal."""
        while self._pending:
            number = min(self._pending)
            self._pending.discard(number)
            handler = self._signals.get(number)
            if handler is not None:
                handler()


def _noted(_number: int, _frame: object) -> None:
    """The wakeup descriptor carries the signal; Python only needs a handler to exist."""
