"""
Whether somebody accepts connections at a TCP address. Addresses are numeric: nothing is ever resolved here.

Source: connect(2), tcp(7).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable

from regrow.daemon.linux.probe_attempt import PASSED, Attempt, fault, seconds
from regrow.daemon.loop import Loop

_PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Address = tuple[str, int] | tuple[str, int, int, int]


class TcpAttempt(Attempt):
    """Pass when the connection is established; it is closed again at once."""

    def __init__(self, loop: Loop, timeout_s: float, on_done: Callable[[str], None], host: str, port: int) -> None:
        super().__init__(loop, timeout_s, on_done)
        self._host, self._port = host, port
        self._peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._socket: socket.socket | None = None
        self._address: Address = (host, port)

    def _start(self) -> str | None:
        target = numeric_address(self._host, self._port)
        if target is None:
            return f"{self._peer} is not a numeric address"
        family, self._address = target
        self._socket = peer = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        code = peer.connect_ex(self._address)
        if code in _PENDING:
            self._loop.watch(peer.fileno(), select.EPOLLOUT, self._progress)
            return None
        return self._connect_result(peer, code)

    def _release(self) -> None:
        peer, self._socket = self._socket, None
        if peer is not None:
            self._loop.unwatch(peer.fileno())
            peer.close()

    def _late(self) -> str:
        return f"no connection to {self._peer} within {seconds(self._timeout_s)}"

    def _progress(self, _events: int) -> None:
        """
        Ask by connecting again: unlike SO_ERROR that also knows "not yet".

        An event may be a stale one, of a descriptor with the same number that was closed in this very turn.
        """
        peer = self._socket
        if peer is None:
            return
        code = peer.connect_ex(self._address)
        if code in _PENDING:
            return
        try:
            outcome = self._connect_result(peer, 0 if code == errno.EISCONN else code)
        except OSError as error:
            outcome = fault(error)
        if outcome is not None:
            self._finish(outcome)

    def _connect_result(self, peer: socket.socket, code: int) -> str | None:
        if code != 0:
            return connect_failure(self._peer, code)
        if connected_to_itself(peer):
            # Reset instead of FIN: a TIME_WAIT here would keep the very port from the child.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return connect_failure(self._peer, errno.ECONNREFUSED)
        return self._established(peer)

    def _established(self, _peer: socket.socket) -> str | None:
        return PASSED


def numeric_address(host: str, port: int) -> tuple[int, Address] | None:
    """The family and socket address of a numeric host, with an interface after `%` if it is IPv6; else `None`."""
    if not 0 < port < 65536:
        return None
    plain, _, scope = host.partition("%")
    try:
        if ":" not in host:
            socket.inet_pton(socket.AF_INET, host)
            return socket.AF_INET, (host, port)
        socket.inet_pton(socket.AF_INET6, plain)
        index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope else 0
        return socket.AF_INET6, (plain, port, 0, index)
    except (OSError, ValueError):
        return None


def connected_to_itself(peer: socket.socket) -> bool:
    """
    Whether the kernel gave the connection the wanted port as its own port, and so connected it to itself.

    That happens when nobody listens on a port out of `ip_local_port_range`. Source: RFC 9293, 3.5 (simultaneous open).
    """
    try:
        return bool(peer.getsockname() == peer.getpeername())
    except OSError:
        return False  # already gone again: it was somebody


def connect_failure(peer: str, code: int) -> str:
    """What connect(2) failing with `code` is called."""
    if code == errno.ECONNREFUSED:
        return f"connection refused by {peer}"
    return f"cannot connect to {peer}: {os.strerror(code)}"
