"""Agents for tests of the runtime."""

from __future__ import annotations

import asyncio
import datetime
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from regrow.ipc.down import Down
from regrow.ipc.errors import MessageError
from regrow.ipc.mailbox import Signal
from regrow.ipc.node import CHAIN
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
    def open_by(self, gate: str, fifo: str) -> None:
        """The gate opens when something is written into the fifo."""
        event = self.gates.setdefault(gate, asyncio.Event())
        loop = asyncio.get_running_loop()
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

        def open_gate() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            event.set()

        loop.add_reader(fd, open_gate)

    @handler
    def begins_a_task(self) -> None:
        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up", flush=True)

        self.task = asyncio.get_running_loop().create_task(endless())

    @handler
    def crashes_later(self) -> None:
        def fail() -> None:
            raise ValueError("too late")

        asyncio.get_running_loop().call_soon(fail)

    @handler
    async def crashes_in_a_group(self) -> None:
        async def fails() -> None:
            raise ValueError("the task is gone")

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

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


class Link(Agent):
    """One of several that call each other."""

    replies = (MessageError,)

    @handler
    def forward(self, to: list[str], seconds: float = 5.0) -> Any:
        """Have the first one forward to the rest; the last one answers."""
        if not to:
            return self.name
        return self.call(to[0], "forward", to[1:], seconds, timeout=seconds)

    @handler
    def ask(self, to: str, name: str, *args: Any) -> Any:
        return self.call(to, name, *args)

    @handler
    def in_threads(self, to: str, count: int) -> list[Any]:
        """Ask so many times, from several threads at once."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda number: self.call(to, "quote", "A1", number), range(count)))

    @handler
    def uses_aio(self) -> None:
        _ = self.aio

    @handler
    def chain(self) -> list[str]:
        return list(CHAIN.get())

    @handler
    def ask_chain(self, of: list[str]) -> list[str]:
        """What chain reaches the last of these."""
        if len(of) == 1:
            return self.call(of[0], "chain", returns=list[str])
        return self.call(of[0], "ask_chain", of[1:], returns=list[str])


class Watching(Agent):
    """Is told of deaths; has another name."""

    def init(self) -> None:
        self.deaths: list[list[Any]] = []

    @handler
    def watch(self, name: str) -> None:
        self.monitor(name)

    @handler
    def take_name(self, name: str) -> None:
        self.register(name)

    @handler
    def give_name(self, name: str) -> None:
        self.unregister(name)

    @handler
    def seen(self) -> list[list[Any]]:
        return self.deaths

    def on_down(self, down: Down) -> None:
        self.deaths.append([down.name, down.incarnation])
        print(f"down {down.name}", flush=True)


class Parent(Agent):
    """Has processes of its own."""

    @handler
    def fork(self) -> int:
        """A child that lives until it gets a signal, and says how it was ended."""
        child = multiprocessing.get_context("fork").Process(target=_block)
        child.start()
        child.terminate()
        child.join(5.0)
        status = child.exitcode
        if status is None:
            child.kill()
            child.join()
        return -signal.SIGKILL if status is None else status

    @handler
    def has_parent(self) -> bool:
        """Whether multiprocessing knows that this is somebody's child."""
        return multiprocessing.parent_process() is not None


def _block() -> None:
    signal.pause()


class Stubborn(Agent):
    """Takes its time to end."""

    def init(self, terminate_raises: bool = False) -> None:
        self.terminate_raises = terminate_raises

    @handler
    def quote(self) -> int:
        return 1

    @handler
    def linger(self, path: str) -> str:
        """Work until somebody writes into the FIFO."""
        with open(path) as fifo:
            return fifo.read()

    @handler
    def ends_after(self, path: str) -> str:
        self.path = path
        self.stop()
        return "the last word"

    def terminate(self, reason: str) -> None:
        if self.terminate_raises:
            raise RuntimeError("cannot say goodbye")
        if hasattr(self, "path"):
            with open(self.path) as fifo:
                fifo.read()


class Worker(Agent):
    """Works long, with and without saying so."""

    @handler
    def works(self, seconds: float, tells: bool) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if tells:
                self.progress()

    @handler
    def nothing(self) -> None: ...


class AsyncWorker(Agent):
    """The same, in an event loop."""

    concurrency = 2

    async def init(self) -> None:
        self.over = asyncio.Event()

    @handler
    async def waits(self) -> None:
        await self.over.wait()

    @handler
    async def nothing(self) -> None: ...

    @handler
    async def works(self, seconds: float, tells: bool) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if tells:
                self.progress()


class OneByOne(Agent):
    """Async handlers, and no concurrency."""

    async def init(self) -> None:
        self.inside = 0

    @handler
    async def step(self, number: int) -> tuple[int, int]:
        self.inside += 1
        for _ in range(3):
            await asyncio.get_running_loop().run_in_executor(None, int)
        inside, self.inside = self.inside, self.inside - 1
        return number, inside


class Relay(Agent):
    """Awaits others."""

    concurrency = 4
    replies = (MessageError,)

    def init(self) -> None:
        self.deaths: list[str] = []

    @handler
    async def ask(self, to: str, name: str, args: list[Any]) -> Any:
        return await self.aio.call(to, name, *args)

    @handler
    async def chain(self) -> list[str]:
        return list(CHAIN.get())

    @handler
    async def there_and_back(self, over: str) -> Any:
        return await self.aio.call(over, "ask", self.name, "chain", [])

    @handler
    async def watch(self, name: str) -> None:
        self.monitor(name)

    @handler
    async def seen(self) -> list[str]:
        return self.deaths

    async def on_down(self, down: Down) -> None:
        await asyncio.get_running_loop().run_in_executor(None, int)
        self.deaths.append(down.name)


class Listener(Agent):
    """Takes signals of one type."""

    def init(self) -> None:
        self.heard: list[tuple[str, str]] = []

    @handler
    def signal(self, topic: str, message: Any, lost: int = 0) -> None:
        """Get a signal as if it had come from the hub."""
        assert self._host is not None
        self._host.node.deliver(Signal(topic, message, lost))

    @handler
    def seen(self) -> list[tuple[str, str]]:
        return self.heard

    def on_signal(self, topic: str, message: datetime.date) -> None:
        self.heard.append((topic, f"{message:%d.%m.%Y}"))
