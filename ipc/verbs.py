"""
The verbs of messages, for a thread that waits: the same on a client and, as methods, on an agent.

Source: contract section 4; otp-rules S183-S211.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
from msgspec import Raw, Struct

from regrow.ipc.delivery import A_REPLY, AN_ACCEPTANCE, Pending
from regrow.ipc.errors import CallTimeout, DeliveryTimeout, MessageError, NoProcess, RemoteError
from regrow.ipc.wire import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from regrow.config.spec import Limits
    from regrow.ipc.commands import Command
    from regrow.ipc.commands_request import Word
    from regrow.ipc.commands_result import CommandResult
    from regrow.ipc.groups import Address
    from regrow.ipc.monitor import Monitor
    from regrow.ipc.names import Record
    from regrow.ipc.node import Node
    from regrow.ipc.tasks import TaskSupervisor

T = TypeVar("T")

_decode = msgspec.msgpack.Decoder().decode

COMMAND_S = 60.0
"""How long a command may take unless it says otherwise."""

CALL_S = 5.0
"""How long a call waits unless it says otherwise (S184)."""


class Where(Struct, frozen=True):
    """Which process has a name now."""

    name: str
    incarnation: int
    pid: int

    @classmethod
    def of(cls, record: Record | None) -> Where | None:
        return cls(record.name, record.incarnation, record.pid) if record is not None else None


class Delivery:
    """What becomes of one `send`: accepted into the receiver's mailbox, or the error that says why not."""

    __slots__ = ("_handler", "_node", "_pending", "_to", "error")

    def __init__(self, node: Node, to: str, handler: str, pending: Pending | None, error: MessageError | None) -> None:
        self._node = node
        self._to = to
        self._handler = handler
        self._pending = pending
        self.error = error
        """Why it did not arrive, as far as it is known; None while it may still, and when it has."""

    @property
    def done(self) -> bool:
        """Whether its outcome is known; asking takes in what has come."""
        if self._pending is None or self.error is not None:
            return True
        if not self._pending.done:
            self._node.accept()
            if not self._pending.done:
                return False
        self.error = self._pending.error
        return True

    def wait(self, timeout: float = CALL_S) -> None:
        """
        Wait until it is accepted.

        Raises:
            NoProcess, ProcessDown, Backpressure, BadRequest, Refused; DeliveryTimeout after `timeout` seconds:
            then it may be waited for again.
        """
        pending = self._pending
        if pending is not None and self.error is None:
            if not pending.done and not self._node.wait(pending, deadline(timeout)):
                raise DeliveryTimeout(self._to, self._handler, timeout)
            self.error = pending.error
        if self.error is not None:
            raise self.error


class Request:
    """A call that is not waited for yet (S197)."""

    __slots__ = ("_error", "_node", "_pending", "_returns")

    def __init__(self, node: Node, pending: Pending | None, error: MessageError | None, returns: Any) -> None:
        self._node = node
        self._pending = pending
        self._error = error
        self._returns = returns

    @property
    def done(self) -> bool:
        """Whether the answer, or the reason why there is none, is here; asking takes in what has come."""
        if self._pending is not None and not self._pending.done:
            self._node.accept()
        return self._pending is None or self._pending.done

    def wait_response(self, timeout: float = CALL_S) -> Any:
        """
        The answer; after a time-out it may be waited for again.

        Raises:
            CallTimeout; and whatever `call` raises.
        """
        return self._response(timeout, abandon=False)

    def receive_response(self, timeout: float = CALL_S) -> Any:
        """The answer; after a time-out it is given up, and a late one is dropped. Raises as `call` does."""
        return self._response(timeout, abandon=True)

    def abandon(self) -> None:
        """Wait no more: an answer that still comes is dropped."""
        if self._pending is not None and not self._pending.done:
            self._node.give_up(self._pending, too_late(self._pending, 0.0))

    def _response(self, timeout: float, *, abandon: bool) -> Any:
        pending = self._pending
        if pending is None:
            assert self._error is not None
            raise self._error
        if not self._node.wait(pending, deadline(timeout)):
            if not abandon:
                raise too_late(pending, timeout)
            self._node.give_up(pending, too_late(pending, timeout))
        return value_of(pending, self._returns)


