"""
One log file as the logger writes it: opened by name, grown at its end, rotated, and retried when it fails.

The bytes go from pipe to file inside one splice(2), which takes them out of the pipe only once they are in
the file and is not left half way by a SIGKILL. Where to write is asked of the file itself (its size), so
there is no state that a death of the logger could take along. splice refuses files opened with O_APPEND.

Source: splice(2), flock(2); Linux fs/splice.c, iter_file_splice_write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from regrow.workers.system.backlog import Backlog, Held
from regrow.workers.system.faults import Faults, next_retry_s
from regrow.workers.system.log_protocol import Position
from regrow.workers.system.recovery import write_pending
from regrow.workers.system.rotation import CUT_AT, room, rotate
from regrow.workers.system.tail import Tail

DIRECTORY_MODE = 0o755
FILE_MODE = 0o640
"""Output may hold secrets: the daemon's user reads it, and its group."""


class CannotSplice(Exception):
    """Raised where the descriptor or the file system knows no splice: the bytes have to be read and written."""


class LogFile:
    """
    A file and the streams that share it (`tails`, by stream number).

    `error` says why it cannot be written now; then bytes go to the backlog. `cause` is the last such reason,
    in words. Methods that write raise OSError, upon which the caller calls `fail`.
    """

    def __init__(self, path: str, held: Held, faults: Faults, claims: Faults) -> None:
        self.path = path
        self.limit = 0
        self.keep = 0
        self.tails: dict[int, Tail] = {}
        self.backlog = Backlog(held)
        self.error: OSError | None = None
        self.cause = ""
        self.retry_delay_s = 0.0
        self._faults = faults
        self._claims = claims
        self._fd = -1
        self._inode = 0
        self._size = 0
        self._writer: int | None = None
        self._others_come = False
        self._rotation_error: OSError | None = None

    @property
    def shared(self) -> bool:
        return len(self.tails) > 1

    @property
    def by_turns(self) -> bool:
        """Whether the line that the file ends in may be another stream's: of one that is here, or still to come."""
        return self.shared or (self._others_come and self._writer is None)

    @property
    def position(self) -> Position:
        """Where the next byte goes; unknown while the file is not open."""
        return Position(self._inode, self._size) if self._fd >= 0 else Position(0, 0)

    @property
    def troubled(self) -> bool:
        """Whether `retry` has something to do."""
        return self.error is not None or self._rotation_error is not None

    # -- being open ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Be open at the file's present end; a file that was removed is made anew, a truncated one followed."""
        if self._fd >= 0:
            status = os.fstat(self._fd)
            if status.st_nlink:
                self._note_size(status.st_size)
                return
            self.release()
        self._open()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            fd = os.open(self.path, flags, FILE_MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), DIRECTORY_MODE, exist_ok=True)
            fd = os.open(self.path, flags, FILE_MODE)
        except ValueError as error:  # a NUL, or what the file system's encoding cannot say
            raise OSError(errno.EINVAL, str(error)) from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        self._fd, self._inode, self._size = fd, status.st_ino, status.st_size
        self._claim()
        for tail in self.tails.values():
            tail.mark = self._size

    def _claim(self) -> None:
        """Lock it, for nobody else should write here; who does goes on, as we do, and the file is told of."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "another daemon writes there too, and lines are lost: give each a log_dir of its own"
            self._claims.begin(self.path, f"cannot have {self.path} alone: {why}")
        except OSError:
            pass  # a file system without locks
        else:
            self._claims.end(self.path)

    def _note_size(self, size: int) -> None:
        if size < self._size:  # truncated from outside: what is there now was written since
            for tail in self.tails.values():
                tail.mark = min(tail.mark, size)
        self._size = size

    def release(self) -> None:
        """Close the file; the tails keep what they need of it. It is opened again when needed."""
        if self._fd < 0:
            return
        self._catch_up()
        os.close(self._fd)
        self._fd = -1

    def abandon(self) -> None:
        """Close the file for good, whatever state it is in."""
        self.release()
        self._faults.end(self.path)
        self._claims.end(self.path)
        self._clear_rotation_error()

    def share(self, stream: int, tail: Tail, others: bool) -> None:
        """Let one more stream write here; `others`: it is not the only one, though the rest may be still to come."""
        self._others_come |= others
        self._catch_up()
        tail.mark = self._size
        self.tails[stream] = tail

    def leave(self, stream: int) -> Tail:
        """Take a stream out at its end, its line finished, and return its tail."""
        if not self.error and self._fd >= 0 and self._writer in (stream, None) and self.mid_line():
            self.write(b"\n")
        self._catch_up()
        return self.tails.pop(stream)

    def _catch_up(self) -> None:
        if self._fd < 0:
            return
        for tail in self.tails.values():
            try:
                tail.catch_up(self._fd, self._size)
            except OSError:
                tail.mark = self._size  # unreadable: the tail is shorter, nothing else hangs on it

    # -- writing ---------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether it is to be rotated before more is written, if a line ends here."""
        return 0 < self.limit <= self._size

    def make_room(self) -> None:
        """Rotate if it is time; where that is refused, go on until the file is twice as large as wanted."""
        if not self.full:
            return
        too_large = self._size >= CUT_AT * self.limit
        if not too_large and (self._rotation_error or self.mid_line()):
            return
        try:
            self._rotate()
        except OSError as error:
            if too_large or self._fd < 0:
                raise
            self._rotation_error = error
            self._faults.begin(f"rotate {self.path}", f"cannot rotate {self.path}: {error.strerror}")

    def _rotate(self) -> None:
        if self._is_in_place():
            rotate(self.path, self.keep)
        self.release()
        self._open()
        self._clear_rotation_error()

    def _is_in_place(self) -> bool:
        """Whether the path still means our file: somebody else may have moved it already."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _clear_rotation_error(self) -> None:
        self._rotation_error = None
        self._faults.end(f"rotate {self.path}")

    def room(self) -> int | None:
        """Return how many bytes may be moved without a look at them; None: any number, 0: none."""
        return room(self._size, self.limit)

    def cut_room(self) -> int:
        """Return how many bytes of an endless line still fit."""
        return max(1, CUT_AT * self.limit - self._size)

    def in_line_of_another(self, stream: int) -> bool:
        """Whether another stream, which may still finish it, is in the middle of a line."""
        return self._writer != stream and self._writer in self.tails and self.mid_line()

    def take_turn(self, stream: int) -> None:
        """
        Begin to write for `stream` in a shared file: a line never holds bytes of two streams.

        Whose line a former logger left unfinished is not known: it may be broken in two here.
        """
        if self._writer != stream and self.mid_line():
            self.write(b"\n")
        self._writer = stream

    def splice(self, stream: int, pipe: int, count: int) -> int:
        """
        Move up to `count` bytes from a pipe to the end of the file, and return how many; 0 is the pipe's end.

        Raises:
            BlockingIOError: the pipe is empty.
            CannotSplice
        """
        try:
            moved = os.splice(pipe, self._fd, count, offset_dst=self._size, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise CannotSplice from None
            raise
        self._size += moved
        self._writer = stream
        return moved

    def read_back(self, count: int) -> bytes:
        """Return the last `count` bytes written."""
        return os.pread(self._fd, count, self._size - count)

    def mark_all(self) -> None:
        """Note that every tail knows what it needs of the file so far."""
        for tail in self.tails.values():
            tail.mark = self._size

    def write(self, said: bytes | bytearray) -> int:
        """Write at the end, and return how many bytes there was room for."""
        self._catch_up()
        written = os.pwrite(self._fd, said, self._size)
        self._size += written
        self.mark_all()
        return written

    def undo_to(self, size: int) -> None:
        """Cut off what was written last."""
        os.ftruncate(self._fd, size)
        self._size = size

    def mid_line(self) -> bool:
        """Whether the last line lacks its newline."""
        return self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    # -- in trouble ------------------------------------------------------------------------------

    def absorb(self, stream: int, said: bytes) -> None:
        """Take bytes that were read from a stream: into the file if that works, else into the backlog."""
        self._catch_up()
        self.tails[stream].remember(said)
        self.backlog.add(stream, said)
        if self.error is None:
            self.flush()

    def fail(self, error: OSError) -> None:
        """Note that the file cannot be written."""
        self.error = error
        self.cause = str(error.strerror)
        self._faults.begin(self.path, f"cannot write {self.path}: {error.strerror}")

    def retry(self) -> bool:
        """Try again what failed, and return whether all is well; else `retry_delay_s` says when to come back."""
        rotate = self._rotation_error is not None
        self.error = self._rotation_error = None
        self.flush(rotate)
        if not self.troubled:
            self.retry_delay_s = 0.0
            return True
        self.retry_delay_s = next_retry_s(self.retry_delay_s)
        return False

    def flush(self, rotate: bool = False) -> None:
        """Write the backlog, and `rotate` even without one; fails (see `fail`) rather than raises."""
        try:
            self.prepare()
            if rotate:
                self.make_room()
            for stream, pending in list(self.backlog.pending.items()):
                write_pending(self, stream, pending)
        except OSError as error:
            self.fail(error)
            return
        self._faults.end(self.path)
        if not self._rotation_error:
            self._clear_rotation_error()
