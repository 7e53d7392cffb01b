"""
The read ends of what children print, on their way to the root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regrow.daemon.channel import MAX_FDS, Stream, StreamsUp


class Pipes:
    """One message for each pipe, or one for many while many children are made; `send(message, fds)` takes it up."""

    def __init__(self, send: Callable[[StreamsUp, tuple[int, ...]], None]) -> None:
        self._send = send
        self._streams: list[tuple[Stream, int]] = []
        self._holding = 0

    def announce(self, stream: Stream, fd: int) -> None:
        """Give the read end of an output to the root; `fd` is closed once that is done."""
        self._streams.append((stream, fd))
        if not self._holding or len(self._streams) >= MAX_FDS:
            self._hand_on()

    @contextmanager
    def several(self, births: int) -> Iterator[None]:
        """While more than one child is made, their pipes are handed on many at a time."""
        self._holding += births > 1
        try:
            yield
        finally:
            self._holding -= births > 1
            if not self._holding:
                self._hand_on()

    def _hand_on(self) -> None:
        if self._streams:
            streams, fds = zip(*self._streams, strict=True)
            self._streams.clear()
            self._send(StreamsUp(streams), fds)
            for fd in fds:
                os.close(fd)
