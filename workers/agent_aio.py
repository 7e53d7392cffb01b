"""The verbs of an agent whose handlers are `async def`: those of a client, and what belongs to its handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regrow.ipc.aio import AsyncVerbs

if TYPE_CHECKING:
    from datetime import datetime

    from regrow.ipc.groups import Address
    from regrow.ipc.node import Node
    from regrow.ipc.signals import Signals
    from regrow.workers.agent import Agent


class AgentVerbs(AsyncVerbs):
    """What `agent.aio` is."""

    def __init__(self, agent: Agent, node: Node, signals: Signals) -> None:
        super().__init__(node, signals)
        self._agent = agent

    async def post(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        id: str | None = None,
        expires: float | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        **kwargs: Any,
    ) -> str:
        """As `Agent.post`: it leaves when this handler commits, so there is nothing to wait for."""
        return self._agent.post(to, handler, *args, id=id, expires=expires, delay=delay, at=at, **kwargs)
