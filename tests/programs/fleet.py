"""Agents for tests of the runtime."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from regrow.workers import Agent, Ignore, handler


class Pricer(Agent):
    """Replies, refuses, crashes, ends: each by its own handler."""

    replies = (KeyError,)

    def init(self, currency: str = "EUR", fails: bool = False, ignored: bool = False) -> None:
        if fails:
            raise RuntimeError(f"no rates for {currency}")
        if ignored:
            raise Ignore
        self.currency = currency
        self.handled: list[Any] = []

    @handler
    def quote(self, sku: str, quantity: int = 1) -> float:
        return 1.5 * quantity

    @handler
    def note(self, thing: Any) -> None:
        self.handled.append(thing)

    @handler
    def seen(self) -> list[Any]:
        return self.handled

    @handler
    def whoami(self) -> tuple[str, int, int, str]:
        return self.name, self.incarnation, os.getpid(), self.currency

    @handler
    def lacks(self, sku: str) -> None:
        raise KeyError(sku)

    @handler
    def crashes(self) -> None:
        raise ValueError("the rates are gone")

    @handler
    def exits(self, code: int | str | None) -> None:
        sys.exit(code)

    @handler
    def ends(self, reason: str = "normal") -> str:
        self.stop(reason)
        return "the last word"

    @handler
    def returns_object(self) -> Any:
        return {"items": [1, object()]}

    @handler
    def returns_text(self) -> int:
        return "three"  # type: ignore[return-value]

    @handler
    def computes(self, seconds: float) -> int:
        end_s = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end_s:
            rounds += 1
        return rounds

    def terminate(self, reason: str) -> None:
        print(f"terminate({reason}) after {self.handled}", flush=True)


class NoAgent:
    """Something else."""


class Waiter(Agent):
    """Handlers that wait for each other."""

    concurrency = 3
    replies = (LookupError,)

    async def init(self, greeting: str = "hello") -> None:
        self.greeting = greeting
        self.gates: dict[str, asyncio.Event] = {}
        self.most = self.inside = 0

    @handler
    async def wait(self, gate: str) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.gates.setdefault(gate, asyncio.Event()).wait()
        self.inside -= 1
        return f"{self.greeting} {gate}"

    @handler
    async def open(self, gate: str) -> None:
        self.gates.setdefault(gate, asyncio.Event()).set()

    @handler
    def inside_now(self) -> tuple[int, int]:
        return self.inside, self.most

    @handler
    def computes(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            pass

    @handler
    async def lacks(self, sku: str) -> None:
        raise KeyError(sku)

    @handler
    async def crashes(self) -> None:
        raise ValueError("the rates are gone")

    @handler
    def crashes_plainly(self) -> None:
        raise ValueError("the rates are gone")

    @handler
    async def cancels_itself(self) -> None:
        raise asyncio.CancelledError

    @handler
    async def exits(self, code: int) -> None:
        sys.exit(code)

    @handler
    async def ends(self) -> str:
        self.stop()
        return "the last word"

    async def terminate(self, reason: str) -> None:
        print(f"terminate({reason})", flush=True)
