"""Agents with an event loop that post."""

from __future__ import annotations

from regrow.workers import Agent, handler


class Refusal(Exception):
    """Belongs to the caller."""


class Poster(Agent):
    """Posts on, and changes its mind when it is told to."""

    replies = (Refusal,)

    @handler
    async def forward(self, to: str, n: int, refuse: bool = False) -> str:
        id = await self.aio.post(to, "count", n, id=f"n-{n}")
        if refuse:
            raise Refusal
        return id
