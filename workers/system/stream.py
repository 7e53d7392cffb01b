"""
One child's output on its way from the pipe to the file: bounded steps, whole lines where a file is shared.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from regrow.workers.system.history import last_bytes
from regrow.workers.system.log_protocol import Closed, FromLogger, Lost, Matched, Open
from regrow.workers.system.logfile import CannotSplice, LogFile
from regrow.workers.system.peek import Peek
from regrow.workers.system.rotation import portion
from regrow.workers.system.tail import Search, SearchTooSlow, Tail

STEP_BYTES = 1024 * 1024
"""One stream's share of a turn: a flooding child delays the others by no more than this."""

HELD = -1
"""What `move` returns when an unfinished line, its own or another stream's, should be waited for."""

LINE_WAITS_BELOW_BYTES = 4096
"""PIPE_BUF. A longer unfinished line in a shared file is not waited for."""

_LOOK_BACK_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024


class Stream:
    """
    A pipe's read end, its file, and what is still to be found in what it says. Owns `fd`.

    `begin` is where in the file its bytes begin, whichever logger wrote the first of them.
    """

    def __init__(self, spec: Open, fd: int, file: LogFile, peek: Peek, report: Callable[[FromLogger], None]) -> None:
        self.number = spec.stream
        self.fd = fd
        self.file = file
        self._peek = peek
        self._report = report
        self._search = self._compiled(spec.pattern)
        os.set_blocking(fd, False)
        file.share(self.number, Tail(), spec.shared)
        self.begin = file.position
        if spec.since and spec.since.inode:
            self.begin = spec.since
            self._look_back(spec)

    def _compiled(self, pattern: str) -> Search | None:
        try:
            return Search(pattern) if pattern else None
        except re.error as error:
            self._report(Lost(self.number, 0, f"not a pattern: {pattern!r}: {error}"))
            return None

    def _look_back(self, spec: Open) -> None:
        """Read what a former logger wrote of this stream: its tail, and the awaited line if that is there."""
        try:
            said = last_bytes(spec.path, self.begin, _LOOK_BACK_BYTES if self._search else _READ_BYTES)
        except OSError:
            return  # the file is in trouble, which is reported when it is written
        self.file.tails[self.number].remember(said)
        self._look_for_pattern(said)

    def move(self, limit: int = STEP_BYTES, force: bool = False) -> int:
        """
        Take up to `limit` bytes from the pipe to the file, or to its backlog while it has a fault.

        `force` also takes an unfinished line into a shared file.

        Returns:
            The number of bytes; 0 at the stream's end; HELD.
        Raises:
            BlockingIOError: nothing there.
        """
        if self.file.error is None:
            try:
                return self._splice(limit, force)
            except BlockingIOError:
                raise
            except CannotSplice:
                pass
            except OSError as error:
                self.file.fail(error)
        return self._absorb(min(limit, _READ_BYTES))

    def _splice(self, limit: int, force: bool) -> int:
        file = self.file
        file.prepare()
        if file.full:
            if not self._look():
                return 0  # the end is no reason to rotate, nor is an empty pipe
            file.make_room()
        room = file.room()
        if not force and file.shared and file.in_line_of_another(self.number):
            return HELD
        if file.shared or room == 0:
            count = self._count_after_a_look(room, force)
            if count <= 0:
                return count
        else:
            count = limit if room is None else min(limit, room)
        if file.by_turns:
            file.take_turn(self.number)
        moved = file.splice(self.number, self.fd, count)
        if moved and (file.shared or self._search):
            self._read_back(moved)
        return moved

    def _count_after_a_look(self, room: int | None, force: bool) -> int:
        window = self._look()
        if not window:
            return 0
        count = portion(window, room, whole_lines=self.file.shared)
        if not count:
            if not force and len(window) < LINE_WAITS_BELOW_BYTES:
                return HELD
            count = len(window)
        return min(count, self.file.cut_room()) if room == 0 else count

    def _look(self) -> bytes:
        """Return what the pipe holds, b"" at its end. Raises BlockingIOError, CannotSplice."""
        try:
            return self._peek(self.fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise CannotSplice from None
            raise

    def _read_back(self, count: int) -> None:
        said = self.file.read_back(count)
        if self.file.shared:
            self.file.tails[self.number].remember(said)
            self.file.mark_all()
        self._look_for_pattern(said)

    def _absorb(self, limit: int) -> int:
        try:
            said = os.read(self.fd, limit)
        except BlockingIOError:
            raise
        except OSError:
            return 0  # nothing will ever come from it again
        if said:
            self.file.absorb(self.number, said)
            self._look_for_pattern(said)
        return len(said)

    def _look_for_pattern(self, said: bytes, ended: bool = False) -> None:
        if self._search is None:
            return
        try:
            line = self._search.feed(said)
            if line is None and ended:
                line = self._search.rest()
        except SearchTooSlow:
            self._report(Lost(self.number, 0, "the pattern of the ready line takes too long: no longer looked for"))
            self._search = None
            return
        if line is not None:
            self._search = None
            self._report(Matched(self.number, line))

    def finish(self) -> Closed:
        """Leave the file, after `move` returned 0; what is to be reported when nobody needs the file any more."""
        self._look_for_pattern(b"", ended=True)
        try:
            tail = self.file.leave(self.number)
        except OSError as error:
            self.file.fail(error)
            tail = self.file.leave(self.number)
        for stream, count in self.file.backlog.unreported():
            self._report(Lost(stream, count, self.file.cause))
        os.close(self.fd)
        return Closed(self.number, tail.text())
