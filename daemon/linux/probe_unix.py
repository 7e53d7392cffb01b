"""
Whether a path exists, and whether somebody accepts connections at the UNIX socket there.

Both are answered at once when the kernel knows the path by heart; else a process of its own asks the file system.

Source: unix(7), connect(2).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from regrow.daemon.linux.probe_attempt import PASSED, fault, reason
from regrow.daemon.linux.probe_connect import connect_failure
from regrow.daemon.linux.probe_fork import CheckFailed
from regrow.daemon.linux.probe_path import is_local, open_cached
from regrow.daemon.linux.probe_process import ProbeProcesses, ProcessAttempt
from regrow.daemon.loop import Loop

_KINDS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)


class FileAttempt(ProcessAttempt):
    """Pass when `path` exists, symbolic links followed."""

    def __init__(
        self, loop: Loop, timeout_s: float, on_done: Callable[[str], None], processes: ProbeProcesses, path: str
    ) -> None:
        super().__init__(loop, timeout_s, on_done, processes, f"looking up {path}", self._ask_file_system)
        self._path = path

    def _start(self) -> str | None:
        outcome = self._judge(self._open_known)
        return super()._start() if outcome is None else outcome

    def _open_known(self, path: str) -> int | None:
        return open_cached(path)

    def _ask_file_system(self) -> None:
        outcome = self._judge(lambda path: os.open(path, os.O_PATH | os.O_CLOEXEC))
        if outcome != PASSED:
            raise CheckFailed(outcome)

    def _judge(self, open_path: Callable[[str], int | None]) -> str | None:
        if "\0" in self._path:
            return f"{self._path!r} cannot exist"
        try:
            fd = open_path(self._path)
        except OSError as error:
            return lookup_failure(self._path, error)
        if fd is None:
            return None
        try:
            return self._found(fd)
        finally:
            os.close(fd)

    def _found(self, _fd: int) -> str:
        return PASSED


class UnixAttempt(FileAttempt):
    """Pass when the socket at `path` accepts a connection, or, a datagram socket, is bound."""

    def _open_known(self, path: str) -> int | None:
        fd = open_cached(path)
        if fd is None:
            return None
        local = False
        try:
            local = is_local(fd)  # may raise: no free descriptors
        finally:
            if not local:
                os.close(fd)
        return fd if local else None

    def _found(self, fd: int) -> str:
        return connect_unix(fd, self._path)


def connect_unix(fd: int, name: str) -> str:
    """
    The outcome of connecting to the socket that `fd` (O_PATH) refers to; never waits.

    A full backlog fails: the socket is there, but nobody accepts.
    """
    code = errno.EPROTOTYPE
    for kind in _KINDS:
        with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as peer:
            code = peer.connect_ex(f"/proc/self/fd/{fd}")  # no second look at the file system, and no length limit
        if code != errno.EPROTOTYPE:
            break
    if code == errno.EAGAIN:
        return f"the backlog of {name} is full"
    return connect_failure(name, code) if code else PASSED


def lookup_failure(path: str, error: OSError) -> str:
    """What an error of opening `path` means."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{path} does not exist"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return fault(error)
    return f"cannot look up {path}: {reason(error)}"
