"""Agents whose posts end them in every way there is."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from typing import Any, ClassVar

import msgspec

from regrow.workers import Agent, handler


class Refusal(Exception):
    """Belongs to the sender."""


def suffer(how: str) -> None:
    """End this process, or not."""
    match how:
        case "raise":
            raise RuntimeError("poison")
        case "base":
            raise BaseException("poison")
        case "refuse":
            raise Refusal("not this one")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "_exit":
            os._exit(0)
        case "exit 1":
            sys.exit(1)
        case "exit 0":
            sys.exit()
        case "segfault":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            ctypes.string_at(0)
        case "come back" | "come back raising" | "come back exiting":
            if os.fork() == 0:
                if how == "come back":
                    return
                raise RuntimeError("in the child") if how == "come back raising" else SystemExit(0)
            os.wait()


class Taker(Agent):
    """Keeps what it gets, unless that ends it."""

    replies = (Refusal,)

    @handler
    def take(self, number: int, how: str = "") -> None:
        """Change the state first, so that half of it would be seen."""
        self.state.setdefault("got", []).append(number)
        self.post("other", "take", number)
        suffer(how)

    @handler
    def got(self) -> list[int]:
        return list(self.state.get("got", []))

    @handler
    def pid(self) -> int:
        return os.getpid()


class OnceOnly(Taker):
    """Whatever fails once is put away."""

    max_attempts = 1


class Stubborn(Taker):
    """Never gives up."""

    max_attempts = 0


class AsyncTaker(Agent):
    """The same, some of it `async def`."""

    replies = (Refusal,)
    concurrency = 4

    @handler
    async def take(self, number: int, how: str = "") -> None:
        self.state.setdefault("got", []).append(number)
        self.post("other", "take", number)
        await asyncio.get_running_loop().run_in_executor(None, int)
        if how == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.get_running_loop().create_future()
        suffer(how)

    @handler
    async def crash(self) -> None:
        """End it while a post is waiting."""
        raise RuntimeError("not the post's fault")

    @handler
    async def hang(self) -> None:
        """Never return."""
        self.publish("hangs", None)
        await asyncio.get_running_loop().create_future()

    @handler
    def got(self) -> list[int]:
        return list(self.state.get("got", []))


class Basket(msgspec.Struct):
    """A state as one object."""

    version: ClassVar[int] = 1
    lines: list[str] = []


class Shop(Agent):
    """Its state is one object."""

    state: Basket

    @handler
    def add(self, line: str, size: int = 0) -> list[str]:
        self.state.lines.append(line + "x" * size)
        return self.lines()

    @handler
    def lines(self) -> list[str]:
        return [line[:8] for line in self.state.lines]


class Filler(Agent):
    """Needs room."""

    @handler
    def fill(self, key: str, size: int) -> int:
        """Keep this many bytes, and count."""
        self.state[key] = os.urandom(size)
        return int(self.state.add("count"))

    @handler
    def count(self) -> Any:
        return self.state.get("count", 0)
