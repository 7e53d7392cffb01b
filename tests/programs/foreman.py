"""An agent that has tasks."""

from __future__ import annotations

from typing import Any

from taskwork import ask  # type: ignore[import-not-found]  # beside this file when it runs

from regrow.ipc import Down, Ok, Task
from regrow.workers import Agent, handler


class Foreman(Agent):
    """Starts tasks, and keeps what it is told of them."""

    def init(self) -> None:
        """Nothing runs yet."""
        self.jobs = self.tasks("jobs")
        self.begun: dict[str, Task] = {}
        self.told: list[tuple[str, Any, str]] = []

    @handler
    def begin(self, function: str, *args: Any) -> str:
        """Start one without waiting for it."""
        task = self.jobs.async_nolink(function, *args)
        self.begun[task.name] = task
        return task.name

    @handler
    def do(self, function: str, *args: Any) -> Any:
        """Start one and wait for it."""
        return self.jobs.async_(function, *args).wait()

    @handler
    def do_all(self, function: str, inputs: list[Any]) -> list[Any]:
        """One for each."""
        return [result.value for result in self.jobs.async_stream(function, inputs) if isinstance(result, Ok)]

    @handler
    def heard(self) -> list[tuple[str, Any, str]]:
        """The names, results and reasons of those that have ended."""
        return self.told

    def on_down(self, down: Down) -> None:
        """The result is here before."""
        task = self.begun.pop(down.name, None)
        result = task.yield_(0) if task is not None else None
        self.told.append((down.name, result.value if isinstance(result, Ok) else None, down.reason))
        ask("desk", f"told {down.name}")


class AsyncForeman(Agent):
    """The same with an event loop."""

    concurrency = 4

    def init(self) -> None:
        """Nothing was heard yet."""
        self.told: list[str] = []

    @handler
    async def do(self, function: str, *args: Any) -> Any:
        """Start one and await it."""
        task = await self.aio.tasks("jobs").async_(function, *args)
        return await task.wait()

    @handler
    async def do_all(self, function: str, inputs: list[Any]) -> list[Any]:
        """One for each."""
        stream = self.aio.tasks("jobs").async_stream(function, inputs)
        return [result.value async for result in stream if isinstance(result, Ok)]

    @handler
    def idle(self) -> str:
        """Whatever else goes on."""
        return "idle"

    @handler
    def heard(self) -> list[str]:
        """Who died."""
        return self.told

    def on_down(self, down: Down) -> None:
        """Of what was waited for nothing is told."""
        self.told.append(down.name)
