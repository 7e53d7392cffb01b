"""
What flows between a command and its requester: output in bounded pieces, input as fast as it is taken.

A requester that reads slowly slows its command, not the worker. What is beyond a limit is thrown away by the kernel,
without being copied, and counted.

Source: pipe(7), splice(2), unix(7).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable

from regrow.ipc.commands_wire import HEADER, INPUT, PIECE_BYTES, Frames, frame

PIPE_BYTES = 1 << 20
THROWN_AT_ONCE = 16 << 20
"""How much is thrown away before the runner looks at something else."""


class Output:
    """One stream of the command: the first `limit` bytes are kept, as frames of `kind`; `cut` counts the others."""

    def __init__(self, kind: int, limit: int, null_fd: int) -> None:
        self.fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # the user has too many pipes: a small one does as well
        self.cut = 0
        self._kind = kind
        self._left = limit
        self._null_fd = null_fd

    @property
    def is_full(self) -> bool:
        """Whether what comes from now on is thrown away."""
        return self._left <= 0

    def take(self) -> bytes | None:
        """What has come, as a frame, perhaps empty; None at the end of the stream."""
        try:
            if self._left <= 0:
                return b"" if self._throw_away() else None
            piece = os.read(self.fd, min(PIECE_BYTES, self._left))
        except BlockingIOError:
            return b""
        self._left -= len(piece)
        return frame(self._kind, piece) if piece else None

    def _throw_away(self) -> bool:
        thrown = 0
        while thrown < THROWN_AT_ONCE:
            count = os.splice(self.fd, self._null_fd, PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
            if count == 0:
                return False
            thrown += count
            self.cut += count
        return True

    def rest(self) -> bytes:
        """All that is in the pipe still; nobody writes to it any more."""
        frames = bytearray()
        while True:
            before = self.cut
            piece = self.take()
            if not piece and self.cut == before:
                return bytes(frames)
            frames += piece or b""

    def close(self) -> None:
        os.close(self.fd)


class Input:
    """
    What the requester feeds: taken from the connection only as fast as the command takes it.

    `closing` is called before the descriptor of the pipe is closed.
    """

    def __init__(self, connection: socket.socket, closing: Callable[[int], None]) -> None:
        self.read_fd, self.fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        self.waiting = bytearray()
        self._connection = connection
        self._closing = closing
        self._frames = Frames()
        self._ends = False

    @property
    def is_open(self) -> bool:
        return self.fd >= 0

    def receive(self) -> None:
        """
        Take in what has come; what nobody will read is dropped.

        Raises:
            OSError: the connection is broken; Malformed.
        """
        try:
            received = self._connection.recv(HEADER.size + PIECE_BYTES)
        except BlockingIOError:
            return
        for kind, payload in self._frames.feed(received):
            if kind == INPUT and self.is_open and not self._ends:
                self.waiting += payload
                self._ends = not payload
        self.hand_on()

    def hand_on(self) -> None:
        """Give the command what it takes now."""
        while self.waiting and self.is_open:
            try:
                count = os.write(self.fd, memoryview(self.waiting)[:PIECE_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                self.close()  # it reads no more
                return
            del self.waiting[:count]
        if self._ends and not self.waiting:
            self.close()

    def close(self) -> None:
        if self.fd >= 0:
            self._closing(self.fd)
            os.close(self.fd)
            self.fd = -1
        self.waiting.clear()
