"""
Tasks for an asyncio event loop: the same words, awaitable.

Waiting for a task is the loop's own. What blocks, starting and ending tasks and taking the results of a stream, is
done in a thread.

Source: otp-rules S230-S246.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from regrow.ipc.task import Result, Task
from regrow.ipc.tasks import TaskSupervisor
from regrow.ipc.verbs import CALL_S, Where

if TYPE_CHECKING:
    from regrow.ipc.aio import AsyncVerbs
    from regrow.ipc.task_stream import Stream


class AsyncTask:
    """A task of this process, for its event loop; a wait that is cancelled leaves the task as it is."""

    def __init__(self, verbs: AsyncVerbs, task: Task) -> None:
        self._verbs = verbs
        self._task = task
        self.name = task.name
        self.pid = task.pid
        self.target = task.target
        self.linked = task.linked

    @property
    def done(self) -> bool:
        """Whether its result, or its death, is here."""
        return self._task.done

    async def wait(self, timeout: float = CALL_S, *, returns: Any = None) -> Any:
        """Its result; as `Task.wait`."""
        await self._come(timeout)
        return self._task.conclude(timeout, returns)

    async def yield_(self, timeout: float = CALL_S, *, returns: Any = None) -> Result | None:
        """Its result, or its end, or None; as `Task.yield_`."""
        await self._come(timeout)
        return self._task.yield_(0.0, returns=returns)

    async def shutdown(
        self, timeout: float | Literal["brutal_kill"] = CALL_S, *, returns: Any = None
    ) -> Result | None:
        """End it; as `Task.shutdown`."""
        result = await asyncio.to_thread(self._task.shutdown, timeout, returns=returns)
        self._verbs._look_soon()
        return result

    async def _come(self, timeout: float) -> None:
        if not self._task.done:
            await self._verbs.settled(self._task.outcome, timeout)

    def __repr__(self) -> str:
        return f"AsyncTask({self.name!r}, pid={self.pid})"


class AsyncStream:
    """The results of a stream: `async for`, best within `async with`, which ends the tasks that are left."""

    def __init__(self, verbs: AsyncVerbs, stream: Stream) -> None:
        self._verbs = verbs
        self._stream = stream
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tasks")
        self._taking: Future[Result | None] | None = None

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        self._taking = self._thread.submit(next, self._stream, None)
        result = await asyncio.wrap_future(self._taking)
        self._verbs._look_soon()  # the thread may have used up the sign that something has come
        if result is None:
            self._thread.shutdown(wait=False)
            raise StopAsyncIteration
        return result

    async def close(self) -> None:
        """Kill what runs, and wait until it is dead."""
        self._stream.halt()
        if self._taking is not None and not self._taking.done():
            await asyncio.wait([asyncio.wrap_future(self._taking)])
        await asyncio.to_thread(self._stream.close)
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())


class AsyncTaskSupervisor:
    """As TaskSupervisor, for the event loop that has the client, or the agent."""

    def __init__(self, verbs: AsyncVerbs, supervisor: str, *, shutdown: float | str = 5.0) -> None:
        self._verbs = verbs
        self._tasks = TaskSupervisor(verbs.node, supervisor, shutdown=shutdown)

    async def async_(self, function: str, /, *args: Any, **kwargs: Any) -> AsyncTask:
        """Start a linked task; as `TaskSupervisor.async_`."""
        return await self._started(self._tasks.async_, function, args, kwargs)

    async def async_nolink(self, function: str, /, *args: Any, **kwargs: Any) -> AsyncTask:
        """Start a task that goes on when this process dies; as `TaskSupervisor.async_nolink`."""
        return await self._started(self._tasks.async_nolink, function, args, kwargs)

    async def start_child(self, function: str, /, *args: Any, restart: str = "temporary", **kwargs: Any) -> Where:
        """Start a task that nobody waits for; as `TaskSupervisor.start_child`."""
        return await asyncio.to_thread(self._tasks.start_child, function, *args, restart=restart, **kwargs)

    def async_stream(self, function: str, inputs: Iterable[Any], /, **options: Any) -> AsyncStream:
        """Call the function with each element; options as of `TaskSupervisor.async_stream`, and raises as that."""
        self._verbs.attach()
        return AsyncStream(self._verbs, self._tasks.async_stream(function, inputs, **options))

    def async_stream_nolink(self, function: str, inputs: Iterable[Any], /, **options: Any) -> AsyncStream:
        """The same with tasks that are not linked."""
        self._verbs.attach()
        return AsyncStream(self._verbs, self._tasks.async_stream_nolink(function, inputs, **options))

    def close(self) -> None:
        """Close the connection to the daemon."""
        self._tasks.close()

    async def _started(self, start: Any, function: str, args: Any, kwargs: Any) -> AsyncTask:
        self._verbs.attach()
        loop = asyncio.get_running_loop()
        starting = loop.run_in_executor(None, lambda: start(function, *args, **kwargs))
        try:
            task = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_unwanted)
            raise
        return AsyncTask(self._verbs, task)


def _unwanted(starting: asyncio.Future[Task]) -> None:
    """Whoever wanted it was cancelled before it ran."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().drop()
