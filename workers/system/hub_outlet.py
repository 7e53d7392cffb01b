"""
What is on its way to one subscriber, and what waits because it reads slowly.

Pure but for the `transmit` that it is given. A subscriber gets as many signals as it has granted credit for; others
wait in a bounded queue, from which the oldest are dropped, counted, and told of with the next signal. So a
subscriber that reads slowly, or not at all, costs a bounded amount of memory and nobody else any time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from regrow.ipc.hub_wire import Lost, encode

QUEUE = 10_000
"""Signals that wait for one subscriber."""

QUEUE_BYTES = 64 * 1024 * 1024
MAX_CREDIT = 1_000
"""Signals on their way to one subscriber, granted or not."""

UNDERWAY_BYTES = 4 * 1024 * 1024
"""On its way at most, and one signal more; a subscriber gives credit back for each MiB that it has read."""

Transmit = Callable[[bytes], bool]


class Outlet:
    """
    One subscriber's signals.

    `transmit` sends a frame and never waits; False when the connection takes no more. It is None while the subscriber
    is not connected: then everything waits. `is_event` marks what `Replay` can bring again.
    """

    __slots__ = ("_credit", "_limit", "_queue", "_queue_bytes", "_underway", "_underway_bytes", "lost", "lost_ever",
                 "transmit")  # fmt: skip

    def __init__(self, transmit: Transmit | None = None, limit: int = QUEUE) -> None:
        self.transmit = transmit
        self.lost = 0
        self.lost_ever = 0
        self._limit = limit
        self._credit = 0
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._queue_bytes = 0
        self._underway: deque[int] = deque()
        self._underway_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def underway(self) -> int:
        """Signals that were sent and for which no credit was given back."""
        return len(self._underway)

    def put(self, frame: bytes, is_event: bool = False) -> int:
        """Send, or let wait. Returns how many signals were dropped to make room."""
        if self._credit > 0 and not self._queue and self._underway_bytes < UNDERWAY_BYTES and self._send(frame):
            return 0
        if is_event and self.transmit is None:
            return 0  # it will ask for those that it has missed
        self._queue.append((frame, is_event))
        self._queue_bytes += len(frame)
        dropped = 0
        while len(self._queue) > self._limit or self._queue_bytes > QUEUE_BYTES:
            self._queue_bytes -= len(self._queue.popleft()[0])
            dropped += 1
        self.lost += dropped
        self.lost_ever += dropped
        return dropped

    def grant(self, count: int) -> None:
        """The subscriber has read so many, or allows so many more; send what waits for that."""
        for _ in range(min(count, len(self._underway))):
            self._underway_bytes -= self._underway.popleft()
        self._credit = min(self._credit + count, MAX_CREDIT - len(self._underway))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as credit goes."""
        while self._queue and self._credit > 0 and self._underway_bytes < UNDERWAY_BYTES:
            frame, _ = self._queue[0]
            if not self._send(frame):
                return
            self._queue.popleft()
            self._queue_bytes -= len(frame)

    def attach(self, transmit: Transmit) -> None:
        """The subscriber has connected, and has granted nothing yet."""
        self.detach()
        self.transmit = transmit

    def detach(self) -> None:
        """Its connection has ended; what waits goes on waiting, but for what it can ask for again."""
        self.transmit = None
        self._credit = 0
        self._underway.clear()
        self._underway_bytes = 0
        self.drop_events()

    def drop_events(self) -> None:
        """Take out the waiting events: they will be replayed."""
        self._queue = deque(item for item in self._queue if not item[1])
        self._queue_bytes = sum(len(frame) for frame, _ in self._queue)

    def _send(self, frame: bytes) -> bool:
        if self.transmit is None or (self.lost and not self.transmit(encode(Lost(self.lost)))):
            return False
        self.lost = 0
        if not self.transmit(frame):
            return False
        self._credit -= 1
        self._underway.append(len(frame))
        self._underway_bytes += len(frame)
        return True
