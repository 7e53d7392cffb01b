"""
What a remote client waits for: answers of the hub, deaths, acceptances.

Each ends exactly once: in what the hub says, or in `noconnection` when the connection is lost.

Source: otp-rules S183-S211.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec import Raw

from regrow.ipc import hub_wire
from regrow.ipc.delivery import full, number_in
from regrow.ipc.down import NOCONNECTION, Down
from regrow.ipc.errors import (
    BadRequest,
    CallTimeout,
    DeliveryTimeout,
    MessageError,
    NoProcess,
    ProcessDown,
    Refused,
    RemoteError,
)
from regrow.ipc.remote_steps import Once, Steps, finish
from regrow.ipc.verbs import CALL_S, deadline, decode
from regrow.ipc.wire import BACKPRESSURE, BAD_REQUEST, MAX_MESSAGE_BYTES, REMOTE_ERROR, UNSENDABLE

if TYPE_CHECKING:
    from regrow.ipc.remote_link import RemoteLink


class Wait(Once):
    """One request, until it has an outcome."""

    __slots__ = ("error", "handler", "to", "value")

    def __init__(self, to: str, handler: str) -> None:
        super().__init__()
        self.to = to
        self.handler = handler
        self.value: Raw = hub_wire.NIL
        self.error: MessageError | None = None

    def settle(self, value: Raw, error: MessageError | None = None) -> None:
        self.value, self.error = value, error
        self.happen()

    def result(self, returns: Any) -> Any:
        """
        The value of the outcome, of type `returns` if that is given.

        Raises:
            the error that it is; RemoteError: the value is of another type.
        """
        if self.error is not None:
            raise self.error
        return decode(self.to, self.value, returns)


class Asking:
    """The table of what is open over one link. Thread-safe; `lock` is for whoever shares its state."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.link: RemoteLink | None = None
        self._ids = itertools.count(1)
        self._pid = os.getpid()
        self._waits: dict[int, Wait] = {}
        self.monitors: dict[int, RemoteMonitor] = {}

    def is_up(self) -> bool:
        return self.link is not None and self.link.is_up

    def next_id(self) -> int:
        return next(self._ids)

    def say(self, message: hub_wire.ToHub, about: str = "the hub") -> bool:
        """
        Say what is not answered; False when there is no connection.

        Raises:
            BadRequest: it is too long, or no message; RuntimeError: in a forked process.
        """
        self.check_process()
        frame = self._frame(about, lambda: message)
        if self.link is None or not self.link.is_up:
            return False
        self.link.send(frame)
        return True

    def ask(self, to: str, handler: str, make: Callable[[int], hub_wire.ToHub]) -> tuple[int, Wait]:
        """Say what is answered; `make` takes its id and returns the message. Whatever is wrong is the outcome."""
        self.check_process()
        wait = Wait(to, handler)
        id = self.next_id()
        try:
            frame = self._frame(to, lambda: make(id))
        except BadRequest as error:
            wait.settle(hub_wire.NIL, error)
            return id, wait
        with self.lock:
            if self.link is not None and self.link.is_up:
                self._waits[id] = wait
                self.link.send(frame)
                return id, wait
        wait.settle(hub_wire.NIL, no_connection(to))
        return id, wait

    def check_process(self) -> None:
        """Raises RuntimeError in a forked process: what keeps the connection is the parent's thread."""
        if self._pid != os.getpid():
            raise RuntimeError("cannot use a RemoteClient in a forked process: make another one there")

    def give_up(self, id: int) -> None:
        """Nobody waits for this answer any more."""
        with self.lock:
            if self._waits.pop(id, None) is not None:
                self.say(hub_wire.Cancel(id))

    def answered(self, message: hub_wire.Done | hub_wire.Refusal) -> None:
        with self.lock:
            wait = self._waits.pop(message.id, None)
            monitor = self.monitors.pop(message.id, None) if isinstance(message, hub_wire.Refusal) else None
        if monitor is not None and isinstance(message, hub_wire.Refusal):
            monitor.settle(None, error_of(monitor.name, "monitor", message))
        elif wait is None:
            return
        elif isinstance(message, hub_wire.Done):
            wait.settle(message.value)
        else:
            wait.settle(hub_wire.NIL, error_of(wait.to, wait.handler, message))

    def died(self, message: hub_wire.Down) -> None:
        with self.lock:
            monitor = self.monitors.pop(message.id, None)
        if monitor is not None:
            monitor.settle(_down(message.name, message.incarnation, {"reason": message.reason, **message.exit}))

    def lost(self) -> None:
        """The connection has ended, and with it everything that was open."""
        with self.lock:
            waits, self._waits = self._waits, {}
            monitors, self.monitors = self.monitors, {}
        for wait in waits.values():
            wait.settle(hub_wire.NIL, no_connection(wait.to))
        for monitor in monitors.values():
            monitor.settle(Down(monitor.name, 0, reason=NOCONNECTION))

    @staticmethod
    def _frame(to: str, make: Callable[[], hub_wire.ToHub]) -> bytes:
        try:
            frame = hub_wire.encode(make())
        except UNSENDABLE as error:
            raise BadRequest(to, f"no message can carry this: {error}") from None
        if len(frame) > MAX_MESSAGE_BYTES:
            raise BadRequest(to, f"the message has {len(frame)} bytes, {MAX_MESSAGE_BYTES} are the limit")
        return frame


