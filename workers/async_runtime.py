"""
Running an agent some of whose handlers or hooks are `async def`: up to `concurrency` of them take turns.

The event loop is asyncio's own. Messages are taken from the mailbox only as handlers are free to take them, so its
limit holds; handlers that are plain functions have the loop to themselves while they run.

Source: contract section 4; Python's asyncio.
"""

from __future__ import annotations

import asyncio
import inspect
import selectors
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from threading import get_ident
from typing import Any

from regrow.ipc.down import Down
from regrow.ipc.errors import StoreError
from regrow.ipc.mailbox import Envelope, Item, Signal
from regrow.ipc.node import CHAIN, MailboxSpec
from regrow.ipc.posting import process
from regrow.ipc.transaction import Overtaken
from regrow.workers.agent import Agent
from regrow.workers.agent_aio import AgentVerbs
from regrow.workers.doorkeeper import Doorkeeper
from regrow.workers.handlers import Handler
from regrow.workers.runtime import Runtime
from regrow.workers.unit import UNIT, Unit

BATCH = 64
"""Messages begun before the loop looks at what else there is."""

CANCEL_S = 1.0
"""How long tasks that the agent has left behind may take to be cancelled."""


class AsyncRuntime(Runtime):
    """One agent in its process, with an event loop."""

    def __init__(self, agent: type[Agent], run_dir: str) -> None:
        super().__init__(agent, run_dir)
        self.loop = asyncio.SelectorEventLoop(_Selector(self.keeper, self.node.wake))
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._on_loop_exception)
        self._concurrency = agent.concurrency
        self._running: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = self.loop.create_future()
        self._thread = get_ident()
        self._pumps = False
        self._progressed = False
        self._posts_run = False
        self._is_turn_of_posts = True

    def bind(self, mailbox: MailboxSpec) -> None:
        super().bind(mailbox)
        self._aio = AgentVerbs(self.agent, self.node, self.signals)

    # the life of an agent

    def begin(self, args_json: str) -> None:
        self.load_state()
        self.until_kept(self.agent.__init__)  # type: ignore[misc]  # not before it knows its host
        self.unit.is_over = True
        init, values = self.arguments(args_json)
        self._await(init, self.agent, *values)

    def serve(self) -> None:
        self.node.inbox.callback = self._on_arrival
        if self.watchdog.interval_s:
            self.loop.call_later(self.watchdog.interval_s, self._on_watchdog)
        self._await_due()
        self.loop.call_soon(self._pump)  # handlers that are plain functions find the loop running, too
        self.loop.run_until_complete(self._over)

    def end(self) -> None:
        assert self.ending is not None
        self.refuse_rest()
        self._over = self.loop.create_future()  # a crash of one that is still running ends us as it always does
        if self._running:
            self._on_done()
            self.loop.run_until_complete(self._over)
        self._await(self.agent.terminate, self.ending.reason)
        self.leave()
        self.node.inbox.callback = None
        self._await(self._cancel_rest)
        self._aio.detach()
        self.loop.close()

    def _await(self, hook: Callable[..., Any], *args: Any) -> None:
        """Run a hook, in the loop whether it is `async def` or not."""

        async def run() -> None:
            self._aio.attach()
            unit = Unit(self.owner)
            UNIT.set(unit)
            try:
                while not await self._kept(unit, hook, args):
                    pass
            finally:
                unit.is_over = True

        self.loop.run_until_complete(run())

    async def _kept(self, unit: Unit, hook: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        try:
            try:
                result = hook(*args)
                if inspect.isawaitable(result):
                    await result
            finally:
                process.end_if_forked(self.owner.pid, self.name)
            if unit.is_used:
                unit.commit()
        except Overtaken:
            unit.roll_back()
            return False
        return True

    async def _cancel_rest(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=CANCEL_S)
        await self.loop.shutdown_asyncgens()

    @property
    def aio(self) -> AgentVerbs:
        return self._aio

    # what wakes us

    def nudge(self) -> None:
        self.loop.call_soon_threadsafe(self._check_over)

    def relieved(self) -> None:
        """What the doorkeeper has settled meanwhile, it has only put into the loop's queue."""
        try:
            self.loop.call_soon_threadsafe(self._check_over)
        except RuntimeError:
            pass  # the loop is closed: this is the end

    def _check_over(self) -> None:
        if self.ending is not None and not self._over.done():
            self._over.set_result(None)

    def _on_arrival(self) -> None:
        """Something is in the mailbox; said by any thread, under the node's lock."""
        if not self._pumps:
            self._pumps = True
            if get_ident() == self._thread:
                self.loop.call_soon(self._pump)
            else:
                self.loop.call_soon_threadsafe(self._pump)

    def _on_watchdog(self) -> None:
        """Feed it unless every place has been taken since the last time, and nothing has moved."""
        if self._progressed or len(self._running) < self._concurrency:
            self.watchdog.feed()
        self._progressed = False
        self.loop.call_later(self.watchdog.interval_s, self._on_watchdog)

    def progress(self) -> None:
        self._progressed = True
        super().progress()

    # messages

    def _pump(self) -> None:
        """Begin what there is room for."""
        self._pumps = True  # no need to be told of what we look for ourselves
        try:
            for _ in range(BATCH):
                if self.ending is not None or len(self._running) >= self._concurrency or self._over.done():
                    break
                if self.posts.is_due and self._is_turn_of_posts:
                    self._begin_posts()
                    continue
                self._is_turn_of_posts = not self._posts_run
                item = self.node.receive(0.0)
                if item is not None:
                    self._begin_item(item)
                elif not self.node.mailbox.waiting and not (self.posts.is_due and self._is_turn_of_posts):
                    break
            else:
                self.loop.call_soon(self._pump)
        except BaseException as error:  # noqa: BLE001 - the loop would only log it; `serve` raises it
            self._crash(error)
        self._pumps = False

    def _begin_posts(self) -> None:
        """Posts are handled one after the other, beside other messages where `concurrency` lets them."""
        self._is_turn_of_posts = False
        self._posts_run = True
        self._start(self._handle_posts(), ())

    async def _handle_posts(self) -> None:
        try:
            await self.handling.handle_some_async()
        finally:
            self._posts_run = False
            self._is_turn_of_posts = True
        self._await_due()

    def _await_due(self) -> None:
        """Look again when posts that have failed, or could not be handled, are due."""
        left_s = self.posts.due_s - time.monotonic()
        if left_s < float("inf"):
            self.loop.call_later(max(left_s, 0.0), self._look_again)

    def _look_again(self) -> None:
        self.posts.look_again()
        self._pump()

    def _begin_item(self, item: Item) -> None:
        if not isinstance(item, Envelope):
            self._start(self._tell(item), ())
            return
        handler = self.handlers.get(item.handler)
        if handler is None or not handler.is_async:
            self.handle(item)
            return
        values = self.read(handler, item)
        if values is not None:
            self._start(self._handle(item, handler, values), item.chain)

    def _start(self, work: Coroutine[Any, Any, None], chain: tuple[str, ...]) -> None:
        context = copy_context()
        context.run(CHAIN.set, (*chain, self.name))
        task = self.loop.create_task(work, context=context)
        self._running.add(task)
        task.add_done_callback(self._on_done)

    async def _handle(self, item: Envelope, handler: Handler, values: tuple[Any, ...]) -> None:
        unit = Unit(self.owner)
        UNIT.set(unit)
        try:
            while not await self._run_async(unit, handler, item, values):
                pass
        finally:
            unit.is_over = True

    def handle(self, item: Item) -> None:
        """
        While a plain function runs, nothing else does; tasks that it leaves behind are not part of it.

        The context is that of whatever has made us look: a handler that has just ended, or another thread.
        """
        before, chain = UNIT.set(self.unit), CHAIN.set((self.name,))
        self.unit.is_over = False
        try:
            super().handle(item)
        finally:
            process.end_if_forked(self.owner.pid, self.name)
            self.unit.is_over = True
            UNIT.reset(before)
            CHAIN.reset(chain)

    async def _run_async(self, unit: Unit, handler: Handler, item: Envelope, values: tuple[Any, ...]) -> bool:
        """Run it and commit; False when another has changed what it has read, and it is to run again."""
        try:
            try:
                result = await handler.function(self.agent, *values)
            finally:
                process.end_if_forked(self.owner.pid, self.name)
            if unit.is_used:
                unit.commit()
        except self._foreseen as error:
            return self.failed(item, unit, error)
        if item.is_call:
            self.answers.result(item, handler, result)
        return True

    async def _tell(self, item: Down | Signal) -> None:
        unit = Unit(self.owner)
        UNIT.set(unit)
        hook = self.news.hook(item)
        if hook is None:
            return
        try:
            while not await self._kept(unit, hook, ()):
                pass
        except SystemExit as error:
            unit.roll_back()
            self.exits(error)
        except StoreError as error:
            unit.roll_back()
            self.unkept("a hook", error)
        finally:
            unit.is_over = True

    def exits(self, error: SystemExit) -> None:
        super().exits(error)
        self.nudge()

    def _on_done(self, task: asyncio.Task[None] | None = None) -> None:
        self._progressed = True
        if task is not None:
            self._running.discard(task)
            if task.cancelled():
                self._crash(RuntimeError("a handler was cancelled"))
            elif (error := task.exception()) is not None:
                self._crash(error)
        if self.ending is None:
            self._pump()
        elif not self._running:
            self._check_over()

    def _on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback has raised, or a task that nobody has awaited: let it crash."""
        loop.default_exception_handler(context)
        if (error := context.get("exception")) is not None:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)


class _Selector(selectors.EpollSelector):
    """Tells the doorkeeper when the loop works and when it waits."""

    def __init__(self, keeper: Doorkeeper, wake: Callable[[], None]) -> None:
        super().__init__()
        self._keeper = keeper
        self._wake = wake

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        keeper = self._keeper
        keeper.task = None
        if keeper.is_helping:
            self._wake()
        try:
            return super().select(timeout)
        finally:
            keeper.task = object()
            if keeper.is_parked:
                keeper.unpark()


__all__ = ["AsyncRuntime"]
