"""
What a command came to, and what is heard of it until then.

Source: docs/commands.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
from msgspec import Struct

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
        cut = ((self.stdout_cut, "stdout"), (self.stderr_cut, "stderr"))
        lost = " and ".join(f"{count} byte{'s' * (count != 1)} of {stream}" for count, stream in cut if count)
        lost = f" ({lost} cut)" if lost else ""
        return f"{what}: {self.text}{lost}" if self.text else what + lost


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