class RemoteRequest:
    """A call that is on its way (S197)."""

    def __init__(self, asking: Asking, id: int, wait: Wait, returns: Any) -> None:
        self._asking = asking
        self._id = id
        self._wait = wait
        self._returns = returns

    @property
    def done(self) -> bool:
        """Whether the answer, or the reason why there is none, is here."""
        return self._wait.done

    def wait_response(self, timeout: float = CALL_S) -> Any:
        """
        The answer; at the time-out the call goes on, and may be waited for again.

        Raises:
            CallTimeout, and the errors of `RemoteClient.call`.
        """
        return finish(self.waiting(timeout))

    def receive_response(self, timeout: float = CALL_S) -> Any:
        """
        The answer; at the time-out the call is given up, and a late answer is dropped.

        Raises:
            CallTimeout, and the errors of `RemoteClient.call`.
        """
        return finish(self.receiving(timeout))

    def waiting(self, timeout: float) -> Steps[Any]:
        """The steps of `wait_response`."""
        deadline(timeout)
        yield self._wait, timeout
        if not self._wait.done:
            raise CallTimeout(self._wait.to, self._wait.handler, timeout)
        return self._wait.result(self._returns)

    def receiving(self, timeout: float) -> Steps[Any]:
        """The steps of `receive_response`."""
        try:
            return (yield from self.waiting(timeout))
        finally:
            if not self._wait.done:
                self.abandon()

    def abandon(self) -> None:
        """Nobody wants the answer any more."""
        self._asking.give_up(self._id)


class RemoteDelivery:
    """A message that is on its way."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait

    @property
    def done(self) -> bool:
        """Whether its outcome is known."""
        return self._wait.done

    @property
    def error(self) -> MessageError | None:
        """Why it did not arrive, as far as it is known."""
        return self._wait.error

    def wait(self, timeout: float = CALL_S) -> None:
        """
        Wait until it is accepted; after a time-out it may be waited for again.

        Raises:
            NoProcess, ProcessDown, Backpressure, BadRequest, Refused, DeliveryTimeout.
        """
        finish(self.waiting(timeout))

    def waiting(self, timeout: float) -> Steps[None]:
        """The steps of `wait`."""
        deadline(timeout)
        yield self._wait, timeout
        if not self._wait.done:
            raise DeliveryTimeout(self._wait.to, self._wait.handler, timeout)
        if self._wait.error is not None:
            raise self._wait.error


class RemoteMonitor(Once):
    """One monitor; `incarnation` is known once `down` is there. Leaving its `with` block is `demonitor`."""

    def __init__(self, asking: Asking, id: int, name: str) -> None:
        super().__init__()
        self._asking = asking
        self.id = id
        self.name = name
        self.down: Down | None = None
        self.error: MessageError | None = None

    def wait(self, timeout: float = 60.0) -> Down | None:
        """
        Wait for the death; None after `timeout` seconds without it, or once the monitor is removed.

        Raises:
            Backpressure: one connection has only so many monitors; BadRequest: the hub takes no such name.
        """
        return finish(self.waiting(timeout))

    def waiting(self, timeout: float) -> Steps[Down | None]:
        """The steps of `wait`."""
        deadline(timeout)
        yield self, timeout
        if self.error is not None:
            raise self.error
        return self.down

    def demonitor(self, flush: bool = True) -> bool:
        """Be told no more; False when the death was told already, or it was removed before (S208)."""
        with self._asking.lock:
            if self._asking.monitors.pop(self.id, None) is None:
                return False  # `flush` has nothing to do here: whoever asks for `down` finds it, nobody else does
            self._asking.say(hub_wire.Demonitor(self._asking.next_id(), self.id))
        self.happen()
        return True

    def settle(self, down: Down | None, error: MessageError | None = None) -> None:
        self.down, self.error = down, error
        self.happen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.demonitor()


def no_connection(to: str) -> ProcessDown:
    """What is open when the connection is lost ends in this (S187)."""
    return ProcessDown(Down(to, 0, reason=NOCONNECTION))


def error_of(to: str, handler: str, refusal: hub_wire.Refusal) -> MessageError:
    """The error that a local client would have raised."""
    details = refusal.details
    match refusal.code:
        case hub_wire.NOPROC:
            return NoProcess(str(details.get("name", to)))
        case hub_wire.DOWN:
            exit = details.get("exit")
            exit = exit if isinstance(exit, dict) and "reason" in exit else {"reason": details.get("reason", "unknown")}
            return ProcessDown(_down(str(details.get("name", to)), number_in(details, "incarnation"), exit))
        case hub_wire.TIMEOUT:
            within_s = details.get("within_s", 0.0)
            return CallTimeout(to, handler, within_s if isinstance(within_s, int | float) else 0.0)
        case code if code == BACKPRESSURE:
            return full(to, details, str(details.get("where", "the hub")))
        case code if code == BAD_REQUEST:
            return BadRequest(to, refusal.text, str(details.get("path", "")))
        case code if code == REMOTE_ERROR:
            return RemoteError(to, str(details.get("type", "Exception")), refusal.text)
        case code:
            return Refused(code, refusal.text, details)


def _down(name: str, incarnation: int, exit: dict[str, Any]) -> Down:
    """A death that is explained already, in whatever words."""
    return Down(name, incarnation, lambda _name, _incarnation: exit)
