"""
Whether a server answers `GET` with a status from 200 to 399.

Only the status line decides, so a server that never ends its head or body costs nothing.

Source: RFC 9112 sections 3, 4 and 6; RFC 9110 section 15.2 (interim answers).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from regrow.daemon.linux.probe_attempt import PASSED, fault, reason, seconds
from regrow.daemon.linux.probe_connect import TcpAttempt
from regrow.daemon.loop import Loop

MAX_HEAD_BYTES = 8192
_SHOWN_BYTES = 60


class HttpAttempt(TcpAttempt):
    """Connect, send one request, read until the status is known or `MAX_HEAD_BYTES` have come."""

    def __init__(
        self,
        loop: Loop,
        timeout_s: float,
        on_done: Callable[[str], None],
        host: str,
        port: int,
        path: str,
        http_host: str,
    ) -> None:
        super().__init__(loop, timeout_s, on_done, host, port)
        self._unsent = request(path, http_host or self._peer)
        self._received = b""
        self._answering = False

    def _established(self, peer: socket.socket) -> str | None:
        self._answering = True
        return self._send(peer)

    def _late(self) -> str:
        if not self._answering:
            return super()._late()
        return f"no HTTP status from {self._peer} within {seconds(self._timeout_s)}{_came(self._received)}"

    def _send(self, peer: socket.socket) -> str | None:
        try:
            self._unsent = self._unsent[peer.send(self._unsent, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError as error:
            return f"{self._peer} took no request: {reason(error)}"
        if self._unsent:
            self._loop.watch(peer.fileno(), select.EPOLLOUT, self._sendable)
        else:
            self._loop.watch(peer.fileno(), select.EPOLLIN, self._readable)
        return None

    def _sendable(self, _events: int) -> None:
        if self._socket is None:
            return
        try:
            outcome = self._send(self._socket)
        except OSError as error:
            outcome = fault(error)
        if outcome is not None:
            self._finish(outcome)

    def _readable(self, _events: int) -> None:
        if self._socket is None:
            return
        try:
            chunk = self._socket.recv(MAX_HEAD_BYTES - len(self._received))
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(f"{self._peer} gave no HTTP status: {reason(error)}{_came(self._received)}")
            return
        self._received += chunk
        outcome = self._judge(ended=not chunk)
        if outcome is not None:
            self._finish(outcome)

    def _judge(self, ended: bool) -> str | None:
        status = parse_status(self._received)
        if status == INCOMPLETE and ended:
            return f"{self._peer} closed before an HTTP status{_came(self._received)}"
        if status == INCOMPLETE and len(self._received) < MAX_HEAD_BYTES:
            return None
        if status < 0:
            return f"{self._peer} did not answer with HTTP{_came(self._received)}"
        return PASSED if 200 <= status < 400 else f"HTTP status {status} from {self._peer}"


INCOMPLETE = -1
NOT_HTTP = -2
_STATUS_LINE = b"HTTP/d.d ddd"
_DIGIT = ord("d")


def parse_status(received: bytes) -> int:
    """
    The final status in the beginning of an answer: 101, or 200 to 999; `INCOMPLETE` while it may still come;
    `NOT_HTTP` as soon as it no longer can. Interim answers (1xx but 101) are passed over.
    """
    while True:
        line, newline, rest = received.partition(b"\n")
        status = _status_of(line.removesuffix(b"\r"), complete=bool(newline))
        if status < 0 or status == 101 or status >= 200:
            return status
        line, newline, rest = rest.partition(b"\n")
        while newline and line not in (b"", b"\r"):
            line, newline, rest = rest.partition(b"\n")
        if not newline:
            return INCOMPLETE
        received = rest


def _status_of(line: bytes, complete: bool) -> int:
    """The status in a status line; an incomplete line is `NOT_HTTP` when no ending could mend it."""
    for byte, wanted in zip(line, _STATUS_LINE, strict=False):
        if not (48 <= byte <= 57 if wanted == _DIGIT else byte == wanted):
            return NOT_HTTP
    if len(line) < len(_STATUS_LINE):
        return NOT_HTTP if complete else INCOMPLETE
    status = int(line[9:12])
    if status < 100 or line[12:13] not in (b"", b" "):
        return NOT_HTTP
    return status if complete else INCOMPLETE


def request(path: str, http_host: str) -> bytes:
    """The whole request. What cannot stand in a request target or a Host header is percent-encoded."""
    target = _printable(path if path.startswith("/") else "/" + path)
    return (
        b"GET " + target + b" HTTP/1.1\r\nHost: " + _printable(http_host) + b"\r\n"
        b"User-Agent: regrow\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )


def _printable(text: str) -> bytes:
    return b"".join(
        b"%c" % byte if 0x20 < byte < 0x7F else b"%%%02X" % byte for byte in text.encode("utf-8", "surrogateescape")
    )


def _came(received: bytes) -> str:
    """What came, shortened and made printable, as the end of a sentence."""
    if not received:
        return ", nothing came"
    shown = received[:_SHOWN_BYTES].decode("ascii", "backslashreplace")
    return f", got {shown!r}" + ("..." if len(received) > _SHOWN_BYTES else "")
