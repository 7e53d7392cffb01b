"""
The one message by which a waiting process gets a name: who it is from then on, and where its output goes.

It lies in a pair of sockets of which the supervisor holds both ends, so it can be taken back from who does not wake up:
either the spare has it, or the supervisor has, and never both.

Source: unix(7) on SCM_RIGHTS.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import spawn
from regrow.daemon.linux.rights import SPACE, passed, passing

STANDING = b"S"
"""On the status pipe of a spare: the module is imported, a name is waited for."""

TAKEN = b"T"
"""On the same: the message is here."""

MOST = 64 * 1024
"""Bytes of a message; what needs more is forked afresh."""


class Handover(Struct, frozen=True):
    """
    `env` is what is added to that of the spare. The descriptor that comes along is put on `outputs`; on `journals`
    comes a stream to the journal under the new name.
    """

    name: str
    args_json: str
    env: Mapping[str, str]
    outputs: tuple[int, ...] = ()
    journals: tuple[int, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Handover).decode


class Way:
    """The supervisor's hold on a spare: both ends of the pair."""

    def __init__(self, sockets: int = 0) -> None:
        """
        Make it, for a spare with so many listening sockets.

        Raises:
            SpawnError: there are no descriptors.
        """
        try:
            self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise SpawnError("make a way to hand over", error.errno or 0) from None
        fd = theirs.detach()
        try:
            self.theirs = socket.socket(fileno=spawn.out_of_way(fd, sockets))
        except SpawnError:
            self._ours.close()
            raise

    def send(self, message: Handover, fd: int) -> bool:
        """Hand over; `fd` stays ours, -1 for none. False when the message cannot be sent."""
        data = _encode(message)
        if len(data) > MOST:
            return False
        rights = passing(fd) if fd >= 0 else []
        try:
            self._ours.sendmsg([data], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def take_back(self) -> bool:
        """Whether the message was still there; now it is not."""
        try:
            return bool(self.theirs.recv(MOST, socket.MSG_DONTWAIT))
        except OSError:
            return False

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()


def receive(fd: int) -> tuple[Handover, int]:
    """
    In the spare: wait for the message; `fd` is closed then.

    Raises:
        OSError: the other end is gone.
    """
    with socket.socket(fileno=fd) as way:
        data, control, _, _ = way.recvmsg(MOST, SPACE, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return _decode(data), passed(control)
