"""
One task for each element of an iterable, a few at a time.

Everything happens in the thread that takes the results: an element is pulled when there is room for its task, that is
when a running task's process has ended; whoever stops taking leaves no task behind.

Source: otp-rules S237-S246; Elixir's Task.Supervised, stream_reduce.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from msgspec import Raw, Struct

from regrow.ipc.down import NORMAL
from regrow.ipc.errors import CallTimeout, ProcessDown
from regrow.ipc.node import Node
from regrow.ipc.task import Exit, Ok, Result, end_all, exit_of
from regrow.ipc.task_process import TaskProcess
from regrow.ipc.verbs import decode

TIMEOUT = "timeout"
"""The reason of a task that was killed because its time was up."""


class StreamOptions(Struct, frozen=True):
    """How the tasks of a stream run, as `async_stream` is told."""

    max_concurrency: int | None
    ordered: bool
    timeout: float
    on_timeout: str
    zip_input_on_exit: bool
    linked: bool
    returns: Any

    def check(self) -> None:
        """
        Refuse what makes no sense, before anything starts (C177).

        Raises:
            TypeError, ValueError.
        """
        most = self.max_concurrency
        if most is not None and type(most) is not int:
            raise TypeError(f"max_concurrency is a whole number, not {most!r}")
        if most is not None and most < 1:
            raise ValueError(f"max_concurrency is at least 1, not {most}")
        if self.on_timeout not in ("exit", "kill_task"):
            raise ValueError(f'on_timeout is "exit" or "kill_task", not {self.on_timeout!r}')
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float):
            raise TypeError(f"timeout is a number of seconds, not {self.timeout!r}")
        if not self.timeout >= 0:
            raise ValueError(f"timeout is 0 or more seconds, not {self.timeout!r}")


class _News:
    """What a stream waits for: the deaths of its tasks, in their order, or that it is to halt."""

    def __init__(self) -> None:
        self.dead: deque[TaskProcess] = deque()
        self.halted = False
        self.callback: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        return bool(self.dead) or self.halted

    def come(self, process: TaskProcess) -> None:
        self.dead.append(process)
        if self.callback is not None:
            self.callback()

    def halt(self) -> None:
        self.halted = True
        if self.callback is not None:
            self.callback()


class _Halted(Exception):
    """Another thread wants no more results."""


class _Running:
    """One task of a stream, and which element it is for."""

    __slots__ = ("end_s", "input", "position", "process", "timed_out")

    def __init__(self, position: int, input: Any, process: TaskProcess, end_s: float) -> None:
        self.position = position
        self.input = input
        self.process = process
        self.end_s = end_s
        self.timed_out = False


class Stream:
    """
    The results, as an iterator; each is an Ok or an Exit.

    Its tasks end with it: when it is exhausted, closed, left as a `with` block or forgotten, and when anything raises.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._results = flow.results()

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        return next(self._results)

    def close(self) -> None:
        """Kill what runs, and wait until it is dead (S243)."""
        self._results.close()

    def halt(self) -> None:
        """Let a thread that waits for the next result find that there is none any more."""
        self._flow.halt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Flow:
    """What a stream does. It does not know the stream, so that one that is forgotten ends at once."""

    def __init__(
        self,
        node: Node,
        target: str,
        inputs: Iterable[Any],
        start: Callable[[Any], TaskProcess],
        options: StreamOptions,
    ) -> None:
        self._node = node
        self._target = target
        self._inputs = iter(inputs)
        self._start = start
        self._options = options
        self._news = _News()
        self._running: list[_Running] = []
        self._most = options.max_concurrency or len(os.sched_getaffinity(0))

    def results(self) -> Generator[Result, None, None]:
        """Run it; closing this ends the tasks."""
        finished: dict[int, Result] = {}
        delivered = 0
        try:
            for _ in self._filled():
                task = self._next_ended()
                finished[task.position] = self._result(task)
                if not self._options.ordered:
                    yield finished.pop(task.position)
                while delivered in finished:
                    yield finished.pop(delivered)
                    delivered += 1
        except _Halted:
            return
        finally:
            self._end()

    def halt(self) -> None:
        """Called by any thread."""
        with self._node.locked():
            self._news.halt()

    def _filled(self) -> Iterator[None]:
        """Start tasks while there is room and an element; ends when there are none of both."""
        position = 0
        exhausted = False
        while True:
            while not exhausted and len(self._running) < self._most:
                try:
                    input = next(self._inputs)
                except StopIteration:
                    exhausted = True
                    break
                self._begin(position, input)
                position += 1
            if not self._running:
                return
            yield

    def _begin(self, position: int, input: Any) -> None:
        begun_s = time.monotonic()
        process = self._start(input)
        self._running.append(_Running(position, input, process, begun_s + self._options.timeout))
        with self._node.locked():
            process.told = self._news.come
            if process.death.done:
                self._news.come(process)

    def _next_ended(self) -> _Running:
        """Wait until one has ended; the one that did so first."""
        while not self._news.dead:
            if self._news.halted:
                raise _Halted
            self._time_out()
            left = [each.end_s for each in self._running if not each.timed_out]
            self._node.wait(self._news, min(left, default=float("inf")))
        dead = self._news.dead.popleft()
        task = next(each for each in self._running if each.process is dead)
        self._running.remove(task)
        return task

    def _time_out(self) -> None:
        """Kill those whose time is up (S241); what they have sent until then still counts (S246)."""
        now_s = time.monotonic()
        late = [each for each in self._running if each.end_s <= now_s and not each.timed_out]
        for each in late:
            each.process.look()
            each.timed_out = True
        end_all([each.process for each in late])

    def _result(self, task: _Running) -> Result:
        """
        What a task that has ended came to.

        Raises:
            CallTimeout, ProcessDown: the stream ends by it.
        """
        options, process = self._options, task.process
        process.mute()
        if process.value is not None:
            return Ok(decode(process.name, Raw(process.value), options.returns))
        input = task.input if options.zip_input_on_exit else None
        if task.timed_out:
            if options.on_timeout == "exit":
                raise CallTimeout(process.name, self._target, options.timeout)
            return Exit(TIMEOUT, f"{process.name} had no result within {options.timeout:g} s", input=input)
        assert process.down is not None
        if options.linked and process.down.reason != NORMAL:
            raise ProcessDown(process.down)
        return exit_of(process.down, input)

    def _end(self) -> None:
        running, self._running = self._running, []
        end_all([each.process for each in running])
        for each in running:
            each.process.mute()
