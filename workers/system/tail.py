"""
What a stream said last, and whether it said what it was awaited to say.

Source: contract section 2 (`last_exit` and `why` show a crashed child's last words; `ready = line`).
"""

from __future__ import annotations

import os
import re
import signal
import types

from regrow.workers.system.log_protocol import TAIL_BYTES

LINE_BYTES = 8192
"""A pattern is looked for in the first this many bytes of a line."""

SEARCH_S = 0.2
"""A search that takes longer than this is given up: a pattern can take for ever on the wrong line."""

_CONTINUATION = bytes(range(0x80, 0xC0))


class Tail:
    """
    The end of one stream's output, read back from the file as late as possible.

    Bytes of the file from `mark` on are this stream's and have not been looked at yet.
    """

    __slots__ = ("_kept", "mark")

    def __init__(self, kept: bytes = b"", mark: int = 0) -> None:
        self._kept = kept[-TAIL_BYTES - 1 :]
        self.mark = mark

    def catch_up(self, fd: int, size: int) -> None:
        """Read what matters of the file between `mark` and `size`, before it goes out of reach."""
        if size > self.mark:
            begin = max(self.mark, size - TAIL_BYTES - 1)
            self.remember(os.pread(fd, size - begin, begin))
        self.mark = size

    def remember(self, said: bytes) -> None:
        """Note bytes of the stream, the newest so far. One more than shown is kept: was it a newline?"""
        self._kept = (self._kept + said[-TAIL_BYTES - 1 :])[-TAIL_BYTES - 1 :]

    @property
    def unfinished(self) -> bool:
        """Whether the last line lacks its newline."""
        return bool(self._kept) and not self._kept.endswith(b"\n")

    def text(self) -> str:
        """Return the last lines, at most TAIL_BYTES of them before decoding."""
        kept = self._kept
        if len(kept) > TAIL_BYTES:
            before_last_line = kept[:-1].rfind(b"\n")
            whole = kept[kept.find(b"\n") + 1 :] if before_last_line >= 0 else b""
            kept = whole or kept[-TAIL_BYTES:].lstrip(_CONTINUATION)
        return kept.decode(errors="replace")


class SearchTooSlow(Exception):
    """The pattern took longer than SEARCH_S."""


class Search:
    """
    Looks for a pattern in a stream's lines, as they come in pieces of any size.

    Raises:
        re.error: on construction, for what is no pattern.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._line = bytearray()

    def feed(self, said: bytes) -> str | None:
        """
        Return the first complete line that matches, without its newline, or None so far.

        Raises:
            SearchTooSlow
        """
        lines = said.split(b"\n")
        for piece in lines[:-1]:
            self._extend(piece)
            if (found := self.end()) is not None:
                return found
        self._extend(lines[-1])
        return None

    def end(self) -> str | None:
        """Look at what there is of the present line, and begin a new one. Raises SearchTooSlow."""
        line = self._line.decode(errors="replace").removesuffix("\r")
        self._line.clear()
        return line[:TAIL_BYTES] if _search(self._pattern, line) else None

    def rest(self) -> str | None:
        """Look at the unfinished line at the stream's end, if there is one. Raises SearchTooSlow."""
        return self.end() if self._line else None

    def _extend(self, piece: bytes) -> None:
        self._line += piece[: LINE_BYTES - len(self._line)]


_searching = False


def _search(pattern: re.Pattern[str], line: str) -> bool:
    global _searching
    try:
        _searching = True
        signal.setitimer(signal.ITIMER_REAL, SEARCH_S)
        return pattern.search(line) is not None
    finally:
        _searching = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def on_alarm(_number: int, _frame: types.FrameType | None) -> None:
    """SIGALRM's handler: ends a search (`re` looks for signals as it works); a late alarm means nothing."""
    if _searching:
        raise SearchTooSlow
