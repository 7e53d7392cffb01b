"""
The verbs of messages for an asyncio event loop: the same words, awaitable.

The loop watches the node's descriptor; no thread is started.

Source: contract section 4; otp-rules S183-S211.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from regrow.ipc.addresses import address_of, run_dir_of
from regrow.ipc.aio_outcomes import AsyncDelivery, AsyncMonitor, AsyncRequest
from regrow.ipc.awaited import never_mind, when_done
from regrow.ipc.delivery import A_REPLY, AN_ACCEPTANCE
from regrow.ipc.errors import MessageError
from regrow.ipc.node import Awaited, Node
from regrow.ipc.verbs import CALL_S, COMMAND_S, Where, deadline, looks, not_taken, too_late, value_of
from regrow.ipc.workflow_aio import AsyncWorkflowVerbs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from regrow.ipc.commands_aio import AsyncCommand
    from regrow.ipc.commands_request import Word
    from regrow.ipc.commands_result import CommandResult
    from regrow.ipc.groups import Address
    from regrow.ipc.mailbox import Signal
    from regrow.ipc.posting_aio import AsyncPosting
    from regrow.ipc.signals import Signals
    from regrow.ipc.task_aio import AsyncTaskSupervisor
    from regrow.ipc.workflow_verbs import WorkflowVerbs

T = TypeVar("T")


class AsyncVerbs:
    """The verbs over a node that the running event loop watches from the first use on."""

    def __init__(self, node: Node, signals: Signals | None = None) -> None:
        self.node = node
        self._signals = signals
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: asyncio.TimerHandle | None = None
        self._looking = False
        self._thread = 0

    def attach(self) -> None:
        """
        Let the running loop watch the node; a node belongs to one loop.

        Raises:
            RuntimeError: another loop has it.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("this client belongs to another event loop; make one in each")
        if self.node.closed:
            return  # whatever is sent will be told so
        self._loop = loop
        self._thread = threading.get_ident()
        loop.add_reader(self.node.fileno(), self._look)
        self.node.by_loop = True

    def detach(self) -> None:
        loop, self._loop = self._loop, None
        if self._due is not None:
            self._due.cancel()
        self.node.by_loop = False
        if loop is not None and not loop.is_closed() and not self.node.closed:
            loop.remove_reader(self.node.fileno())

    def _look(self) -> None:
        self._looking = False
        if self._loop is None or self.node.closed:
            return
        due_s = self.node.on_readable()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if due_s != float("inf"):
            self._due = self._loop.call_later(max(due_s - time.monotonic(), 0.0), self._look)

    def _look_soon(self) -> None:
        """Sending may have used up ZeroMQ's only sign that something has come."""
        if not self._looking and self._loop is not None:
            self._looking = True
            self._loop.call_soon(self._look)

    async def settled(self, thing: Awaited, timeout: float) -> bool:
        """Wait until it is done; False at the time-out."""
        end_s = deadline(timeout)
        self.attach()
        self._look_soon()
        if self._loop is None:  # it was closed, and so is all that was open
            return thing.done
        future: asyncio.Future[None] = self._loop.create_future()

        def settle() -> None:
            if not future.done():
                future.set_result(None)

        def settled() -> None:
            if threading.get_ident() == self._thread:
                settle()
            elif self._loop is not None:
                self._loop.call_soon_threadsafe(settle)

        with self.node.locked():
            if thing.done:
                return True
            when_done(thing, settled)
        # Not asyncio.wait_for: until Python 3.12 it loses a cancellation that comes together with the result.
        timer = self._loop.call_later(max(end_s - time.monotonic(), 0.0), settle) if end_s != float("inf") else None
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            with self.node.locked():
                never_mind(thing, settled)
        return thing.done

    @overload
    async def call(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        timeout: float = CALL_S,
        returns: type[T],
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def call(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        timeout: float = CALL_S,
        returns: None = None,
        **kwargs: Any,
    ) -> Any: ...

    async def call(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        timeout: float = CALL_S,
        returns: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Send, and await the handler's answer; raises as `Client.call` does. Cancelled, it is given up."""
        deadline(timeout)  # before anything is sent
        self.attach()
        pending = self.node.submit(A_REPLY, to, handler, args, kwargs)
        try:
            settled = await self.settled(pending, timeout)
        except BaseException:
            self.node.give_up(pending, too_late(pending, 0.0))
            raise
        if not settled:
            self.node.give_up(pending, too_late(pending, timeout))
        return value_of(pending, returns)

    async def send_request(
        self, to: str | Address, handler: str, /, *args: Any, returns: Any = None, **kwargs: Any
    ) -> AsyncRequest:
        """Send a call and go on; what this returns is asked for the answer later. Errors are its own, too."""
        self.attach()
        try:
            pending = self.node.submit(A_REPLY, to, handler, args, kwargs)
        except MessageError as error:
            return AsyncRequest(self, None, error, returns)
        self._look_soon()
        return AsyncRequest(self, pending, None, returns)

    async def send(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> AsyncDelivery:
        """Send a message; awaiting the `wait()` of what this returns says whether the receiver has taken it in."""
        self.attach()
        try:
            pending = self.node.submit(AN_ACCEPTANCE, to, handler, args, kwargs)
        except MessageError as error:
            return AsyncDelivery(self, str(to), handler, None, error)
        self._look_soon()
        return AsyncDelivery(self, pending.to, handler, pending, None)

    async def cast(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> bool:
        """Send, and wait for nothing; False when nobody has that name, or too much is on its way there."""
        self.attach()
        sent = self.node.cast(to, handler, args, kwargs)
        self._look_soon()
        return sent

    async def monitor(self, name: str) -> AsyncMonitor:
        """Be told when the process that has the name now dies; raises as `Client.monitor` does."""
        self.attach()
        monitor = self.node.monitor_named(name)
        if monitor is None:
            record = await asyncio.to_thread(self.node.process_of, name)
            monitor = self.node.monitor_process(name, record)
        self._look_soon()
        return AsyncMonitor(self, monitor)

    @property
    def signals(self) -> Signals:
        """What this process publishes and is subscribed to."""
        if self._signals is None:
            from regrow.ipc.signals import Signals

            self._signals = Signals(self.node)
        return self._signals

    async def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """Tell everybody who has subscribed to the topic; as `Client.publish`."""
        self.attach()
        if timeout is None:
            self.signals.publish(topic, message)
            self._look_soon()
            return None
        return await asyncio.to_thread(self.signals.publish, topic, message, timeout=timeout)

    async def subscribe(self, pattern: str, *, since: int | None = None, timeout: float = 5.0) -> bool:
        """Have signals of these topics kept for `next_signal`; as `Client.subscribe`."""
        self.attach()
        return await asyncio.to_thread(self.signals.subscribe, pattern, since=since, timeout=timeout)

    async def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """Hear no more of it; False when it was not subscribed to."""
        return await asyncio.to_thread(self.signals.unsubscribe, pattern, timeout=timeout)

    async def whereis(self, name: str) -> Where | None:
        """The living process that has the name now; raises as `Client.whereis` does."""
        return Where.of(self.node.whereis(name))

    def tasks(self, supervisor: str, *, shutdown: float | str = 5.0) -> AsyncTaskSupervisor:
        """Who starts tasks of this process below the dynamic supervisor of that name."""
        from regrow.ipc.task_aio import AsyncTaskSupervisor

        return AsyncTaskSupervisor(self, supervisor, shutdown=shutdown)

    async def run_command(
        self, argv: Sequence[Word], /, *, timeout: float = COMMAND_S, input: bytes | None = None, **options: Any
    ) -> CommandResult:
        """Run a program to its end; as `Client.run_command`. Cancelled, it ends the program."""
        from regrow.ipc import commands_aio

        return await commands_aio.run_command(
            self.node.run_dir, self.node.name, argv, input, timeout=timeout, **options
        )

    async def start_command(
        self, argv: Sequence[Word], /, *, timeout: float = COMMAND_S, **options: Any
    ) -> AsyncCommand:
        """Start a program and go on; as `Client.start_command`. What this returns is used as `async with`."""
        from regrow.ipc import commands_aio

        return await commands_aio.start_command(self.node.run_dir, self.node.name, argv, timeout=timeout, **options)

    async def wait_for(self, name: str, timeout: float = CALL_S) -> Where:
        """Wait until a living process has the name; raises NoProcess when nobody has in time."""
        for pause_s in looks(deadline(timeout)):
            if (where := await self.whereis(name)) is not None:
                return where
            await asyncio.sleep(pause_s)
        raise not_taken(name, timeout)

    async def members(self, group: str) -> list[str]:
        """The living members of a group."""
        return self.node.members(group)


class AsyncClient(AsyncWorkflowVerbs, AsyncVerbs):
    """
    A client for an asyncio program: `async with AsyncClient(run_dir) as regrow: await regrow.call(…)`.

    Belongs to the event loop that uses it first; not to be used from other threads. Of `tcp://HOST:PORT`, with `key`,
    an AsyncRemoteClient is made, with the same verbs.

    Raises:
        Unreachable, Ambiguous.
    """

    def __new__(
        cls, where: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None
    ) -> Self:
        if (address := address_of(where)) is not None:
            from regrow.ipc.remote_aio import AsyncRemoteClient

            return AsyncRemoteClient(address, key=key)  # type: ignore[return-value]  # the same verbs, another way
        return super().__new__(cls)

    def __init__(
        self, where: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__(Node(run_dir_of(where, key)))
        self._posting: AsyncPosting | None = None

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
        """
        Send what takes effect exactly once, whoever is killed when; it is kept when this returns. As `Client.post`.

        What is posted at the same time is committed together, in the order in which it was posted.
        """
        self.attach()
        posting = self._posts()
        return await posting.post(lambda: posting.write(to, handler, args, kwargs, id, expires, delay, at))

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """
        `async with`: what this task posts inside is kept at the end, all together; nothing of it when the block raises.

        Raises:
            StoreError: nothing was kept.
        """
        return self._posts().transaction()

    def _posts(self) -> AsyncPosting:
        if self._posting is None:
            from regrow.ipc.posting import Posting
            from regrow.ipc.posting_aio import AsyncPosting

            self._posting = AsyncPosting(Posting(self.node))
        return self._posting

    def _runs(self) -> WorkflowVerbs:
        from regrow.ipc.workflow_verbs import Direct

        return Direct(self._posts().posting)

    async def next_signal(self, timeout: float = 60.0) -> Signal | None:
        """The next signal; None after `timeout` seconds without one."""
        await self.settled(self.signals, timeout)
        found = self.signals.receive(0.0)
        self._look_soon()
        return found

    @property
    def run_dir(self) -> str:
        return self.node.run_dir

    async def close(self) -> None:
        """End the connections; what still waits ends as NoProcess."""
        self.detach()
        if self._signals is not None:
            self._signals.close()
        if self._posting is not None:
            await self._posting.close()
        self.node.close()

    async def __aenter__(self) -> Self:
        self.attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
