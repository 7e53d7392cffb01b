"""
What the awaitable verbs return: deliveries, requests, monitors.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from regrow.ipc.delivery import Pending
from regrow.ipc.errors import DeliveryTimeout, MessageError
from regrow.ipc.verbs import CALL_S, too_late, value_of

if TYPE_CHECKING:
    from regrow.ipc.aio import AsyncVerbs
    from regrow.ipc.down import Down
    from regrow.ipc.monitor import Monitor


class AsyncDelivery:
    """What becomes of one `send`; `await delivery.wait(timeout)`."""

    __slots__ = ("_handler", "_pending", "_to", "_verbs", "error")

    def __init__(
        self, verbs: AsyncVerbs, to: str, handler: str, pending: Pending | None, error: MessageError | None
    ) -> None:
        self._verbs = verbs
        self._to = to
        self._handler = handler
        self._pending = pending
        self.error = error

    async def wait(self, timeout: float = CALL_S) -> None:
        """Wait until it is accepted; raises as `Delivery.wait` does."""
        pending = self._pending
        if pending is not None and self.error is None:
            if not await self._verbs.settled(pending, timeout):
                raise DeliveryTimeout(self._to, self._handler, timeout)
            self.error = pending.error
        if self.error is not None:
            raise self.error


class AsyncRequest:
    """A call that is not waited for yet (S197)."""

    __slots__ = ("_error", "_pending", "_returns", "_verbs")

    def __init__(self, verbs: AsyncVerbs, pending: Pending | None, error: MessageError | None, returns: Any) -> None:
        self._verbs = verbs
        self._pending = pending
        self._error = error
        self._returns = returns

    async def wait_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it may be waited for again. Raises as `call` does."""
        return await self._response(timeout, abandon=False)

    async def receive_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it is given up, and a late one is dropped. Raises as `call` does."""
        return await self._response(timeout, abandon=True)

    async def _response(self, timeout: float, *, abandon: bool) -> Any:
        pending = self._pending
        if pending is None:
            assert self._error is not None
            raise self._error
        if not await self._verbs.settled(pending, timeout):
            if not abandon:
                raise too_late(pending, timeout)
            self._verbs.node.give_up(pending, too_late(pending, timeout))
        return value_of(pending, self._returns)


class AsyncMonitor:
    """A monitor whose `wait` is awaitable; leaving its `async with` block is demonitor with flush."""

    def __init__(self, verbs: AsyncVerbs, monitor: Monitor) -> None:
        self._verbs = verbs
        self._monitor = monitor
        self.name = monitor.name
        self.incarnation = monitor.incarnation
        self.pid = monitor.pid

    async def wait(self, timeout: float = 60.0) -> Down | None:
        """The death; None after `timeout` seconds without it, or once the monitor is removed."""
        await self._verbs.settled(self._monitor, timeout)
        down = self._monitor.down
        if down is not None:
            self._verbs.node.heard(down)
        return down

    def demonitor(self, flush: bool = True) -> bool:
        return self._monitor.demonitor(flush)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.demonitor()
