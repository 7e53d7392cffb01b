"""Agents that do what agents seldom do."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from regrow.workers import Agent, handler
from regrow.workers.notify import status


class Raiser(Agent):
    """Its errors are no ordinary text."""

    replies = (ValueError,)

    @handler
    def lacks(self, text: str, times: int = 1) -> None:
        raise ValueError(text * times)

    @handler
    def lacks_half(self) -> None:
        raise ValueError("no \udcff")

    @handler
    def drops_half(self) -> None:
        raise RuntimeError("no \udcff")

    @handler
    def is_cancelled(self) -> None:
        raise asyncio.CancelledError("by whom it called")

    @handler
    def is_interrupted(self) -> None:
        raise KeyboardInterrupt("by itself")

    @handler
    def pid(self) -> int:
        return os.getpid()

    @handler
    def forks(self) -> int:
        """The child takes the way up that `sys.exit` takes."""
        pid = os.fork()
        if pid == 0:
            sys.exit(3)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @handler
    def stops(self, seconds: float) -> None:
        """Keeps the interpreter, so that nobody accepts meanwhile."""
        self.stop()
        sys.setswitchinterval(10.0)
        status("it stops")
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            pass


class Napper(Agent):
    """One handler at a time, which first computes, and then waits."""

    @handler
    async def is_interrupted(self) -> None:
        raise KeyboardInterrupt("by itself")

    @handler
    async def is_odd(self) -> None:
        class Odd(BaseException):
            pass

        raise Odd("in an event loop")

    @handler
    async def nap(self, for_ever: bool) -> None:
        end_s = time.monotonic() + 0.004
        while time.monotonic() < end_s:
            pass
        if for_ever:
            await asyncio.Event().wait()
