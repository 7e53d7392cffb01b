"""
A descriptor that goes along with a message through a Unix socket.

Source: unix(7) on SCM_RIGHTS, cmsg(3).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

_FD = struct.Struct("i")

SPACE = socket.CMSG_SPACE(_FD.size)
"""The room that recvmsg needs for one."""


def passing(fd: int) -> list[tuple[int, int, bytes]]:
    """What sendmsg takes, so that the receiver gets a descriptor of the same file."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))]


def passed(control: Sequence[tuple[int, int, bytes]]) -> int:
    """The descriptor among what recvmsg has given, now the caller's; -1 where none came."""
    return int(_FD.unpack(control[0][2])[0]) if control else -1
