"""
One child's log while it is being followed, from file to file.
"""

from __future__ import annotations

import os

from regrow.workers.system.history import Part, last_lines, parts, successor

READ_BYTES = 256 * 1024
LINE_BYTES = 1024 * 1024
"""A longer line comes in pieces."""


class Followed:
    """
    Where in which file we are. The file is held open, so that rotation cannot take it away unread.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._inode = 0
        self._at = 0
        self._unfinished = b""

    def begin(self, lines: int) -> list[bytes]:
        """Return the last complete `lines` lines and go on behind them; without a file, begin with one that comes."""
        with parts(self._path) as found:
            if not found:
                return []
            part = found[0]  # during a rotation this is the first old one, for a moment
            self._enter(part, os.dup(part.fd))
        self._at = _end_of_last_line(self._fd, part.size)
        return last_lines(self._path, lines, Part(self._fd, self._inode, self._at))

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self) -> tuple[list[bytes], bool]:
        """Return the next complete lines without newlines, a bounded number, and whether there may be more."""
        replaced = self._is_replaced()  # asked first: what is read afterwards is all that will ever be there
        said = self._read_on()
        if not said and replaced:
            moved_on = self._next_file()
            return [], moved_on
        return self._lines(said), bool(said)

    def _is_replaced(self) -> bool:
        try:
            return os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            return False

    def _read_on(self) -> bytes:
        if self._fd < 0:
            return b""
        if os.fstat(self._fd).st_size < self._at:  # truncated: what is there now is new
            self._at, self._unfinished = 0, b""
        said = os.pread(self._fd, READ_BYTES, self._at)
        self._at += len(said)
        return said

    def _lines(self, said: bytes) -> list[bytes]:
        lines = (self._unfinished + said).split(b"\n")
        self._unfinished = lines.pop()
        if len(self._unfinished) > LINE_BYTES:
            lines.append(self._unfinished)
            self._unfinished = b""
        return lines

    def _next_file(self) -> bool:
        """
        Go to the file that was written after ours, which need not be the present one; False if there is none.

        An unfinished line goes on there: the logger cuts endless lines.
        """
        if self._fd >= 0 and (after := successor(self._path, self._inode)) is not None:
            self.close()
            self._enter(after, after.fd)
            return True
        with parts(self._path) as found:
            newer = self._newer(found) if self._inode not in {part.inode for part in found} else []
            if not newer:  # or files were moved while we looked, which will be told
                return False
            self.close()
            self._enter(newer[-1], os.dup(newer[-1].fd))
        return True

    def _newer(self, found: list[Part]) -> list[Part]:
        """Return those that were written after ours, newest first."""
        if self._fd < 0:
            return found  # there was none when we began
        # Ours is beyond the kept ones, or was taken away by somebody else and its elders are still there.
        written_ns = os.fstat(self._fd).st_mtime_ns
        return [part for part in found if os.fstat(part.fd).st_mtime_ns >= written_ns]

    def _enter(self, part: Part, fd: int) -> None:
        """Begin with it; `fd`, which is ours from now on, is open on it."""
        self._fd, self._inode, self._at = fd, part.inode, 0


def _end_of_last_line(fd: int, size: int) -> int:
    """Return the offset behind the last newline, looking no further back than LINE_BYTES."""
    begin = max(0, size - LINE_BYTES)
    newline = os.pread(fd, size - begin, begin).rfind(b"\n")
    return begin + newline + 1 if newline >= 0 else begin
