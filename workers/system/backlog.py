"""
What streams said while their file could not be written: kept in memory, bounded, the oldest given up first.
"""

from __future__ import annotations

from collections import deque

FILE_BYTES = 1024 * 1024
ALL_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 64 * 1024


class Held:
    """How many bytes all backlogs of a logger hold together."""

    def __init__(self) -> None:
        self.total_bytes = 0


class Pending:
    """One stream's part. `lost_bytes` were dropped ahead of `chunks`; `unreported_bytes` of them root does not know."""

    __slots__ = ("chunks", "lost_bytes", "unreported_bytes")

    def __init__(self) -> None:
        self.chunks: deque[bytearray] = deque()
        self.lost_bytes = 0
        self.unreported_bytes = 0


class Backlog:
    """The unwritten output of one file, by stream, in the order of the streams' first bytes."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._held_bytes = 0
        self.pending: dict[int, Pending] = {}

    def __bool__(self) -> bool:
        return bool(self.pending)

    def add(self, stream: int, said: bytes) -> None:
        """Keep `said` behind what there is, and drop from the front what is too much, at ends of lines."""
        pending = self.pending.setdefault(stream, Pending())
        if pending.chunks and len(pending.chunks[-1]) + len(said) <= CHUNK_BYTES:
            pending.chunks[-1] += said
        else:
            pending.chunks.append(bytearray(said))
        self._count(len(said))
        while self._held_bytes and (self._held_bytes > FILE_BYTES or self._held.total_bytes > ALL_BYTES):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the oldest chunk as far as its last end of a line; a longer line goes whole."""
        pending = next(pending for pending in self.pending.values() if pending.chunks)
        if end := pending.chunks[0].rfind(b"\n") + 1:
            self._lose(pending, end)
            return
        self._lose(pending, len(pending.chunks[0]))
        while pending.chunks and not end:
            end = pending.chunks[0].find(b"\n") + 1
            self._lose(pending, end or len(pending.chunks[0]))

    def _lose(self, pending: Pending, count: int) -> None:
        pending.lost_bytes += count
        pending.unreported_bytes += count
        self.written(pending, count)

    def written(self, pending: Pending, count: int) -> None:
        """Forget the first `count` bytes of the first chunk."""
        del pending.chunks[0][:count]
        if not pending.chunks[0]:
            pending.chunks.popleft()
        self._count(-count)

    def _count(self, count: int) -> None:
        self._held_bytes += count
        self._held.total_bytes += count

    def forget(self, stream: int) -> None:
        """Leave out a stream whose part has been written."""
        del self.pending[stream]

    def give_up(self) -> None:
        """Lose all of it."""
        for pending in self.pending.values():
            while pending.chunks:
                self._lose(pending, len(pending.chunks[0]))

    def unreported(self) -> list[tuple[int, int]]:
        """Return (stream, bytes lost since the last call) for those that lost any."""
        lost = [(stream, pending.unreported_bytes) for stream, pending in self.pending.items()]
        for pending in self.pending.values():
            pending.unreported_bytes = 0
        return [(stream, count) for stream, count in lost if count]
