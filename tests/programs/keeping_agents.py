"""Agents that keep state and handle posts."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, ClassVar

import msgspec

from regrow.workers import Agent, handler


class Refusal(Exception):
    """Belongs to the sender."""


class Counter(Agent):
    """Counts, and passes on what it is told to."""

    replies = (Refusal,)

    @handler
    def count(self, n: int = 1) -> int:
        self.state["total"] = self.state.get("total", 0) + n
        return int(self.state["total"])

    @handler
    def total(self) -> int:
        return int(self.state.get("total", 0))

    @handler
    def append(self, value: Any) -> None:
        """Change a list where it is."""
        self.state.setdefault("list", []).append(value)

    @handler
    def listed(self) -> list[Any]:
        return list(self.state.get("list", []))

    @handler
    def refuse(self) -> None:
        self.state["total"] = -1
        raise Refusal("no")

    @handler
    def crash(self) -> None:
        self.state["total"] = -1
        raise RuntimeError("crashed on purpose")

    @handler
    def die(self) -> None:
        self.state["total"] = -1
        os.kill(os.getpid(), signal.SIGKILL)

    @handler
    def forward(self, to: str, n: int, last: bool = False) -> None:
        """Count, and post on."""
        self.state.add("total", n)
        self.post(to, "count", n)
        if last:
            raise Refusal("after it has posted")

    @handler
    def pid(self) -> int:
        return os.getpid()


class Cart(msgspec.Struct):
    """A state as one object."""

    version: ClassVar[int] = 1
    lines: list[str] = []
    total: int = 0


class Shop(Agent):
    """Its state is one object."""

    replies = (Refusal,)
    state: Cart

    @handler
    def add(self, line: str) -> int:
        self.state.lines.append(line)
        self.state.total += 1
        return self.state.total

    @handler
    def refuse(self, line: str) -> None:
        self.state.lines.append(line)
        raise Refusal(line)

    @handler
    def lines(self) -> list[str]:
        return self.state.lines


class Waiter(Agent):
    """Some of its handlers are `async def`."""

    concurrency = 4

    @handler
    async def count(self, n: int = 1) -> int:
        """Lose an update, if nobody looks after it."""
        total = self.state.get("total", 0)
        await asyncio.get_running_loop().run_in_executor(None, int)
        self.state["total"] = total + n
        return int(self.state["total"])

    @handler
    def total(self) -> int:
        return int(self.state.get("total", 0))
