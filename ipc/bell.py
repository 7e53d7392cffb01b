"""
What wakes a process for which something was put into the store: a datagram to a socket beside its mailbox.

It is rung inside the transaction that puts it there, before the commit; whoever is woken looks under the writers' lock.
So it sees what was committed, or that nothing was: a ring cannot be lost with the process that rings.

Source: unix(7): a datagram is in its receiver's queue when send(2) returns.
"""

from __future__ import annotations

import os
import socket
import threading

MBOX = "mbox"
SUFFIX = ".bell"


class Bell:
    """
    The own bell, in the folder that mailboxes lie in.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, run_dir: str, file: str) -> None:
        self._folder = os.path.join(run_dir, MBOX)
        self._file = file
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            folder_fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # sun_path holds 107 bytes; a descriptor makes a short name of any folder
                path = f"/proc/self/fd/{folder_fd}/{file}"
                self._socket.bind(path)
                os.chmod(path, 0o777)  # who may ring is decided by the folder
            finally:
                os.close(folder_fd)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable after a ring."""
        return self._socket.fileno()

    def heard(self) -> bool:
        """Take in what was rung; whether there was anything."""
        rung = False
        try:
            while self._socket.recv(16):
                rung = True
        except BlockingIOError:
            pass
        return rung

    def close(self) -> None:
        """Take it down."""
        self._socket.close()
        try:
            os.unlink(os.path.join(self._folder, self._file))
        except OSError:
            pass  # the whole run_dir is gone, or somebody has tidied up


class _Rope:
    """The socket that this process rings others with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._run_dir = ""
        self._folder_fd = -1
        self._socket: socket.socket | None = None
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()

    def pull(self, run_dir: str, file: str) -> bool:
        with self._lock:
            if self._socket is None or self._run_dir != run_dir:
                self._turn_to(run_dir)
            return self._pulled(file) or (self._is_elsewhere() and self._pulled(file))

    def _pulled(self, file: str) -> bool:
        assert self._socket is not None
        try:
            self._socket.sendto(b"\0", f"/proc/self/fd/{self._folder_fd}/{file}")
        except BlockingIOError:
            pass  # it has not heard the last ones yet
        except OSError:
            return False
        return True

    def _is_elsewhere(self) -> bool:
        """The daemon was started anew, with a new folder."""
        before = os.fstat(self._folder_fd)
        self._turn_to(self._run_dir)
        return not os.path.samestat(before, os.fstat(self._folder_fd))

    def _turn_to(self, run_dir: str) -> None:
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
        self._folder_fd = -1
        self._folder_fd = os.open(os.path.join(run_dir, MBOX), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._run_dir = run_dir
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


_rope = _Rope()


def ring(run_dir: str, file: str) -> bool:
    """Ring the bell `file` of the daemon at `run_dir`; False when nobody is there to hear it."""
    try:
        return _rope.pull(run_dir, file)
    except OSError:
        return False
