"""
One task, in the hands of the process that started it.

Source: otp-rules S231-S236, S246; Elixir's Task.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Raw, Struct

from regrow.ipc.control import ControlClient
from regrow.ipc.down import KILLED, NORMAL, SHUTDOWN, Down
from regrow.ipc.errors import CallTimeout, ControlError, ProcessDown
from regrow.ipc.verbs import CALL_S, deadline, decode

if TYPE_CHECKING:
    from regrow.ipc.task_process import Moment, TaskProcess

BRUTAL_KILL: Literal["brutal_kill"] = "brutal_kill"

KILL_S = 10.0
"""How long a process that was killed is waited for. Only the kernel can be slower, in the middle of a system call."""

TERMINATED_S = 1.0
"""How long a supervisor is waited for that has to notice the death of its child."""


class Ok(Struct, frozen=True):
    """A task has returned this."""

    value: Any


class Exit(Struct, frozen=True):
    """
    A task has ended without a result: `reason` as a Down has it, or `timeout` in a stream; `text` holds a traceback.

    `input` is what it was given, in a stream with `zip_input_on_exit`.
    """

    reason: str
    text: str = ""
    code: int | None = None
    signal: str | None = None
    input: Any = None


Result: TypeAlias = Ok | Exit


class Task:
    """
    A task of this process: its result arrives here, and so does its death.

    Only the process that has started it can wait for it (S235); its threads may share it.
    """

    def __init__(self, process: TaskProcess, target: str, *, linked: bool) -> None:
        self._process = process
        self._owner = os.getpid()
        self._late: CallTimeout | None = None
        self.name = process.name
        self.pid = process.pid
        self.target = target
        self.linked = linked

    @property
    def done(self) -> bool:
        """Whether its result, or its death, is here."""
        if not self._process.outcome.done:
            self._process.look()
        return self._process.outcome.done

    @property
    def outcome(self) -> Moment:
        """What can be waited for."""
        return self._process.outcome

    @property
    def down(self) -> Down | None:
        """Its death, once that is known here and unless the result was fetched before."""
        return self._process.down

    def wait(self, timeout: float = CALL_S, *, returns: Any = None) -> Any:
        """
        Its result; after `timeout` seconds without one it is given up: a late one is dropped, and so is its death.

        Args:
            returns: the type to make of the result; without it, what msgpack has.
        Raises:
            ProcessDown: it ended without one; CallTimeout: it has none yet, and is left running; RemoteError: the
            result is not of the type that was expected.
        """
        self._check_owner()
        if self._late is None:
            self._has_come(timeout)
        return self.conclude(timeout, returns)

    def conclude(self, timeout: float, returns: Any) -> Any:
        """What `wait` comes to, now that `timeout` seconds were waited."""
        if self._late is not None:
            raise self._late
        if not self.done:
            self._process.mute()
            self._late = CallTimeout(self.name, self.target, timeout)
            raise self._late
        outcome = self._outcome(returns)
        if isinstance(outcome, Down):
            raise ProcessDown(outcome)
        return outcome.value

    def yield_(self, timeout: float = CALL_S, *, returns: Any = None) -> Result | None:
        """
        Its result, or its end; None after `timeout` seconds without either: it may be asked again (S236).

        Raises:
            ProcessDown: it is linked and failed.
        """
        self._check_owner()
        if self._late is not None or not self._has_come(timeout):
            return None
        outcome = self._outcome(returns)
        if not isinstance(outcome, Down):
            return outcome
        if self.linked and outcome.reason != NORMAL:
            raise ProcessDown(outcome)
        return exit_of(outcome)

    def shutdown(self, timeout: float | Literal["brutal_kill"] = CALL_S, *, returns: Any = None) -> Result | None:
        """
        End it (S236): asked by its supervisor, and killed after `timeout` seconds; at once with `"brutal_kill"`.

        Returns:
            Its result if that has come; None if it ended by this; its Exit if it ended of something else, or if it
            had to be killed because it did not end in time.
        """
        self._check_owner()
        end_s = 0.0 if timeout == BRUTAL_KILL else deadline(timeout)
        end_all([self._process], end_s)
        if self._late is not None or not self.done:
            return None
        outcome = self._outcome(returns)
        if not isinstance(outcome, Down):
            return outcome
        by_this = (KILLED, SHUTDOWN) if timeout == BRUTAL_KILL else (SHUTDOWN,)
        return None if outcome.reason in by_this else exit_of(outcome)

    def drop(self) -> None:
        """Kill it, and hear no more of it."""
        self._process.kill()
        self._process.mute()

    def _has_come(self, timeout: float) -> bool:
        process = self._process
        end_s = deadline(timeout)
        return self.done or process.node.wait(process.outcome, end_s) or self.done

    def _outcome(self, returns: Any) -> Ok | Down:
        """What has come; its death need not be told any more then."""
        process = self._process
        process.mute()
        if process.value is not None:
            return Ok(decode(self.name, Raw(process.value), returns))
        assert process.down is not None
        return process.down

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(f"only the process that has started {self.name} can wait for it (pid {self._owner})")

    def __repr__(self) -> str:
        return f"Task({self.name!r}, pid={self.pid})"


def exit_of(down: Down, input: Any = None) -> Exit:
    """An end without a result, as a value."""
    return Exit(down.reason, down.text, down.code, down.signal, input)


def end_all(processes: list[TaskProcess], end_s: float = 0.0) -> None:
    """
    End them and wait until they are dead: asked first, when there is time until `end_s` (monotonic), and then killed.

    Whom this user may not kill, its supervisor ends.
    """
    for each in processes:
        each.look()
    alive = [each for each in processes if each.is_alive]
    polite = end_s > time.monotonic()
    asked = alive if polite else [each for each in alive if not each.kill()]
    if not alive:
        return
    with _Requests(asked) as requests:
        if polite:
            for each in alive:
                each.node.wait(each.death, end_s)
                each.look()
            alive = [each for each in alive if each.is_alive]
            for each in alive:
                each.kill()
        for each in alive:
            each.node.wait(each.death, time.monotonic() + KILL_S)
        requests.answered()


class _Requests:
    """Requests to supervisors to end some tasks: sent on entering, answered once they have."""

    def __init__(self, processes: list[TaskProcess]) -> None:
        self._processes = processes
        self._control: ControlClient | None = None
        self._numbers: list[int | None] = []

    def __enter__(self) -> _Requests:
        if self._processes:
            try:
                self._control = ControlClient(self._processes[0].node.run_dir)
            except ControlError:
                return self  # without a daemon they have died, too
            self._numbers = [each.ask_to_end(self._control) for each in self._processes]
        return self

    def answered(self) -> None:
        """Wait for the answers: then the supervisors know as well."""
        for number in self._numbers:
            if number is not None and self._control is not None:
                try:
                    self._control.answer(number, TERMINATED_S)
                except ControlError:
                    return  # it had ended by itself, or this is the end of all

    def __exit__(self, *_: object) -> None:
        if self._control is not None:
            self._control.close()
