"""
What a process and the worker that runs commands say to each other: one connection for each command.

A frame is its kind, its length, and that many bytes. The requester sends RUN, and INPUT while it feeds the command; an
empty INPUT is the end of it. To close its side is to cancel: then nothing but the end comes. It hears STARTED, STDOUT
and STDERR as the output comes, and last ENDED, after which nothing of the command is left; or REFUSED and nothing else.

Source: docs/commands.md; the msgpack specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from regrow.config import internal
from regrow.config.spec import Limits

SOCKET = "command.sock"
"""Where in run_dir the worker listens."""

NAME = internal.COMMANDS
"""What the worker is called."""

RUN, INPUT = 1, 2
STARTED, STDOUT, STDERR, ENDED, REFUSED = 16, 17, 18, 19, 20

MAX_REQUEST_BYTES = 8 << 20
"""Arguments and environment together; the kernel takes some 2 MiB of them, which it says itself."""

PIECE_BYTES = 1 << 16
"""The most that an INPUT, STDOUT or STDERR frame holds."""

HEADER = struct.Struct("<BI")


class Request(Struct, frozen=True, omit_defaults=True):
    """
    One command that is to be run. `timeout_s` counts from its arrival, waiting in the queue included.

    `cwd` is empty for a directory of its own. `feeds` says whether INPUT will come. `isolate` holds words of
    `Isolation`; `user` is empty for the requester's own. `by` is what the requester calls itself.
    """

    argv: tuple[bytes, ...]
    timeout_s: float
    env: dict[bytes, bytes] = {}
    cwd: bytes = b""
    user: str = ""
    feeds: bool = False
    stdout_limit: int = 1 << 20
    stderr_limit: int = 1 << 20
    limits: Limits = Limits()
    isolate: tuple[str, ...] = ()
    shares_processes: bool = False
    nice: int = 0
    by: str = ""


class Started(Struct, frozen=True):
    """The command runs; `run` is its number, which events name too."""

    run: int
    pid: int


class Ended(Struct, frozen=True, omit_defaults=True):
    """
    How a command ended. Times are seconds; `at` is the time of day when it was started.

    `reason` is `exit` (with `code`), `signal` (with `signal`), `timeout`, `cancelled`, `oom`, `cpu`, `killed` (its
    runner was), or `start_failed` with `stage` and `errno`; `text` says more. `cut` is what of stdout and of stderr
    was not kept.
    """

    run: int
    reason: str
    code: int | None = None
    signal: str | None = None
    text: str = ""
    stage: str = ""
    errno: int = 0
    at: float = 0.0
    queued_s: float = 0.0
    duration_s: float = 0.0
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    peak_memory_bytes: int = 0
    cut: tuple[int, int] = (0, 0)


class Refusal(Struct, frozen=True, omit_defaults=True):
    """
    It is not run: `code` is `forbidden`, `bad_request`, `not_found` (its program is), `backpressure`, `timeout`,
    `unavailable` or `shutdown`.
    """

    code: str
    text: str
    length: int = 0
    limit: int = 0


class Malformed(ValueError):
    """That is no frame of this protocol."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(payload)) + payload


def pack(kind: int, message: Any) -> bytes:
    """One frame that holds a message."""
    return frame(kind, msgspec.msgpack.encode(message))


class Frames:
    """Puts frames together from the pieces in which they arrive; `limit` is the longest payload."""

    __slots__ = ("_limit", "_received")

    def __init__(self, limit: int = MAX_REQUEST_BYTES) -> None:
        self._received = bytearray()
        self._limit = limit

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """
        Take a piece; the frames that are complete now.

        Raises:
            Malformed.
        """
        self._received += piece
        while len(self._received) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._received)
            if length > self._limit:
                raise Malformed(f"a frame of {length} bytes, {self._limit} are the limit")
            end = HEADER.size + length
            if len(self._received) < end:
                return
            payload = bytes(memoryview(self._received)[HEADER.size : end])
            del self._received[:end]
            yield kind, payload

    @property
    def lacks(self) -> int:
        """How many bytes the present frame still needs: who reads no more than that takes nothing of the next one."""
        if len(self._received) < HEADER.size:
            return HEADER.size - len(self._received)
        return HEADER.size + int(HEADER.unpack_from(self._received)[1]) - len(self._received)