class Verbs:
    """What a process can say to others. Everything here may be called from any thread."""

    _node: Node

    def cast(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> bool:
        """
        Send, and wait for nothing.

        Returns:
            Whether it went out: False when nobody has that name now, or too much is on its way there.
        Raises:
            BadRequest: the arguments cannot be encoded.
        """
        return self._node.cast(to, handler, args, kwargs)

    def send(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> Delivery:
        """Send; the Delivery tells whether the receiver has taken it in. Raises nothing: errors are its own."""
        try:
            pending = self._node.submit(AN_ACCEPTANCE, to, handler, args, kwargs)
        except MessageError as error:
            return Delivery(self._node, str(to), handler, None, error)
        return Delivery(self._node, pending.to, handler, pending, None)

    @overload
    def call(
        self, to: str | Address, handler: str, /, *args: Any, timeout: float = CALL_S, returns: type[T], **kwargs: Any
    ) -> T: ...

    @overload
    def call(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        timeout: float = CALL_S,
        returns: None = None,
        **kwargs: Any,
    ) -> Any: ...

    def call(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        timeout: float = CALL_S,
        returns: Any = None,
        **kwargs: Any,
    ) -> Any:
        """
        Send, and wait for the handler's answer for up to `timeout` seconds (`float("inf")`: as long as it takes).

        Args:
            returns: the type to make of the answer; without it, what msgpack has: numbers, text, bytes, lists, maps.
        Raises:
            NoProcess, ProcessDown, Backpressure, CallTimeout, BadRequest, RemoteError, CallingSelf, Refused.
        """
        node = self._node
        end_s = deadline(timeout)
        pending = node.submit(A_REPLY, to, handler, args, kwargs)
        try:
            answered = node.wait(pending, end_s)
        except BaseException:  # a signal's handler has raised: nobody can ask for this answer any more
            node.give_up(pending, too_late(pending, 0.0))
            raise
        if not answered:
            node.give_up(pending, too_late(pending, timeout))
        return value_of(pending, returns)

    def send_request(
        self, to: str | Address, handler: str, /, *args: Any, returns: Any = None, **kwargs: Any
    ) -> Request:
        """Send a call and go on; its Request is asked for the answer later. Raises nothing: errors are its own."""
        try:
            pending = self._node.submit(A_REPLY, to, handler, args, kwargs)
        except MessageError as error:
            return Request(self._node, None, error, returns)
        return Request(self._node, pending, None, returns)

    def monitor(self, name: str) -> Monitor:
        """
        Be told when the process that has the name now dies; also of commands and functions.

        Raises:
            NoProcess: it cannot be told whether it lives: too many open files.
        """
        return self._node.monitor(name)

    def demonitor(self, monitor: Monitor, flush: bool = True) -> bool:
        """The same as `monitor.demonitor(flush)`."""
        return monitor.demonitor(flush)

    def whereis(self, name: str) -> Where | None:
        """
        The living process that has the name now; None when nobody has.

        Raises:
            OSError: it cannot be told whether it lives: too many open files.
        """
        return Where.of(self._node.whereis(name))

    def tasks(self, supervisor: str, *, shutdown: float | str = 5.0) -> TaskSupervisor:
        """Who starts tasks of this process below the dynamic supervisor of that name."""
        from regrow.ipc.tasks import TaskSupervisor

        return TaskSupervisor(self, supervisor, shutdown=shutdown)

    def run_command(
        self,
        argv: Sequence[Word],
        /,
        *,
        timeout: float = COMMAND_S,
        input: bytes | None = None,
        env: Mapping[str, Word] | None = None,
        cwd: Word | None = None,
        user: str | int | None = None,
        stdout_limit: int | None = None,
        stderr_limit: int | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        isolate: Collection[str] = (),
        share_processes: bool = False,
        nice: int = 0,
    ) -> CommandResult:
        """
        Run a program to its end, in isolation; when this returns, nothing of it is left. docs/commands.md says more.

        Args:
            argv: the program, by its name in PATH or its absolute path, and its arguments. There is no shell.
            timeout: seconds until it is killed with all that it has started, waiting for its turn included.
            input: what it reads; without, it reads nothing.
            env: variables beside PATH, LANG, HOME and TMPDIR; nothing else is inherited.
            cwd: where it runs; without, in an empty directory of its own, which is removed afterwards.
            user: who it runs as, for operators; without, who asks.
            stdout_limit, stderr_limit: bytes that are kept of each stream, 1 MiB by default.
            limits: as in the file: `memory`, `cpu`, `processes`, `open_files`, `file_size`, `core`.
            isolate: what it is kept away from: `network`, `tmp`, `root` (it becomes read-only), `processes`.
            share_processes: let it see the host's processes.
        Raises:
            Refused: `forbidden`, or `unavailable` where an isolation or limit cannot be had; Backpressure: too many
            wait; BadRequest; NoProcess: nobody runs commands here; CallTimeout: its turn did not come in time;
            ProcessDown: its runner was killed, and it with that.
        """
        from regrow.ipc import commands

        return commands.run_command(
            self._node.run_dir, self._node.name, argv, input, timeout=timeout, env=env, cwd=cwd, user=user,
            stdout_limit=stdout_limit, stderr_limit=stderr_limit, limits=limits, isolate=isolate,
            share_processes=share_processes, nice=nice,
        )  # fmt: skip

    def start_command(self, argv: Sequence[Word], /, *, timeout: float = COMMAND_S, **options: Any) -> Command:
        """
        Start a program and go on: what this returns gives its lines as they come, feeds it, and waits for its end.

        It reads what is written to it until `end_input`. Takes what `run_command` does but `input`, and raises as that
        does; a refusal is raised where it is waited for.
        """
        from regrow.ipc import commands

        return commands.start_command(self._node.run_dir, self._node.name, argv, timeout=timeout, **options)

    def wait_for(self, name: str, timeout: float = CALL_S) -> Where:
        """
        Wait until a living process has the name, such as the successor of one that has died.

        Raises:
            NoProcess: nobody has it after `timeout` seconds.
        """
        return wait_for(self.whereis, name, timeout)

    def members(self, group: str) -> list[str]:
        """The living members of a group, by their number; raises NoProcess when it cannot be told who lives."""
        return self._node.members(group)


def deadline(timeout: float) -> float:
    """
    When a wait of `timeout` seconds ends, in monotonic seconds.

    Raises:
        ValueError: it is negative, or NaN; TypeError: it is no number.
    """
    try:
        if not timeout >= 0:
            raise ValueError(f"cannot wait for {timeout!r} seconds: a timeout is 0 or more")
        return time.monotonic() + timeout
    except TypeError:
        text = f"cannot wait for {timeout!r} seconds: a timeout is a number, and float('inf') as long as it takes"
        raise TypeError(text) from None


def wait_for(whereis: Callable[[str], Where | None], name: str, timeout: float) -> Where:
    """What `whereis` says of `name`, once it says anything; raises NoProcess when it has not in `timeout` seconds."""
    for pause_s in looks(deadline(timeout)):
        if (where := whereis(name)) is not None:
            return where
        time.sleep(pause_s)
    raise not_taken(name, timeout)


def not_taken(name: str, timeout: float) -> NoProcess:
    """The error of who has waited for a name in vain."""
    return NoProcess(name, f"no process has taken that name within {timeout:g} s")


def looks(end_s: float) -> Iterator[float]:
    """
    How long to pause after each look for a name, until `end_s` (monotonic): 1 ms at first, 50 ms in the long run.

    Nothing tells of a new name: it is written into the table without asking anybody, and most come within milliseconds.
    """
    pause_s = 0.001
    while True:
        left_s = end_s - time.monotonic()
        yield max(min(pause_s, left_s), 0.0)
        if left_s <= 0:
            return
        pause_s = min(pause_s * 1.5, 0.05)


def value_of(pending: Pending, returns: Any) -> Any:
    """What an answered call returns, or raises."""
    if pending.error is not None:
        raise pending.error
    assert pending.value is not None
    return decode(pending.to, pending.value, returns)


def decode(to: str, value: Raw, returns: Any) -> Any:
    """
    Make a value of an answer.

    Raises:
        RemoteError: it is not of the type that the caller expects.
    """
    try:
        return _decode(value) if returns is None else msgspec.msgpack.decode(value, type=returns)
    except UNREADABLE as error:
        raise RemoteError(to, "UnexpectedReply", f"the answer is not what was expected: {error}") from None


def too_late(pending: Pending, timeout: float) -> CallTimeout:
    """The error of a call that was given up after `timeout` seconds."""
    return CallTimeout(pending.to, pending.handler, timeout, pending.cycle)
