"""
The notify socket: how children of every kind tell their supervisor how they are.

One abstract datagram socket per supervisor, with systemd's protocol. Who sent a datagram is the kernel's
word (SCM_CREDENTIALS), never the datagram's.

Source: sd_notify(3), unix(7).
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator, Mapping

from msgspec import Struct

MAX_DATAGRAM = 64 * 1024
BATCH = 64
"""Datagrams taken in one turn; a flood waits in the kernel's bounded queue, and its senders with it."""

_UCRED = struct.Struct("3i")
_TRUNCATED = int(socket.MSG_TRUNC)  # the arithmetic of enumerations makes objects, and touches 20 pages


class Notice(Struct, frozen=True):
    """One datagram: the sender as the kernel names it, and its fields."""

    pid: int
    uid: int
    fields: Mapping[str, str]


class NotifySocket:
    """The receiving end; `address` is what goes into NOTIFY_SOCKET. `fd`: it is open already, since before an exec."""

    def __init__(self, name: str, fd: int = -1) -> None:
        self.address = f"@{name}"
        self._socket = socket.socket(fileno=fd) if fd >= 0 else _bound(name)
        self.fd = self._socket.fileno()
        self._poller = select.poll()
        self._poller.register(self.fd, select.POLLIN)

    def receive(self) -> Iterator[Notice]:
        """What has arrived, at most `BATCH` datagrams; garbage is dropped, descriptors sent along are closed."""
        if not self._poller.poll(0):
            return  # as at most deaths; finding that out by receiving takes four times as long
        for _ in range(BATCH):
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    MAX_DATAGRAM, socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(253 * 4), socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return  # empty, or the error of one sender: either way the next wake-up tells
            sender = _sender(ancillary)
            if sender is not None and not flags & _TRUNCATED:
                yield Notice(sender[0], sender[1], parse(data))

    def close(self) -> None:
        self._socket.close()


def _bound(name: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    made.bind("\0" + name)
    return made


def _sender(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int] | None:
    sender = None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _UCRED.size:
            pid, uid, _gid = _UCRED.unpack(data[: _UCRED.size])
            sender = (pid, uid)
        elif kind == socket.SCM_RIGHTS:
            for (fd,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                os.close(fd)
    return sender


def parse(data: bytes) -> dict[str, str]:
    """The `NAME=value` lines of a datagram; lines that are none are skipped."""
    fields = {}
    for line in data.split(b"\n"):
        name, separator, value = line.partition(b"=")
        if separator and name:
            fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return fields


def notify(address: str, text: str, fd: int = -1) -> None:
    """
    Send `text`, and a descriptor if there is one, to the notify socket at `address`.

    Never waits; an unreachable socket is no error.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sender:
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
            sender.sendmsg([text.encode()], rights, 0, "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass  # as sd_notify(3) has it: whoever asked for notices may be gone
