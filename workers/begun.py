"""
Which post an agent is handling, where its successor finds it: a page that outlives the process, and costs no commit.

After a power-off it may say nothing; a post that ends the machine is not told from one that does not.
"""

from __future__ import annotations

import mmap
import os
import struct

from regrow.ipc.posts import ordinal_of

FOLDER = "begun"
ENDS = 3
_ENDS = struct.Struct(f"={ENDS}d")
_NONE = bytes(8)
SIZE = len(_NONE) + _ENDS.size


def folder_beside(store: str) -> str:
    """Where the pages are of all who use the store in this folder."""
    return os.path.join(os.path.dirname(store), FOLDER)


class Begun:
    """
    The page of one agent, made when it is missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._path = os.path.join(folder, name)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            found = os.fstat(fd)
            self._inode = found.st_ino
            if found.st_size < SIZE:
                os.pwrite(fd, bytes(SIZE), 0)  # a hole would be filled through the map, and kill where there is no room
            self._page = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)

    @property
    def ordinal(self) -> int:
        """That of the post that was begun last; 0: none."""
        return ordinal_of(self._page[:8])

    def mark(self, key: bytes) -> None:
        """The post with this key is begun; b"": none is."""
        self._page[:8] = key[-8:] or _NONE

    @property
    def ends(self) -> tuple[float, ...]:
        """When posts have ended the agent, the last few times; 0: not at all."""
        return _ENDS.unpack_from(self._page, len(_NONE))

    def add_end(self, now_s: float) -> None:
        """A post has ended the agent; in seconds of a clock that goes on with the next one."""
        _ENDS.pack_into(self._page, len(_NONE), *self.ends[1:], now_s)

    def is_gone(self) -> bool:
        """Whether another one is in its place, or none."""
        try:
            return os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            return True

    @staticmethod
    def said(path: str) -> int:
        """The ordinal in the page that is this file; 0: none. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return int.from_bytes(os.pread(fd, len(_NONE), 0), "big")
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmap it; what it says stays."""
        self._page.close()
