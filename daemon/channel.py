"""
The channel between a supervisor and its parent: messages (`channel_messages`) over a SOCK_SEQPACKET socket pair.

Sending never waits: what the kernel does not take is queued, bounded, and reports are dropped first, counted; once the
queue is empty again, whoever made them tells how things stand now (`SnapshotUp`).
A message longer than one packet travels in several; the first byte of each says whether more follow.

Source: unix(7).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from regrow.daemon.channel_messages import LOST, BatchUp, DetailUp, Down, NoteUp, ReportUp, SocketDown, Up
from regrow.daemon.linux.rights import SPACE, passed, passing
from regrow.daemon.loop import Loop

PACKET = 96 * 1024
QUEUE_LIMIT = 20_000

MAX_PUT = 256
"""Reports kept back at most: whoever reads them has work to do meanwhile."""

GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
"""The other end is gone: its end of file will be read next, and what was to be sent is of no use to anybody."""

SHORTAGE_RETRY_S = 0.05

_LAST, _MORE = b"\0", b"\1"


_encode = msgspec.msgpack.Encoder().encode
_decode_up = msgspec.msgpack.Decoder(Up).decode
_decode_down = msgspec.msgpack.Decoder(Down).decode


def pair() -> tuple[int, int]:
    """Two connected, non-blocking, close-on-exec descriptors: (parent's end, child's end)."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ends[0].detach(), ends[1].detach()


class Link(Struct, frozen=True):
    """
    One end as it goes through an exec: `unsent` packets, oldest first, and the part of a message that has come.

    `fds` are the descriptors that go with the packets, -1 for none.
    """

    fd: int
    unsent: tuple[bytes, ...] = ()
    fds: tuple[int, ...] = ()
    partial: bytes = b""
    dropped: int = 0


