"""Agents for tests of the command line: they answer, refuse, die and dawdle, each as it is told."""

from __future__ import annotations

import datetime
import os
import select
import signal
from decimal import Decimal
from typing import Any

from regrow.workers import Agent, handler


class Counter(Agent):
    """Counts."""

    def init(self, start: int = 0) -> None:
        self.count = start

    @handler
    def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    @handler
    def value(self) -> int:
        return self.count


class Odd(Agent):
    """Comes to every end that a message can come to."""

    replies = (LookupError,)

    @handler
    def echo(self, value: Any = None) -> Any:
        return value

    @handler
    def given(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": args, "kwargs": kwargs}

    @handler
    def typed(self, data: bytes, when: datetime.datetime | None = None, price: Decimal | None = None) -> str:
        return f"{data!r} {when} {price}"

    @handler
    def rich(self) -> dict[Any, Any]:
        at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        return {"bytes": b"abc", "at": at, 1: [1.5, float("nan")]}

    @handler
    def label(self, sku: str) -> str:
        return f"<{sku}>"

    @handler
    def who(self) -> str:
        return self.name

    @handler
    def lacks(self, what: str) -> None:
        raise LookupError(f"no {what} here")

    @handler
    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @handler
    def fail(self) -> None:
        raise RuntimeError("out of apples")

    @handler
    def wait(self, s: float) -> None:
        select.select([], [], [], s)

    @handler
    def circle(self, by: str) -> str:
        """Call somebody who calls us."""
        answer: str = self.call(by, "circle_back", to=self.name, timeout=0.3)
        return answer

    @handler
    def circle_back(self, to: str) -> Any:
        return self.call(to, "who", timeout=0.2)
