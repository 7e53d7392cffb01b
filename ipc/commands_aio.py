"""
Running system commands, for an asyncio event loop: the same words, awaitable.

Source: docs/commands.md.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from regrow.ipc import commands_wire as wire
from regrow.ipc.commands import CONNECT_S, GRACE_S, connect
from regrow.ipc.commands_request import check_input, request_frame, request_of
from regrow.ipc.commands_result import CommandResult, Progress
from regrow.ipc.errors import CallTimeout


class AsyncCommand:
    """A command that runs, or waits for its turn; used as `async with`, which ends it."""

    def __init__(self, run_dir: str, request: wire.Request, *, keeps: bool = False) -> None:
        self._run_dir = run_dir
        self._request = request
        self._progress = Progress(request.argv, request.timeout_s, keeps=keeps)
        self._end_s = time.monotonic() + request.timeout_s + GRACE_S
        self._connection: socket.socket | None = None

    async def begin(self) -> None:
        """
        Ask for it.

        Raises:
            NoProcess, BadRequest.
        """
        said = request_frame(self._request)
        within_s = min(CONNECT_S, self._request.timeout_s)
        connecting = asyncio.ensure_future(asyncio.to_thread(connect, self._run_dir, within_s))
        try:
            self._connection = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close_unused)
            raise
        await self._send(said)

    @property
    def pid(self) -> int | None:
        """Its pid, once it has been heard of."""
        return self._progress.started.pid if self._progress.started is not None else None

    async def wait_started(self) -> int:
        """Wait until its program runs; as `Command.wait_started`."""
        while self._progress.started is None and not self._progress.done:
            await self._take()
        if self._progress.error is not None:
            raise self._progress.error
        return self.pid or 0

    async def write(self, data: bytes) -> None:
        """Feed it. Output that comes meanwhile is kept for `lines`."""
        check_input(data)
        for first in range(0, len(data), wire.PIECE_BYTES):
            await self._send(wire.frame(wire.INPUT, data[first : first + wire.PIECE_BYTES]))

    async def end_input(self) -> None:
        """Nothing more will be fed."""
        await self._send(wire.frame(wire.INPUT))

    async def lines(self) -> AsyncIterator[tuple[str, bytes]]:
        """Its output as it comes; as `Command.lines`."""
        while True:
            for line in self._progress.lines():
                yield line
            if self._progress.done:
                break
            await self._take()
        if self._progress.error is not None:
            raise self._progress.error

    def cancel(self) -> None:
        """Have it ended; `wait` tells when it has."""
        if self._connection is not None:
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has ended

    async def wait(self) -> CommandResult:
        """Wait for its end; raises as `Command.wait` does. Cancelled, it ends the command."""
        try:
            while not self._progress.done:
                await self._take()
        finally:
            self.close()
        return self._progress.result()

    def close(self) -> None:
        """Let it be ended, and do not wait for that."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._progress.broken()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        try:
            while not self._progress.done:
                await self._take()
        finally:
            self.close()

    # the connection

    async def _send(self, said: bytes) -> None:
        """Send, and take in what comes meanwhile."""
        left = memoryview(said)
        while left and not self._progress.done and self._connection is not None:
            try:
                left = left[self._connection.send(left, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                await self._ready(also_for_sending=True)
                self._receive()
            except OSError:
                while not self._progress.done:
                    await self._take()

    async def _take(self) -> None:
        await self._ready()
        self._receive()

    def _receive(self) -> None:
        if self._connection is None:
            return
        try:
            self._progress.feed(self._connection.recv(1 << 18))
        except BlockingIOError:
            pass
        except OSError:
            self._progress.broken()

    async def _ready(self, *, also_for_sending: bool = False) -> None:
        """Wait until there is something to do; one task at a time."""
        connection = self._connection
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not future.done():
                future.set_result(None)

        def late() -> None:
            if not future.done():
                future.set_exception(CallTimeout(wire.NAME, self._progress.program, self._progress.timeout_s))

        fd = connection.fileno()
        timer = loop.call_later(max(0.0, self._end_s - time.monotonic()), late)
        loop.add_reader(fd, settle)
        if also_for_sending:
            loop.add_writer(fd, settle)
        try:
            await future
        finally:
            timer.cancel()
            loop.remove_reader(fd)
            if also_for_sending:
                loop.remove_writer(fd)


def _close_unused(connecting: asyncio.Future[socket.socket]) -> None:
    """Who wanted this connection has gone."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


async def run_command(run_dir: str, by: str, argv: Any, input: bytes | None, **options: Any) -> CommandResult:
    """Run a command to its end; raises as `Client.run_command` does. Cancelled, it ends the command."""
    if input is not None:
        check_input(input)
    command = AsyncCommand(run_dir, request_of(argv, by=by, feeds=input is not None, **options), keeps=True)
    try:
        await command.begin()
        if input is not None:
            await command.write(input)
            await command.end_input()
        return await command.wait()
    finally:
        command.close()


async def start_command(run_dir: str, by: str, argv: Any, **options: Any) -> AsyncCommand:
    """Start a command, or have it wait for its turn."""
    command = AsyncCommand(run_dir, request_of(argv, by=by, **{"feeds": True, **options}))
    try:
        await command.begin()
    except BaseException:
        command.close()
        raise
    return command
