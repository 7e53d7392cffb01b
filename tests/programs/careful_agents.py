"""Agents that use their state in every place where they can, and where they cannot."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

from regrow.ipc.down import Down
from regrow.workers import Agent, handler


class Refusal(Exception):
    """Belongs to the sender."""


def outcome_of(function: Any) -> str:
    """What it raises, or nothing."""
    try:
        function()
    except RuntimeError as error:
        return str(error)
    return ""


class Everywhere(Agent):
    """Each hook keeps something and posts it on."""

    replies = (Refusal,)

    def __init__(self) -> None:
        self.state.add("__init__")

    def init(self, topic: str = "") -> None:
        self._keep("init")
        if topic:
            self.subscribe(topic)

    def terminate(self, reason: str) -> None:
        self._keep("terminate")

    def on_down(self, down: Down) -> None:
        self._keep("on_down")

    def on_signal(self, topic: str, message: Any) -> None:
        self._keep("on_signal")

    def _keep(self, what: str) -> None:
        self.state.add(what)
        self.post("other", "note", what)

    @handler
    def watch(self, name: str) -> None:
        self.monitor(name)

    @handler
    def kept(self) -> dict[str, int]:
        return {str(key): value for key, value in self.state.items()}

    @handler
    def in_a_thread(self) -> str:
        """The state in a thread of its own."""
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(outcome_of(lambda: self.state.add("thread"))))
        thread.start()
        thread.join()
        return found[0]

    @handler
    def in_a_child(self) -> str:
        """The state, and the verbs that go with it, in a forked process."""
        receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)

        def body() -> None:
            self_post = outcome_of(lambda: self.post("other", "note", "child"))
            send.send(outcome_of(lambda: self.state.add("child")) + self_post)

        child = multiprocessing.get_context("fork").Process(target=body)
        child.start()
        found = str(receive.recv())
        child.join()
        return found

    @handler
    def blocks(self, refuse: bool = False) -> int:
        """A block within a block, and what comes behind it."""
        self.state["n"] = 1
        with self.transaction():
            self.state["n"] = 2
            with self.transaction():
                self.state["n"] = 3
        found = self.state["n"]
        self.state.add("after")
        if refuse:
            raise Refusal
        return int(found)

    @handler
    def kill_after_a_block(self) -> None:
        """What is in the block stays."""
        self.state.add("before")
        with self.transaction():
            self.state.add("inside")
            self.post("other", "note", "inside")
        self.state.add("after")
        os.kill(os.getpid(), signal.SIGKILL)

    @handler
    def effect(self, key: str, file: str, how: str = "") -> int:
        """Something outside the store, at most once if all goes well."""

        def do() -> Any:
            with Path(file).open("a") as out:
                out.write("x")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "refuse":
                raise Refusal
            return object() if how == "object" else 42

        result = self.once(key, do)
        if how == "refuse later":
            raise Refusal
        return int(result)


class AsyncEverywhere(Agent):
    """The same, with an event loop."""

    replies = (Refusal,)
    concurrency = 4

    async def init(self) -> None:
        self.state.add("init")
        self.task = asyncio.get_running_loop().create_task(self._behind())
        self.found: list[str] = []

    async def _behind(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, int)
        self.found.append(outcome_of(lambda: self.state.add("behind")))

    async def terminate(self, reason: str) -> None:
        self.state.add("terminate")

    @handler
    async def blocks(self) -> int:
        """A block around what others may overtake."""
        with self.transaction():
            n = self.state.get("n", 0)
            await asyncio.get_running_loop().run_in_executor(None, int)
            self.state["n"] = n + 1
        return int(self.state["n"])

    @handler
    async def leaves_a_task(self) -> None:
        """It uses the state when its handler is done."""
        done = asyncio.Event()

        async def later() -> None:
            await done.wait()
            await self._behind()

        self.task = asyncio.get_running_loop().create_task(later())
        asyncio.get_running_loop().call_soon(done.set)

    @handler
    def leaves_a_task_plainly(self) -> None:
        """The same from a plain function."""
        self.task = asyncio.get_running_loop().create_task(self._behind())

    @handler
    async def errors(self) -> list[str]:
        """What came of the tasks."""
        await self.task
        return self.found

    @handler
    def kept(self) -> dict[str, int]:
        return {str(key): value for key, value in self.state.items()}


class Member(Agent):
    """One of a group that counts together."""

    @handler
    def count(self) -> None:
        self.group_state.add("total")
        self.state.add("mine")

    @handler
    def totals(self) -> list[int]:
        return [int(self.group_state.get("total", 0)), int(self.state.get("mine", 0))]


class AsyncMember(Agent):
    """The same with handlers that overlap."""

    concurrency = 3

    @handler
    async def count(self) -> None:
        total = self.group_state.get("total", 0)
        await asyncio.get_running_loop().run_in_executor(None, int)
        self.group_state["total"] = total + 1
        self.state.add("mine")

    @handler
    def totals(self) -> list[int]:
        return [int(self.group_state.get("total", 0)), int(self.state.get("mine", 0))]


class Slow(Agent):
    """Its handler has changed something, and does not return."""

    @handler
    def stop_here(self, pipe: str) -> None:
        """Until somebody lets it go on."""
        self.state.add("n")
        self.post("other", "note", "slow")
        Path(pipe).write_text("here")
        os.kill(os.getpid(), signal.SIGSTOP)

    @handler
    def never(self, pipe: str) -> None:
        """For ever."""
        self.state.add("n")
        Path(pipe).write_text("here")
        while True:
            signal.pause()

    @handler
    def kept(self) -> int:
        return int(self.state.get("n", 0))
