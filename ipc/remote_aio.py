"""
A remote client for an asyncio program: the verbs of RemoteClient, awaitable.

Each open wait takes a thread of a pool, because the link has a thread of its own; up to `MOST` may be open at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from regrow.ipc.remote import RemoteClient
from regrow.ipc.verbs import CALL_S, Where

if TYPE_CHECKING:
    from datetime import datetime

    from regrow.ipc.down import Down
    from regrow.ipc.groups import Address
    from regrow.ipc.mailbox import Signal
    from regrow.ipc.remote_waits import RemoteDelivery, RemoteMonitor, RemoteRequest

T = TypeVar("T")

MOST = 64
"""Waits at once; one more begins when one of them has ended, and its time limit counts from then."""


class AsyncRemoteClient:
    """
    `async with AsyncRemoteClient("tcp://host:port", key=FILE) as regrow: await regrow.call(…)`. Connects when entered.

    Raises:
        Unreachable: no hub welcomes this client there; KeyFileError, OSError: the file cannot be used.
    """

    def __init__(self, address: str, *, key: str | os.PathLike[str] | None = None) -> None:
        self._connect = partial(RemoteClient, address, key=key)
        self._threads = ThreadPoolExecutor(MOST, thread_name_prefix="regrow-remote")
        self._client: RemoteClient | None = None

    async def __aenter__(self) -> Self:
        try:
            self._client = await self._run(self._connect)
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; what is open ends with `noconnection`."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.get_running_loop().run_in_executor(None, client.close)
            self._threads.shutdown()

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
        call = partial(self._remote.call, to, handler, *args, timeout=timeout, returns=returns, **kwargs)
        return await self._run(call)

    async def send(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> AsyncRemoteDelivery:
        """Send a message; awaiting the `wait()` of what this returns says whether the receiver has taken it in."""
        return AsyncRemoteDelivery(self, self._remote.send(to, handler, *args, **kwargs))

    async def send_request(
        self, to: str | Address, handler: str, /, *args: Any, returns: Any = None, **kwargs: Any
    ) -> AsyncRemoteRequest:
        """Send a call and go on; what this returns is asked for the answer later."""
        return AsyncRemoteRequest(self, self._remote.send_request(to, handler, *args, returns=returns, **kwargs))

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
        make = partial(self._remote.post, to, handler, *args, id=id, expires=expires, delay=delay, at=at, **kwargs)
        return await self._run(make)

    async def cast(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> bool:
        """Send, and wait for nothing; False while there is no connection."""
        return self._remote.cast(to, handler, *args, **kwargs)

    async def monitor(self, name: str) -> AsyncRemoteMonitor:
        """Be told of the death of whoever has the name now."""
        return AsyncRemoteMonitor(self, self._remote.monitor(name))

    async def whereis(self, name: str) -> Where | None:
        """The living process that has the name now."""
        return await self._run(partial(self._remote.whereis, name))

    async def wait_for(self, name: str, timeout: float = CALL_S) -> Where:
        """Wait until a living process has the name; raises NoProcess when nobody has in time."""
        return await self._run(partial(self._remote.wait_for, name, timeout))

    async def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """As `Client.publish`."""
        return await self._run(partial(self._remote.publish, topic, message, timeout=timeout))

    async def subscribe(self, pattern: str, *, since: int | None = None, timeout: float = 5.0) -> bool:
        """As `Client.subscribe`."""
        return await self._run(partial(self._remote.subscribe, pattern, since=since, timeout=timeout))

    async def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """As `Client.unsubscribe`."""
        return await self._run(partial(self._remote.unsubscribe, pattern, timeout=timeout))

    async def next_signal(self, timeout: float = 60.0) -> Signal | None:
        """The next signal; None after `timeout` seconds without one."""
        return await self._run(partial(self._remote.next_signal, timeout))

    @property
    def _remote(self) -> RemoteClient:
        if self._client is None:
            raise RuntimeError("this client is not connected: use it inside `async with`")
        return self._client

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


class AsyncRemoteDelivery:
    """What becomes of one `send`."""

    def __init__(self, client: AsyncRemoteClient, delivery: RemoteDelivery) -> None:
        self._client = client
        self._delivery = delivery

    async def wait(self, timeout: float = CALL_S) -> None:
        """Wait until it is accepted; raises as `Delivery.wait` does."""
        await self._client._run(partial(self._delivery.wait, timeout))


class AsyncRemoteRequest:
    """A call that is not waited for yet (S197)."""

    def __init__(self, client: AsyncRemoteClient, request: RemoteRequest) -> None:
        self._client = client
        self._request = request

    async def wait_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it may be waited for again."""
        return await self._client._run(partial(self._request.wait_response, timeout))

    async def receive_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it is given up."""
        return await self._client._run(partial(self._request.receive_response, timeout))


class AsyncRemoteMonitor:
    """A monitor whose `wait` is awaitable."""

    def __init__(self, client: AsyncRemoteClient, monitor: RemoteMonitor) -> None:
        self._client = client
        self._monitor = monitor
        self.name = monitor.name

    async def wait(self, timeout: float = 60.0) -> Down | None:
        """The death; None after `timeout` seconds without it, or once the monitor is removed."""
        return await self._client._run(partial(self._monitor.wait, timeout))

    def demonitor(self, flush: bool = True) -> bool:
        return self._monitor.demonitor(flush)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.demonitor()
