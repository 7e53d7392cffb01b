"""
What a command came to, and what is heard of it until then.

Source: docs/commands.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from regrow.config.spec import Limits
from regrow.config.units import UnitError, duration_s, size_bytes
from regrow.ipc import commands_wire as wire
from regrow.ipc.down import KILLED, Down
from regrow.ipc.errors import (
    Backpressure,
    BadRequest,
    CallTimeout,
    MessageError,
    NoProcess,
    NoProgram,
    ProcessDown,
    Refused,
)

Word: TypeAlias = str | bytes | os.PathLike[str]

TIMEOUT_S = 60.0
"""How long a command may take unless it is said otherwise."""

OUTPUT_BYTES = 1 << 20
"""How much of each stream is kept unless it is said otherwise."""


class CommandResult(Struct, frozen=True, kw_only=True):
    """
    How a command ended. Sizes are bytes, times seconds; `at` is the time of day when it was started.

    `reason` is `exit` (with `code`), `signal` (with `signal`, such as `SIGSEGV`), `timeout`, `cancelled`, `oom`, `cpu`,
    or `start_failed` (with `stage` and `errno`); `text` says more. `stdout_cut` and `stderr_cut` are what was beyond
    the limit of a stream, and not kept. `peak_memory_bytes` is that of its largest process, or of all together where
    the daemon has control groups; a small program's is that of the process that became it.
    """

    argv: tuple[str, ...]
    reason: str
    code: int | None
    signal: str | None
    text: str
    stage: str
    errno: int
    stdout: bytes
    stderr: bytes
    stdout_cut: int
    stderr_cut: int
    at: float
    queued_s: float
    duration_s: float
    cpu_user_s: float
    cpu_system_s: float
    peak_memory_bytes: int

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with status 0."""
        return self.reason == "exit" and self.code == 0

    def __str__(self) -> str:
        what = {"exit": f"exit {self.code}", "signal": str(self.signal)}.get(self.reason, self.reason)
        return f"{what}: {self.text}" if self.text else what


class Progress:
    """
    What has been heard of one command. Pure: `feed` is given what has come, in pieces.

    `keeps`: output is put together for the result; otherwise only `lines` hands it out.
    """

    def __init__(self, argv: tuple[bytes, ...], timeout_s: float, *, keeps: bool) -> None:
        self.argv = argv
        self.timeout_s = timeout_s
        self.started: wire.Started | None = None
        self.ended: wire.Ended | None = None
        self.error: MessageError | None = None
        self._keeps = keeps
        self._frames = wire.Frames(wire.MAX_REQUEST_BYTES)
        self._kept = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}
        self._unread = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}

    @property
    def program(self) -> str:
        return os.fsdecode(self.argv[0]) if self.argv else "nothing"

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.ended is not None or self.error is not None

    def feed(self, piece: bytes) -> None:
        """Take in what has come; nothing: the connection has ended."""
        if not piece:
            self.broken()
            return
        try:
            for kind, payload in self._frames.feed(piece):
                self._take(kind, payload)
        except (wire.Malformed, msgspec.MsgspecError) as error:
            self.error = self.error or NoProcess(wire.NAME, f"it does not speak this protocol: {error}")

    def _take(self, kind: int, payload: bytes) -> None:
        if kind in self._kept:
            (self._kept if self._keeps else self._unread)[kind] += payload
        elif kind == wire.STARTED:
            self.started = msgspec.msgpack.decode(payload, type=wire.Started)
        elif kind == wire.ENDED:
            self.ended = msgspec.msgpack.decode(payload, type=wire.Ended)
        elif kind == wire.REFUSED:
            self.error = self._refusal(msgspec.msgpack.decode(payload, type=wire.Refusal))

    def broken(self) -> None:
        """The connection is gone: so is the runner, and what it ran."""
        if not self.done:
            text = f"the runner of {self.program} was killed, and the command with it"
            self.error = ProcessDown(Down(wire.NAME, 0, reason=KILLED, text=text))

    def _refusal(self, refusal: wire.Refusal) -> MessageError:
        if refusal.code == "backpressure":
            return Backpressure(wire.NAME, refusal.length, refusal.limit, "its queue")
        if refusal.code == "bad_request":
            return BadRequest(wire.NAME, refusal.text)
        if refusal.code == "not_found":
            return NoProgram(wire.NAME, refusal.text)
        if refusal.code == "timeout":
            return CallTimeout(wire.NAME, self.program, self.timeout_s)
        return Refused(refusal.code, refusal.text)

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Lines that are complete now, with the name of their stream; at the end also those without a line's end."""
        for kind, name in ((wire.STDOUT, "stdout"), (wire.STDERR, "stderr")):
            unread = self._unread[kind]
            while (end := unread.find(b"\n") + 1) > 0:
                line = bytes(memoryview(unread)[:end])
                del unread[:end]
                yield name, line
            if self.done and unread:
                yield name, bytes(unread)
                unread.clear()

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """What has come and was not handed out yet, with the name of its stream."""
        for kind, name in ((wire.STDOUT, "stdout"), (wire.STDERR, "stderr")):
            unread = self._unread[kind]
            if unread:
                piece = bytes(unread)
                unread.clear()
                yield name, piece

    def result(self) -> CommandResult:
        """
        What it came to.

        Raises:
            MessageError: it was not run, or nobody knows.
        """
        if self.error is not None:
            raise self.error
        assert self.ended is not None
        ended = self.ended
        return CommandResult(
            argv=tuple(map(os.fsdecode, self.argv)),
            reason=ended.reason,
            code=ended.code,
            signal=ended.signal,
            text=ended.text,
            stage=ended.stage,
            errno=ended.errno,
            stdout=bytes(self._kept[wire.STDOUT]),
            stderr=bytes(self._kept[wire.STDERR]),
            stdout_cut=ended.cut[0],
            stderr_cut=ended.cut[1],
            at=ended.at,
            queued_s=ended.queued_s,
            duration_s=ended.duration_s,
            cpu_user_s=ended.cpu_user_s,
            cpu_system_s=ended.cpu_system_s,
            peak_memory_bytes=ended.peak_memory_bytes,
        )


