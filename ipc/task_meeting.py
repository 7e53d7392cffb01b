"""
How an owner comes to the connection of its task, and of nobody else.

The owner listens at an address that exists for this one task. Whoever connects is known by the kernel's word; and who
is connected still when a descriptor of its process is open was alive then, so that its number was nobody else's.

Source: unix(7) for SO_PEERCRED; pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from regrow.ipc.errors import CallTimeout

CONNECT_S = 5.0
"""How long a task that was started may take to connect, and to take its job."""


def meet(listener: socket.socket, pid: int) -> tuple[socket.socket, int] | None:
    """
    The connection of the process `pid`, and a descriptor of that process; None when it died before.

    Raises:
        CallTimeout: it lives, and does not connect; OSError: too many open files.
    """
    try:
        early = os.pidfd_open(pid)
    except ProcessLookupError:
        early = -1
    try:
        connection = _accept(listener, pid, early)
    finally:
        if early >= 0:
            os.close(early)
    if connection is None:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        connection.close()
        return None
    except OSError:
        connection.close()  # it will end, as it has no owner
        raise
    if _hung_up(connection):
        connection.close()
        os.close(pidfd)
        return None
    return connection, pidfd


def _accept(listener: socket.socket, pid: int, pidfd: int) -> socket.socket | None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if pidfd >= 0:
        poll.register(pidfd, select.POLLIN)
    end_s = time.monotonic() + CONNECT_S
    while True:
        ready = {fd for fd, _ in poll.poll(max(end_s - time.monotonic(), 0.0) * 1000 if pidfd >= 0 else 0)}
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            peer, _, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if peer == pid:
                return connection
            connection.close()  # a stranger
        elif ready or pidfd < 0:
            return None
        else:
            raise CallTimeout(f"pid {pid}", "connect", CONNECT_S)


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))
