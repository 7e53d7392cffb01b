"""
Being told by the kernel what happens in a directory.

Source: inotify(7), which Python does not offer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ONLYDIR = 0x1000000

_HEADER = struct.Struct("iIII")
_READ_BYTES = 64 * 1024


class Event(NamedTuple):
    """What happened (`mask`) to the entry `name` of the directory watched as `watch`."""

    watch: int
    mask: int
    name: str


class Inotify:
    """An inotify descriptor; non-blocking, close-on-exec."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(
            self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify", errno.EMFILE, "max_user_instances"
        )

    def fileno(self) -> int:
        """Return the descriptor, for poll."""
        return self._fd

    def watch(self, directory: str, mask: int) -> int:
        """
        Watch a directory and return the number that its events carry.

        Raises:
            OSError: ENOENT, ENOTDIR, EACCES; ENOSPC is the limit fs.inotify.max_user_watches.
        """
        found = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), ctypes.c_uint32(mask))
        return _checked(found, directory, errno.ENOSPC, "max_user_watches")

    def unwatch(self, watch: int) -> None:
        """Stop watching; a directory that is gone already is no error."""
        self._libc.inotify_rm_watch(self._fd, watch)

    def events(self) -> Iterator[Event]:
        """Yield what has happened so far, in order; does not wait."""
        try:
            read = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(read):
            watch, mask, _cookie, length = _HEADER.unpack_from(read, at)
            at += _HEADER.size
            yield Event(watch, mask, os.fsdecode(read[at : at + length].rstrip(b"\0")))
            at += length

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def _checked(result: int, what: str, full: int, limit: str) -> int:
    """Raises OSError; that of the number `full` says which limit of the kernel is reached."""
    if result < 0:
        number = ctypes.get_errno()
        more = f": fs.inotify.{limit} of sysctl may be reached" if number == full else ""
        raise OSError(number, f"{os.strerror(number)}{more}", what)
    return result
