"""Agents that try to send what no message can carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regrow.ipc import BadRequest
from regrow.workers import Agent, handler


class Careful(Agent):
    """Catches what comes, and goes on with the same handler; or does not."""

    @handler
    def try_all(self) -> list[list[str]]:
        """The place and the text of each refusal; around them, what can be sent."""
        bad: Any = {"n": 1, "order": [object()]}
        verbs: dict[str, Callable[[], object]] = {
            "post": lambda: self.post("other", "note", **bad),
            "put off": lambda: self.post("other", "note", delay=60.0, **bad),
            "schedule": lambda: self.schedule("every 1h", "note", **bad),
            "send": lambda: self.send("other", "note", **bad).wait(),
            "cast": lambda: self.cast("other", "note", **bad),
            "call": lambda: self.call("other", "note", **bad),
            "request": lambda: self.send_request("other", "note", **bad).wait_response(),
        }
        self.post("other", "note", 1)
        said = []
        for name, verb in verbs.items():
            self.state.add("tried")
            try:
                verb()
            except BadRequest as error:
                said.append([name, error.path, error.text])
        self.post("other", "note", 2)
        return said

    @handler
    def fail(self) -> None:
        """Nothing of this is left."""
        self.state["tried"] = -1
        self.post("other", "note", 3)
        self.post("other", "note", order=object())

    @handler
    def tried(self) -> int:
        return int(self.state.get("tried", 0))

    @handler
    def note(self, n: int = 0, order: Any = None) -> None:
        self.state.setdefault("noted", []).append(n)

    @handler
    def noted(self) -> list[int]:
        return list(self.state.get("noted", []))


class Interleaving(Agent):
    """The same with handlers that wait."""

    @handler
    async def try_all(self) -> list[list[str]]:
        """As the other."""
        said = []
        self.post("other", "note", 1)
        aio = self.aio
        verbs: dict[str, Any] = {"post": aio.post, "send": aio.send, "cast": aio.cast, "call": aio.call}
        for name, verb in verbs.items():
            self.state.add("tried")
            try:
                made = await verb("other", "note", order=[object()])
                if name == "send":
                    await made.wait()
            except BadRequest as error:
                said.append([name, error.path, error.text])
        self.post("other", "note", 2)
        return said

    @handler
    async def tried(self) -> int:
        return int(self.state.get("tried", 0))
