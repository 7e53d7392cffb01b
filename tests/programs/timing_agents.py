"""Agents that do things later, and again and again."""

from __future__ import annotations

from typing import Any

from regrow.workers import Agent, handler


class Refusal(Exception):
    """Belongs to the sender."""


class Ticker(Agent):
    """Says at each start that it ticks."""

    replies = (Refusal,)

    def init(self, when: str = "every 1h", missed: str = "once") -> None:
        self.schedule(when, "tick", 1, missed=missed)

    @handler
    def tick(self, n: int = 1) -> None:
        self.state.add("ticks", n)

    @handler
    def ticks(self) -> int:
        found: int = self.state.get("ticks", 0)
        return found

    @handler
    def begin(self, when: str, id: str | None = None, fail: bool = False, **kwargs: Any) -> str:
        """Schedule something more."""
        found = self.schedule(when, kwargs.pop("call", "tick"), id=id, **kwargs)
        if fail:
            raise Refusal("after it was scheduled")
        return found

    @handler
    def end(self, *ids: str) -> list[bool]:
        return [self.cancel(id) for id in ids]

    @handler
    def later(self, to: str, delay: float, id: str | None = None) -> str:
        return self.post(to, "tick", delay=delay, id=id)

    @handler
    def never(self, to: str, id: str) -> bool:
        return self.cancel(id, to=to)

    @handler
    def replace(self, delay: float) -> list[bool]:
        """Put off, cancel, and put off again, all in one."""
        self.post(self.name, "tick", 1000, delay=delay, id="r")
        first = self.cancel("r", to=self.name)
        second = self.cancel("r", to=self.name)
        self.post(self.name, "tick", 10, delay=delay, id="r")
        return [first, second]
