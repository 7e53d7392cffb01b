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
"""Where in run_dir mailboxes are, and bells beside them."""

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


class Rope:
    """
    What the bells of a daemon are rung with. Thread-safe; not for use in a forked process.

    Args:
        run_dir: the daemon's, which need not run.
    """

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, MBOX)
        self._lock = threading.Lock()
        self._folder_fd = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def ring(self, file: str) -> bool:
        """Ring the bell `file`; False when nobody is there to hear it. Never blocks, never raises."""
        with self._lock:
            if self._socket.fileno() < 0:
                return False
            try:
                return self._rung(file) or (self._is_elsewhere() and self._rung(file))
            except OSError:
                return False

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            self._socket.close()
            if self._folder_fd >= 0:
                os.close(self._folder_fd)
                self._folder_fd = -1

    def leave_to_parent(self) -> None:
        """In a forked process, where a thread that is not here may have held the lock."""
        self._lock = threading.Lock()
        self.close()

    def _rung(self, file: str) -> bool:
        if self._folder_fd < 0:
            return False
        try:
            self._socket.sendto(b"\0", f"/proc/self/fd/{self._folder_fd}/{file}")
        except BlockingIOError:
            pass  # it has not heard the last ones yet
        except OSError:
            return False
        return True

    def _is_elsewhere(self) -> bool:
        """Look for the folder: the daemon may have been started anew, with a new one."""
        fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        before, self._folder_fd = self._folder_fd, fd
        if before < 0:
            return True
        is_another = not os.path.samestat(os.fstat(before), os.fstat(fd))
        os.close(before)
        return is_another