class Channel:
    """
    One end. `on_message(message)` is called for each message.

    `on_closed()` is called once when the other end is gone, after everything it had sent was delivered;
    `on_recovered(dropped)` when the queue is empty after so many messages had to be dropped.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        receives: type[Up] | type[Down] | Any,
        on_message: Callable[[Any], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self.fd = fd
        self._decode = _decode_up if receives is Up else _decode_down
        self._from_above = receives is Down
        self._arrived: list[int] = []
        self._on_message = on_message
        self._on_closed = on_closed
        self._partial = bytearray()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._put: list[ReportUp] = []
        self._dropped = 0
        self.on_recovered: Callable[[int], None] = lambda _dropped: None
        self.closed = False
        loop.watch(fd, select.EPOLLIN, self._ready)

    @classmethod
    def of_link(
        cls,
        loop: Loop,
        link: Link,
        receives: type[Up] | type[Down] | Any,
        on_message: Callable[[Any], None],
        on_closed: Callable[[], None],
    ) -> Channel:
        """Go on with an end after an exec."""
        channel = cls(loop, link.fd, receives, on_message, on_closed)
        channel._queue.extend(zip(link.unsent, link.fds, strict=True))
        channel._partial += link.partial
        channel._dropped = link.dropped
        if link.unsent:
            loop.watch(link.fd, select.EPOLLIN | select.EPOLLOUT, channel._ready)
        return channel

    def link(self) -> Link | None:
        """All of it, to go through an exec; None: the other end is gone, and our descriptor is closed."""
        self.flush()
        if self.closed:
            return None
        unsent, fds = zip(*self._queue, strict=True) if self._queue else ((), ())
        return Link(self.fd, unsent, fds, bytes(self._partial), self._dropped)

    @property
    def queued(self) -> int:
        """Packets that the kernel has not taken yet."""
        return len(self._queue)

    def put(self, report: ReportUp) -> None:
        """Send with the next `flush`, or ahead of the next message."""
        self._put.append(report)
        if len(self._put) >= MAX_PUT:
            self.flush()

    def flush(self) -> None:
        """Send the reports that were put."""
        if self._put:
            batch = BatchUp(tuple(self._put))
            self._put.clear()
            self.send(batch)

    def send(self, message: Up | Down) -> None:
        """Send, or queue, one message."""
        if self.closed:
            return
        if self._put:
            self.flush()
        data = _encode(message)
        if len(self._queue) >= QUEUE_LIMIT and isinstance(message, BatchUp | DetailUp | NoteUp):
            self._dropped += 1
            return
        packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)] or [b""]
        for index, packet in enumerate(packets):
            mark = _LAST if index == len(packets) - 1 else _MORE
            self._send_packet(mark + packet, message.fd if isinstance(message, SocketDown) else -1)

    def _send_packet(self, packet: bytes, fd: int) -> None:
        if self._queue or not self._try(packet, fd):
            self._queue.append((packet, _own(fd)))
            self._loop.watch(self.fd, select.EPOLLIN | select.EPOLLOUT, self._ready)

    def _try(self, packet: bytes, fd: int) -> bool:
        try:
            if fd < 0:
                self._socket.send(packet, socket.MSG_NOSIGNAL)
            else:
                self._socket.sendmsg([packet], passing(fd), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in GONE:  # no buffers: it passes
                self._loop.call_later(SHORTAGE_RETRY_S, self._flush)
                return False
        return True

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive()

    def _flush(self) -> None:
        while self._queue and self._try(*self._queue[0]):
            _, fd = self._queue.popleft()
            if fd >= 0:
                os.close(fd)
        if not self._queue and not self.closed:
            self._loop.watch(self.fd, select.EPOLLIN, self._ready)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self.on_recovered(dropped)

    def _receive(self) -> None:
        for _ in range(64):
            try:
                data = self._from_parent() if self._from_above else self._socket.recv(PACKET + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                self._on_closed()
                return
            self._packet(data)
            if self.closed:
                return

    def _from_parent(self) -> bytes:
        data, control, _, _ = self._socket.recvmsg(PACKET + 1, SPACE, socket.MSG_CMSG_CLOEXEC)
        if (fd := passed(control)) >= 0:
            self._arrived.append(fd)
        return data

    def _packet(self, data: bytes) -> None:
        if data[:1] == _MORE:
            self._partial += data[1:]
            return
        whole = bytes(self._partial) + data[1:] if self._partial else data[1:]
        self._partial.clear()
        message = self._decode(whole)
        if isinstance(message, SocketDown) and message.fd >= 0:
            message = SocketDown(message.name, self._arrived.pop() if self._arrived else LOST)
        self._on_message(message)

    def connect(self, on_message: Callable[[Any], None], on_closed: Callable[[], None]) -> None:
        """Say who receives, where that was not known at first."""
        self._on_message = on_message
        self._on_closed = on_closed

    def drain(self) -> None:
        """Take everything that has arrived, without waiting."""
        poller = select.poll()  # not select(2), which knows no descriptor above 1023
        poller.register(self.fd, select.POLLIN)
        while not self.closed and poller.poll(0):
            self._receive()

    def flush_blocking(self, timeout_s: float) -> None:
        """Give the last words a chance: wait until all is sent, at most `timeout_s`."""
        poller = select.poll()
        poller.register(self.fd, select.POLLOUT)
        end_s = self._loop.now() + timeout_s
        while self._queue and not self.closed and (left_s := end_s - self._loop.now()) > 0:
            poller.poll(left_s * 1000)
            self._flush()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.unwatch(self.fd)
            self._socket.close()
            for fd in (*(fd for _, fd in self._queue if fd >= 0), *self._arrived):
                os.close(fd)
            self._queue.clear()
            self._arrived.clear()


def _own(fd: int) -> int:
    """What waits in a queue is a descriptor of its own: the sender may close his meanwhile. -1 where there is none."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) if fd >= 0 else -1
    except OSError:
        return -1  # the receiver takes it as lost
