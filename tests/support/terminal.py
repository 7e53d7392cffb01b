"""A command whose stdin, stdout and stderr may be a terminal that the test reads."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

TIMEOUT_S = 20.0


class OnTerminal:
    """Runs a command with the descriptors in `on` (of 0, 1, 2) on a terminal; `said` is what it wrote there."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], on: Sequence[int] = (0, 1, 2), columns: int = 100
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 30, columns, 0, 0))
        streams = [theirs if number in on else subprocess.PIPE for number in range(3)]
        self.process = subprocess.Popen(
            command, stdin=streams[0], stdout=streams[1], stderr=streams[2],
            env={**environ, "TERM": "xterm"}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, words: str) -> str:
        """Read until `words` have been written; everything so far."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while words not in self.said:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"{words!r} not said: {self.said!r}"
            if select.select([self._ours], [], [], left_s)[0]:
                self.said += self._read()
        return self.said

    def end(self) -> tuple[int, str]:
        """Wait for the command's end; its exit status and what it wrote to a stdout that is a pipe."""
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        while select.select([self._ours], [], [], 0)[0]:
            try:
                self.said += self._read()
            except AssertionError:
                break
        os.close(self._ours)
        return self.process.returncode, (out or b"").decode()

    def _read(self) -> str:
        try:
            return os.read(self._ours, 1 << 16).decode(errors="replace")
        except OSError as error:  # EIO: the other side is closed
            raise AssertionError(f"ended after {self.said!r}") from error
