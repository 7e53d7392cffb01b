"""
The read ends of what children print: with the root before there is a child that could print.

They go past every supervisor in between: what lies in the queue of a process, or in its memory, is closed when that is
killed. So all supervisors hold the sending end of one pair of sockets, and what waits in it is the root's.

Source: unix(7) on SCM_RIGHTS.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from regrow.config.spec import LogRotation
from regrow.daemon.channel import GONE, PACKET
from regrow.daemon.channel_messages import NumbersUp
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux.rights import SPACE, passed, passing
from regrow.daemon.loop import Loop

MAX_NUMBERS = 64
BATCH = 64

PAUSE_S = 0.02
"""The root is not woken for each of many children that are being made: pipes hold what they print meanwhile."""


class Stream(Struct, frozen=True):
    """
    What one incarnation of a child prints, and what is to become of it.

    `supervisor` is who made it: of a child that came at run time, the root may hear by this for the first time.
    `file`, if set, is the child in whose log it goes.
    """

    supervisor: str
    child: str
    incarnation: int
    rotation: LogRotation
    pattern: str = ""
    file: str = ""


class Handed(Struct, frozen=True):
    """What comes with a read end; `more`: others are about to."""

    stream: Stream
    more: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Handed).decode


class Pipes:
    """
    A supervisor's side; `way` is the sending end that all supervisors share.

    `tell` takes the numbers of incarnations that are about to be made: one message for each, or one for many
    while many are.
    """

    def __init__(self, way: socket.socket, tell: Callable[[NumbersUp], None]) -> None:
        way.setblocking(False)
        self._way = way
        self._tell = tell
        self._numbers: list[tuple[str, int]] = []
        self._holding = 0

    def hand_over(self, stream: Stream, fd: int) -> None:
        """
        Give the read end of an output to the root: from now on it is lost with the root only. `fd` stays the caller's.

        Raises:
            OSError: the root has taken so little for so long that there is no room.
        """
        data = _encode(Handed(stream, bool(self._holding) and not stream.pattern))
        if len(data) > PACKET:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        try:
            self._way.sendmsg([data], passing(fd), socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno not in GONE:
                raise
        self._numbers.append((stream.child, stream.incarnation))
        if not self._holding or len(self._numbers) >= MAX_NUMBERS:
            self._tell_numbers()

    @contextmanager
    def several(self, births: int) -> Iterator[None]:
        """While more than one child is made, their numbers are told many at a time."""
        self._holding += births > 1
        try:
            yield
        finally:
            self._holding -= births > 1
            if not self._holding:
                self._tell_numbers()

    def _tell_numbers(self) -> None:
        if self._numbers:
            numbers = tuple(self._numbers)
            self._numbers.clear()
            self._tell(NumbersUp(numbers))


class Output:
    """The pipe for what one incarnation prints; one for all attempts to make it, so that its reader sees no other."""

    def __init__(self, pipes: Pipes, stream: Stream) -> None:
        self._pipes = pipes
        self.stream = stream
        self._write_fd = -1
        self._tried = False

    def open(self) -> int:
        """
        The end to write to, which stays ours; the other one is in good hands.

        Raises:
            SpawnError: there is no such pipe.
        """
        if self._write_fd < 0:
            try:
                read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            except OSError as error:
                raise SpawnError("make a pipe for its output", error.errno or 0) from None
            try:
                if self._tried:
                    _spare()
                self._tried = True
                self._pipes.hand_over(self.stream, read_fd)
            except OSError as error:
                os.close(write_fd)
                raise SpawnError("hand over the pipe of its output", error.errno or 0) from None
            finally:
                os.close(read_fd)
            self._write_fd = write_fd
        return self._write_fd

    def close(self) -> None:
        """The child has its own, or there will be none."""
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1


def _spare() -> None:
    """Fail now, and not after the reader was told, if there are too few descriptors for the rest of a birth."""
    for fd in os.pipe2(os.O_CLOEXEC):
        os.close(fd)


class Arrivals:
    """The root's side: `take(stream, fd)` owns the read end; -1 where the root had no descriptor to spare for it."""

    def __init__(self, loop: Loop, way: socket.socket, take: Callable[[Stream, int], None]) -> None:
        self._loop = loop
        way.setblocking(False)
        self._way = way
        self._take = take
        self._listen()

    @property
    def fd(self) -> int:
        """Where they arrive."""
        return self._way.fileno()

    def _listen(self) -> None:
        self._loop.watch(self._way.fileno(), select.EPOLLIN, self._ready)

    def _ready(self, _events: int) -> None:
        if self._next_ones():
            self._loop.unwatch(self._way.fileno())
            self._loop.call_later(PAUSE_S, self._listen)

    def take_all(self) -> None:
        """Take everything that was handed over, without waiting."""
        poller = select.poll()  # not select(2), which knows no descriptor above 1023
        poller.register(self._way, select.POLLIN)
        while poller.poll(0):
            self._next_ones()

    def _next_ones(self) -> bool:
        """Take a bounded number; True when there will be more in a moment."""
        more = False
        for _ in range(BATCH):
            try:
                data, control, _, _ = self._way.recvmsg(PACKET, SPACE, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return more
            handed = _decode(data)
            more = handed.more
            self._take(handed.stream, passed(control))
        return False
