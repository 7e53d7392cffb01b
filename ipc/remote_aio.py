"""
A remote client for an asyncio program: the verbs of RemoteClient, awaitable.

The thread of the link wakes the event loop: any number may wait at once, and who is cancelled gives up what was begun.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from regrow.ipc.remote import RemoteClient
from regrow.ipc.remote_steps import Awaited, Steps
from regrow.ipc.verbs import CALL_S, Where

if TYPE_CHECKING:
    from datetime import datetime

    from regrow.ipc.down import Down
    from regrow.ipc.groups import Address
    from regrow.ipc.mailbox import Signal
    from regrow.ipc.remote_waits import RemoteDelivery, RemoteMonitor, RemoteRequest

T = TypeVar("T")


async def finish_async(steps: Steps[T]) -> T:
    """Take the steps; the event loop goes on meanwhile."""
    try:
        while True:
            await _arrival(*next(steps))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def _arrival(awaited: Awaited, timeout_s: float) -> None:
    """Return when it is done, after `timeout_s` seconds at most."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()

    def wake() -> None:
        if not arrived.done():
            arrived.set_result(None)

    def told() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            pass  # the loop was closed: nobody waits any more

    awaited.tell(told)
    try:
        await asyncio.wait((arrived,), timeout=None if timeout_s == float("inf") else timeout_s)
    finally:
        awaited.tell_no_more(told)


class AsyncRemoteClient:
    """
    `async with AsyncRemoteClient("tcp://host:port", key=FILE) as regrow: await regrow.call(…)`.

    Connects when it is entered; without `async with`, such as in a notebook, at its first use, which may take 5 s more.

    Raises (then):
        Unreachable: no hub welcomes this client there; KeyFileError, OSError: the file cannot be used.
    """

    def __init__(self, address: str, *, key: str | os.PathLike[str] | None = None) -> None:
        self._connect = partial(RemoteClient, address, key=key)
        self._client: RemoteClient | None = None
        self._is_closed = False
        self._entering = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._remote()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; what is open ends with `noconnection`."""
        client, self._client, self._is_closed = self._client, None, True
        if client is not None:
            await asyncio.get_running_loop().run_in_executor(None, client.close)

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
        """Send, and await the handler's answer; raises as `RemoteClient.call` does."""
        return await finish_async((await self._remote())._calling(to, handler, args, kwargs, timeout, returns))

    async def send(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> AsyncRemoteDelivery:
        """Send a message; awaiting the `wait()` of what this returns says whether the receiver has taken it in."""
        return AsyncRemoteDelivery((await self._remote()).send(to, handler, *args, **kwargs))

    async def send_request(
        self, to: str | Address, handler: str, /, *args: Any, returns: Any = None, **kwargs: Any
    ) -> AsyncRemoteRequest:
        """Send a call and go on; what this returns is asked for the answer later."""
        return AsyncRemoteRequest((await self._remote()).send_request(to, handler, *args, returns=returns, **kwargs))

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
        """Send what takes effect exactly once; as `RemoteClient.post`."""
        return await finish_async((await self._remote())._posting(to, handler, args, kwargs, id, expires, delay, at))

    async def cast(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> bool:
        """Send, and wait for nothing; False while there is no connection."""
        return (await self._remote()).cast(to, handler, *args, **kwargs)

    async def monitor(self, name: str) -> AsyncRemoteMonitor:
        """Be told of the death of whoever has the name now."""
        return AsyncRemoteMonitor((await self._remote()).monitor(name))

    async def whereis(self, name: str) -> Where | None:
        """The living process that has the name now."""
        return await finish_async((await self._remote())._whereis(name, CALL_S))

    async def wait_for(self, name: str, timeout: float = CALL_S) -> Where:
        """Wait until a living process has the name; raises NoProcess when nobody has in time."""
        return await finish_async((await self._remote())._waiting_for(name, timeout))

    async def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """As `Client.publish`."""
        return await finish_async((await self._remote())._signals.publish(topic, message, timeout))

    async def subscribe(self, pattern: str, *, since: int | None = None, timeout: float = 5.0) -> bool:
        """As `Client.subscribe`."""
        return await finish_async((await self._remote())._signals.subscribe(pattern, since, timeout))

    async def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """As `Client.unsubscribe`."""
        return await finish_async((await self._remote())._signals.unsubscribe(pattern, timeout))

    async def next_signal(self, timeout: float = 60.0) -> Signal | None:
        """The next signal; None after `timeout` seconds without one."""
        return await finish_async((await self._remote())._signals.next(timeout))

    async def _remote(self) -> RemoteClient:
        if self._client is not None:
            return self._client
        async with self._entering:
            if self._client is None:
                if self._is_closed:
                    raise RuntimeError("this client was closed: make another one")
                connecting = asyncio.get_running_loop().run_in_executor(None, self._connect)
                try:
                    self._client = await asyncio.shield(connecting)
                except asyncio.CancelledError:
                    connecting.add_done_callback(_close_unused)
                    raise
            return self._client


def _close_unused(connecting: asyncio.Future[RemoteClient]) -> None:
    """Nobody waits for this connection any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.get_loop().run_in_executor(None, connecting.result().close)


class AsyncRemoteDelivery:
    """What becomes of one `send`."""

    def __init__(self, delivery: RemoteDelivery) -> None:
        self._delivery = delivery

    async def wait(self, timeout: float = CALL_S) -> None:
        """Wait until it is accepted; raises as `Delivery.wait` does."""
        await finish_async(self._delivery.waiting(timeout))


class AsyncRemoteRequest:
    """A call that is not waited for yet (S197)."""

    def __init__(self, request: RemoteRequest) -> None:
        self._request = request

    async def wait_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it may be waited for again."""
        return await finish_async(self._request.waiting(timeout))

    async def receive_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it is given up."""
        return await finish_async(self._request.receiving(timeout))


class AsyncRemoteMonitor:
    """A monitor whose `wait` is awaitable."""

    def __init__(self, monitor: RemoteMonitor) -> None:
        self._monitor = monitor
        self.name = monitor.name

    async def wait(self, timeout: float = 60.0) -> Down | None:
        """The death; None after `timeout` seconds without it, or once the monitor is removed."""
        return await finish_async(self._monitor.waiting(timeout))

    def demonitor(self, flush: bool = True) -> bool:
        return self._monitor.demonitor(flush)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.demonitor()
