"""
What root and the logger say to each other: small msgpack messages over SOCK_SEQPACKET. Root sends one in a packet, for
`Open` carries a descriptor; the logger an array of all that there are.

Neither end ever waits here: a full socket raises BlockingIOError and the caller keeps the message for when the socket
is writable again.

The conversation: a logger starts with `Hello`, and root answers with an `Open` for every stream that has
not met its end. `Hello` may come again from the same logger (it missed a descriptor); streams that it
has already are left alone. For every `Open` the logger answers `Opened`; root keeps the last position of
each stream and gives it back as `since` when it opens the stream in a successor (which repeats it in its own
`Opened`), so that the successor knows which part of the file is this stream's. After `Matched`, root opens
with an empty pattern.

Source: unix(7), cmsg(3).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

PACKET_BYTES = 64 * 1024
"""More than the largest packet: TOGETHER_BYTES, or one message with a path and a pattern of 4 KiB each."""

GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
"""Errors that say that there is no other end any more; others pass."""

TOGETHER_BYTES = 32 * 1024
"""Messages of the logger that travel together have no more than this."""

TAIL_BYTES = 4096
"""The most that `Closed.tail` and `Matched.line` hold, before decoding."""


class LogProtocolError(ValueError):
    """What came from the other end is no message of this protocol."""


class Position(Struct, frozen=True):
    """A place in a log file that rotation does not move: the file's inode and a byte offset. Inode 0: unknown."""

    inode: int
    offset: int


class Open(Struct, frozen=True, tag=True):
    """
    Log what comes from the descriptor sent along to `path`. `stream` is root's number for it, never reused.

    `max_size_bytes` 0 means no rotation. `keep` counts the old files, `path.1` to `path.<keep>`.
    `pattern`: report the first line in which `re.search` finds it. `since`: see the module. `shared`: root holds
    another stream with the same path, so that a line which a former logger left unfinished may be that one's.
    """

    stream: int
    name: str
    path: str
    max_size_bytes: int
    keep: int
    pattern: str = ""
    since: Position | None = None
    shared: bool = False


class Reopen(Struct, frozen=True, tag=True):
    """Close all files and open them again by name, for a logrotate that has moved them."""


class Hello(Struct, frozen=True, tag=True):
    """The logger is there and has no stream, or lacks some: send every open one."""


class Opened(Struct, frozen=True, tag=True):
    """The stream's bytes begin at `position`. Sent before the first byte is moved."""

    stream: int
    position: Position


class Matched(Struct, frozen=True, tag=True):
    """The first line in which the stream's pattern was found, without its newline."""

    stream: int
    line: str


class Closed(Struct, frozen=True, tag=True):
    """
    The stream met its end: all its bytes are in the file (or were counted as lost).

    `tail` is the last it said, whole lines, at most 4096 bytes; a single longer line is cut at its front.
    """

    stream: int
    tail: str


class Fault(Struct, frozen=True, tag=True):
    """Something cannot be written, and is being retried. Sent once until `FaultCleared`."""

    text: str


class FaultCleared(Struct, frozen=True, tag=True):
    """Everything is being written again."""


class Lost(Struct, frozen=True, tag=True):
    """
    `bytes_lost` more bytes of the stream were dropped, because of `text`.

    With 0 bytes: something else about the stream was given up (its pattern).
    """

    stream: int
    bytes_lost: int
    text: str


ToLogger: TypeAlias = Open | Reopen
FromLogger: TypeAlias = Hello | Opened | Matched | Closed | Fault | FaultCleared | Lost

_encode = msgspec.msgpack.Encoder().encode
_decode_to_logger = msgspec.msgpack.Decoder(ToLogger).decode
_decode_from_logger = msgspec.msgpack.Decoder(FromLogger | tuple[FromLogger, ...]).decode


class _End:
    """Owns the descriptor. Never blocks, whether or not that is non-blocking."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, for epoll; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        self._socket.close()


class RootEnd(_End):
    """Root's: it sends Open and Reopen and receives what the logger reports."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._packet = memoryview(bytearray(PACKET_BYTES))

    def send(self, message: ToLogger, fd: int | None = None) -> None:
        """
        Send one message, and a duplicate of `fd` with it.

        Raises:
            BlockingIOError: the socket is full; nothing was sent.
            OSError: neither; the other end is gone (`GONE`), or it will pass.
        """
        packet = _encode(message)
        if fd is None:
            self._socket.send(packet, socket.MSG_NOSIGNAL)
        else:
            socket.send_fds(self._socket, [packet], [fd], socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[FromLogger, ...] | None:
        """
        Take the next packet: what it holds, in order, or None at the end.

        Raises:
            BlockingIOError: nothing there.
            LogProtocolError: no messages of ours; the packet is gone, the channel is usable.
        """
        try:
            size = self._socket.recv_into(self._packet)
        except ConnectionResetError:
            # The other end died with our messages unread. Linux says so once, ahead of what it had sent.
            size = self._socket.recv_into(self._packet)
        if not size:
            return None
        packet: FromLogger | tuple[FromLogger, ...] = _decoded(_decode_from_logger, self._packet[:size])
        return packet if isinstance(packet, tuple) else (packet,)  # the logger's code is older than ours


class LoggerEnd(_End):
    """The logger's: it sends what it reports, and receives Open and Reopen."""

    def send(self, messages: Iterable[FromLogger]) -> int:
        """
        Send the first of these messages in one packet; returns how many that are.

        Raises:
            BlockingIOError: the socket is full; nothing was sent.
            OSError: neither; the other end is gone (`GONE`), or it will pass.
        """
        parts: list[bytes] = []
        size = 0
        for part in map(_encode, messages):
            size += len(part)
            if parts and size > TOGETHER_BYTES:
                break
            parts.append(part)
        array_of = b"\xdc" + len(parts).to_bytes(2, "big")  # as msgpack begins one of up to 65,535
        self._socket.send(array_of + b"".join(parts), socket.MSG_NOSIGNAL)
        return len(parts)

    def receive(self) -> tuple[ToLogger, int | None] | None:
        """
        Take the next message, with the descriptor that came along (now the caller's), or None at the end.

        Raises:
            BlockingIOError: nothing there.
            LogProtocolError: no message of ours; the packet is gone, the channel is usable.
        """
        try:
            packet, fds = self._take()
        except ConnectionResetError:  # see RootEnd.receive
            packet, fds = self._take()
        if not packet and not fds:
            return None
        try:
            return _decoded(_decode_to_logger, packet), fds[0] if fds else None
        except LogProtocolError:
            for fd in fds:
                os.close(fd)
            raise

    def _take(self) -> tuple[bytes, list[int]]:
        packet, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        return packet, fds


def _decoded(decode: Any, packet: Any) -> Any:
    try:
        return decode(packet)
    except msgspec.MsgspecError as error:
        raise LogProtocolError(f"cannot read a message between root and logger: {error}") from None
