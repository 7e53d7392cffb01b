"""An agent whose handlers take one thing each, to be fuzzed."""

from __future__ import annotations

from typing import Any

from regrow.workers import Agent, handler


class Clerk(Agent):
    """Counts what it could read."""

    def init(self) -> None:
        self.count = 0

    @handler
    def note(self, thing: Any) -> None:
        self.count += 1

    @handler
    def quote(self, sku: str, quantity: int = 1) -> float:
        return 1.5 * quantity

    @handler
    def seen(self) -> int:
        return self.count

    @handler
    def whoami(self) -> str:
        return self.name
