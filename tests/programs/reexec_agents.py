"""Agents that are called and posted to while their supervisors go on in a new program, again and again."""

from __future__ import annotations

from regrow.workers import Agent, handler


class Quoter(Agent):
    """Answers."""

    @handler
    def work(self, number: int) -> int:
        return number + 1


class Sink(Agent):
    """Adds up what is posted to it."""

    @handler
    def take(self, number: int) -> None:
        self.state["count"] = self.state.get("count", 0) + 1
        self.state["sum"] = self.state.get("sum", 0) + number

    @handler
    def total(self) -> tuple[int, int]:
        return self.state.get("count", 0), self.state.get("sum", 0)