def request_of(
    argv: Collection[Word],
    *,
    timeout: float = TIMEOUT_S,
    env: Mapping[str, Word] | None = None,
    cwd: Word | None = None,
    user: str | int | None = None,
    stdout_limit: int | None = None,
    stderr_limit: int | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    isolate: Collection[str] = (),
    share_processes: bool = False,
    nice: int = 0,
    feeds: bool = False,
    by: str = "",
) -> wire.Request:
    """
    What is asked for, as it is sent.

    Raises:
        ValueError, TypeError: it says nothing that could be sent.
    """
    if isinstance(argv, str | bytes):
        raise TypeError(f"a command is a list of words, as in ['git', 'status'], not {argv!r}: there is no shell")
    if not (timeout or 0) > 0 or not math.isfinite(timeout):  # nor is None a time
        raise ValueError(f"cannot run a command for {timeout!r} seconds: a timeout is above 0, and finite")
    return wire.Request(
        argv=tuple(map(os.fsencode, argv)),
        timeout_s=float(timeout),
        env={os.fsencode(name): os.fsencode(value) for name, value in (env or {}).items()},
        cwd=os.fsencode(cwd) if cwd is not None else b"",
        user="" if user is None else str(user),
        feeds=feeds,
        stdout_limit=OUTPUT_BYTES if stdout_limit is None else stdout_limit,
        stderr_limit=OUTPUT_BYTES if stderr_limit is None else stderr_limit,
        limits=limits if isinstance(limits, Limits) else limits_of(limits or {}),
        isolate=(isolate,) if isinstance(isolate, str) else tuple(isolate),
        shares_processes=share_processes,
        nice=nice,
        by=by,
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(text)
    return int(text)


_LIMITS: dict[str, tuple[str, Callable[[str], int]]] = {
    "memory": ("memory_bytes", size_bytes),
    "file_size": ("file_size_bytes", size_bytes),
    "core": ("core_bytes", size_bytes),
    "cpu": ("cpu_s", lambda text: math.ceil(duration_s(text))),
    "open_files": ("open_files", _number),
    "processes": ("processes", _number),
}


def limits_of(written: Mapping[str, Any]) -> Limits:
    """
    Limits under the names that they have in the file; a number is bytes or seconds, a text has a unit.

    Raises:
        ValueError: there is no such limit, or it says nothing.
    """
    fields: dict[str, int] = {}
    for name, value in written.items():
        if name not in _LIMITS:
            from regrow.config.errors import nearest

            near = nearest(name, _LIMITS)
            meant = f"did you mean {near}?" if near else f"there are {', '.join(_LIMITS)}"
            raise ValueError(f"there is no limit {name[:40]}; {meant}")
        field, read = _LIMITS[name]
        try:
            fields[field] = read(value) if isinstance(value, str) else int(value)
        except UnitError as error:
            raise ValueError(f"limit {name} {f'{error}; {error.hint}' if error.hint else error}") from None
        except (ValueError, TypeError):
            raise ValueError(f"limit {name} must be a whole number, not {str(value)[:40]!r}") from None
    return Limits(**fields)


def request_frame(request: wire.Request) -> bytes:
    """
    As it is sent.

    Raises:
        BadRequest: it is too long.
    """
    said = wire.pack(wire.RUN, request)
    if len(said) > wire.MAX_REQUEST_BYTES:
        raise BadRequest(wire.NAME, f"the request has {len(said)} bytes, {wire.MAX_REQUEST_BYTES} are the limit")
    return said
