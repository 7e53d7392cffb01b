"""
Running system commands, for a thread that waits: `run_command` and `start_command` of clients and agents.

Source: docs/commands.md; architecture section 8.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from regrow.ipc import commands_wire as wire
from regrow.ipc.commands_request import check_input, request_frame, request_of
from regrow.ipc.commands_result import CommandResult, Progress
from regrow.ipc.errors import CallTimeout, NoProcess

CONNECT_S = 2.0
"""How long the worker may be absent, as while it is started anew."""

GRACE_S = 30.0
"""How long after its deadline the end of a command may take to be heard of, until the requester gives up."""


class Command:
    """
    A command that runs, or waits for its turn. Leaving its block cancels it, and waits until nothing of it is left.

    One thread uses it.
    """

    def __init__(self, run_dir: str, request: wire.Request, *, keeps: bool = False) -> None:
        self._progress = Progress(request.argv, request.timeout_s, keeps=keeps)
        said = request_frame(request)
        self._end_s = time.monotonic() + request.timeout_s + GRACE_S
        self._connection = connect(run_dir, min(CONNECT_S, request.timeout_s))
        self._connection.setblocking(False)
        try:
            self._send(said)
        except BaseException:
            self._connection.close()
            raise

    @property
    def pid(self) -> int | None:
        """Its pid, once it has been heard of."""
        return self._progress.started.pid if self._progress.started is not None else None

    @property
    def run(self) -> int | None:
        """Its number, which events name, once it has been heard of."""
        return self._progress.started.run if self._progress.started is not None else None

    def wait_started(self) -> int:
        """
        Wait until its program runs; its pid. 0 if it has ended without.

        Raises:
            MessageError: it is not run.
        """
        while self._progress.started is None and not self._progress.done:
            self._turn(select.POLLIN)
        if self._progress.error is not None:
            raise self._progress.error
        return self.pid or 0

    def write(self, data: bytes) -> None:
        """Feed it; waits until it has taken most of that. What it does not want to read is dropped."""
        check_input(data)
        for first in range(0, len(data), wire.PIECE_BYTES):
            self._send(wire.frame(wire.INPUT, data[first : first + wire.PIECE_BYTES]))

    def end_input(self) -> None:
        """Nothing more will be fed: it reads the end of its input."""
        self._send(wire.frame(wire.INPUT))

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """
        Its output as it comes: ("stdout" or "stderr", a line with its end). Ends with the command.

        Raises:
            MessageError: it is not run, or its end is not known.
        """
        while True:
            yield from self._progress.lines()
            if self._progress.done:
                break
            self._turn(select.POLLIN)
        if self._progress.error is not None:
            raise self._progress.error

    def fileno(self) -> int:
        """Readable when `receive` has something to take in."""
        return self._connection.fileno()

    @property
    def done(self) -> bool:
        """Whether its end, or why there is none, has been heard of."""
        return self._progress.done

    def receive(self) -> Iterator[tuple[str, bytes]]:
        """Wait until something comes, and hand out its output in the pieces in which that came."""
        if not self._progress.done:
            self._turn(select.POLLIN)
        yield from self._progress.pieces()

    def cancel(self) -> None:
        """Have it ended; `wait` tells when it has."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended

    def wait(self) -> CommandResult:
        """
        Wait for its end, which its timeout bounds. Nothing of it is left then.

        Raises:
            Refused, Backpressure, BadRequest, NoProcess: it was not run; CallTimeout: its turn did not come in time;
            ProcessDown: its runner was killed, and it with that.
        """
        try:
            while not self._progress.done:
                self._turn(select.POLLIN)
        finally:
            self._connection.close()
        return self._progress.result()

    def close(self) -> None:
        """Let it be ended, and do not wait for that."""
        self._connection.close()
        self._progress.broken()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection.fileno() < 0:
            return
        self.cancel()
        try:
            while not self._progress.done:
                self._turn(select.POLLIN)
        finally:
            self._connection.close()

    # the connection

    def _send(self, said: bytes) -> None:
        """Send all of it, and take in what comes meanwhile: who only spoke could wait for one who only speaks."""
        left = memoryview(said)
        while left and not self._progress.done:
            try:
                left = left[self._connection.send(left, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._turn(select.POLLIN | select.POLLOUT)
            except OSError:
                while not self._progress.done:  # why, has been said before
                    self._turn(select.POLLIN)

    def _turn(self, events: int) -> None:
        left_s = self._end_s - time.monotonic()
        poll = select.poll()
        poll.register(self._connection, events)
        found = poll.poll(max(0.0, left_s) * 1000)
        if not found:
            self._connection.close()
            raise CallTimeout(wire.NAME, self._progress.program, self._progress.timeout_s)
        if found[0][1] & ~select.POLLOUT:
            try:
                self._progress.feed(self._connection.recv(1 << 18))
            except BlockingIOError:
                pass
            except OSError:
                self._progress.broken()


def run_command(run_dir: str, by: str, argv: Any, input: bytes | None, **options: Any) -> CommandResult:
    """Run a command to its end. Raises as `Command.wait` does, and ValueError, TypeError."""
    request = request_of(argv, by=by, feeds=input is not None, **options)
    if input is not None:
        check_input(input)
    command = Command(run_dir, request, keeps=True)
    try:
        if input is not None:
            command.write(input)
            command.end_input()
        return command.wait()
    finally:
        command.close()


def start_command(run_dir: str, by: str, argv: Any, **options: Any) -> Command:
    """Start a command, or have it wait for its turn. Raises ValueError, TypeError, NoProcess, BadRequest."""
    return Command(run_dir, request_of(argv, by=by, **{"feeds": True, **options}))


def connect(run_dir: str, within_s: float) -> socket.socket:
    """
    A connection to the worker that runs commands.

    Raises:
        NoProcess: there is none, or we may not talk to it.
    """
    end_s = time.monotonic() + within_s
    pause_s = 0.002
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            _connect(connection, run_dir)
            return connection
        except OSError as error:
            connection.close()
            left_s = end_s - time.monotonic()
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN) or left_s <= 0:
                raise NoProcess(wire.NAME, why_not(error)) from None
        time.sleep(max(0.0, min(pause_s, left_s)))
        pause_s = min(pause_s * 1.5, 0.05)


def _connect(connection: socket.socket, run_dir: str) -> None:
    """By a path that is short, however long that of run_dir is."""
    folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.settimeout(0)
        connection.connect(f"/proc/self/fd/{folder}/{wire.SOCKET}")
    finally:
        os.close(folder)


def why_not(error: OSError) -> str:
    """What to tell of who cannot be connected to."""
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return "its daemon does not run, or runs no commands: trees with agents or a [commands] table do"
    return error.strerror or str(error)
