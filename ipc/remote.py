"""
A client of the hub: the verbs of a local client for a program that is not on the daemon's host, or shall look so.

    with RemoteClient("tcp://build.example:7300", key="laptop.key") as regrow:
        regrow.call("pricer", "quote", sku="A1", timeout=1.0)

The outcomes are those of a local client, and one more: when the connection or the hub is lost, whatever is open ends
with the reason `noconnection`; what was called may have been done, and what was monitored may live (S187, S202).
Connections come back by themselves. Thread-safe; not for use across a fork.

Source: docs/protocol.md; otp-rules S183-S211.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from msgspec import Raw

from regrow.ipc import hub_wire
from regrow.ipc.client import Control
from regrow.ipc.down import NOCONNECTION, Down
from regrow.ipc.errors import BadRequest, CallTimeout, ControlTimeout, Refused, StoreError, Unreachable
from regrow.ipc.groups import Address, ByKey, LeastOutstanding, RoundRobin, check_address
from regrow.ipc.hub_wire import MAX_TIMEOUT_S
from regrow.ipc.keys import KeyFileError, read_client_key
from regrow.ipc.mailbox import Signal
from regrow.ipc.posts import check_id
from regrow.ipc.remote_link import RemoteLink
from regrow.ipc.remote_signals import RemoteSignals
from regrow.ipc.remote_steps import Once, Steps, finish
from regrow.ipc.remote_waits import Asking, RemoteDelivery, RemoteMonitor, RemoteRequest
from regrow.ipc.unsendable import bad_arguments
from regrow.ipc.verbs import CALL_S, Where, deadline, looks, not_taken
from regrow.ipc.wire import UNSENDABLE

EXTRA_S = 1.0
"""The hub is given so much longer than the caller waits: the caller's own clock decides."""

LOOK_S = 0.05
"""What a look for a name may take when the time is up already."""


class RemoteClient:
    """
    Args:
        address: `tcp://HOST:PORT`, `ipc://PATH`, or a run_dir.
        key: the file that `regrow keys add` made; needed for TCP.
        timeout: how long to wait for the hub at first (seconds).
    Raises:
        Unreachable: no hub welcomes this client there; KeyFileError, OSError: the file cannot be used.
    """

    def __init__(self, address: str, *, key: str | os.PathLike[str] | None = None, timeout: float = 5.0) -> None:
        self.endpoint = address if "://" in address else f"ipc://{os.path.abspath(address)}/{hub_wire.ENDPOINT}"
        if self.endpoint.startswith("tcp:") and key is None:
            raise KeyFileError(f"cannot connect to {address}: over TCP a key is needed; `regrow keys add` makes it")
        pair = read_client_key(os.fspath(key)) if key is not None else None
        self._welcomed = threading.Event()
        self._asking = Asking()
        self._signals = RemoteSignals(self._asking)
        self.session = ""
        self.control = RemoteControl(self._asking)
        self._link = RemoteLink(self.endpoint, pair, self)
        self._asking.link = self._link
        self._link.start()
        if not self._welcomed.wait(timeout):
            why = self._link.refused or f"no hub answers within {timeout:g} s"
            self.close()
            raise Unreachable(f"cannot reach the hub at {self.endpoint}", why, "see whether it runs and listens there")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what was said, and end the connection; what is open ends with `noconnection`."""
        self._link.close()

    # messages

    def cast(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> bool:
        """
        Send, and wait for nothing (S196).

        Returns:
            Whether it went out; False while there is no connection.
        Raises:
            BadRequest: the arguments cannot be encoded.
        """
        packed = _arguments(to, handler, args, kwargs)
        return self._asking.say(hub_wire.Cast(_target(to), handler, *packed), str(to))

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
        Call a handler and return its answer, of the type `returns` if that is given.

        The time limit counts here; the receiver may still do the work (S184).

        Raises:
            NoProcess, ProcessDown, Backpressure, CallTimeout, BadRequest, RemoteError, Refused.
        """
        return finish(self._calling(to, handler, args, kwargs, timeout, returns))

    def _calling(
        self, to: str | Address, handler: str, args: Any, kwargs: Any, timeout: float, returns: Any
    ) -> Steps[Any]:
        deadline(timeout)
        limit_s = min(timeout + EXTRA_S, MAX_TIMEOUT_S)
        return (yield from self._request(to, handler, args, kwargs, limit_s, returns).receiving(timeout))

    def send_request(
        self, to: str | Address, handler: str, /, *args: Any, returns: Any = None, **kwargs: Any
    ) -> RemoteRequest:
        """Call without waiting (S197). Raises nothing: errors are the request's."""
        return self._request(to, handler, args, kwargs, MAX_TIMEOUT_S, returns)

    def _request(
        self, to: str | Address, handler: str, args: Any, kwargs: Any, limit_s: float, returns: Any
    ) -> RemoteRequest:
        id, wait = self._asking.ask(
            str(to),
            handler,
            lambda id: hub_wire.Call(id, _target(to), handler, *_arguments(to, handler, args, kwargs), limit_s),
        )
        return RemoteRequest(self._asking, id, wait, returns)

    def send(self, to: str | Address, handler: str, /, *args: Any, **kwargs: Any) -> RemoteDelivery:
        """Send; the delivery tells whether the receiver has taken it in. Raises nothing: errors are the delivery's."""
        _, wait = self._asking.ask(
            str(to),
            handler,
            lambda id: hub_wire.Send(id, _target(to), handler, *_arguments(to, handler, args, kwargs), MAX_TIMEOUT_S),
        )
        return RemoteDelivery(wait)

    def post(
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
        Send what takes effect exactly once; it is kept when this returns.

        When the connection is lost meanwhile, it is kept or not: whoever posts again with the same `id`, posts once.

        Args:
            id: posts to one agent with the same id are one post; returned, or made up.
            expires: seconds, from when it is due, after which it becomes a dead letter instead.
            delay: seconds until it is due, of time that passes, whatever the clock is set to.
            at: the time by the clock at which it is due, a datetime with its zone.
        Raises:
            NoProcess: nothing of that name is known; BadRequest; Backpressure; StoreError: it was not kept;
            ProcessDown (noconnection).
        """
        return finish(self._posting(to, handler, args, kwargs, id, expires, delay, at))

    def _posting(
        self,
        to: str | Address,
        handler: str,
        args: Any,
        kwargs: Any,
        id: str | None,
        expires: float | None,
        delay: float | None,
        at: datetime | None,
    ) -> Steps[str]:
        checked, due = _posted(str(to), id, expires), _due(str(to), delay, at)

        def make(number: int) -> hub_wire.Post:
            packed = _arguments(to, handler, args, kwargs)
            return hub_wire.Post(number, _target(to), handler, *packed, MAX_TIMEOUT_S, *checked, *due)

        number, wait = self._asking.ask(str(to), handler, make)
        request = RemoteRequest(self._asking, number, wait, str)
        try:
            kept: str = yield from request.receiving(float("inf"))
        except Refused as error:
            if error.code == hub_wire.NOT_KEPT:
                raise StoreError(error.message) from None
            raise
        return kept

    def whereis(self, name: str, *, timeout: float = CALL_S) -> Where | None:
        """The living process that has the name now; None when nobody has."""
        return finish(self._whereis(name, timeout))

    def _whereis(self, name: str, timeout: float) -> Steps[Where | None]:
        id, wait = self._asking.ask(name, "whereis", lambda id: hub_wire.Whereis(id, name))
        found = yield from RemoteRequest(self._asking, id, wait, dict[str, Any] | None).receiving(timeout)
        return Where(**found) if found is not None else None

    def wait_for(self, name: str, timeout: float = CALL_S) -> Where:
        """Wait until a living process has the name; raises NoProcess when nobody has in time."""
        return finish(self._waiting_for(name, timeout))

    def _waiting_for(self, name: str, timeout: float) -> Steps[Where]:
        end_s = deadline(timeout)
        for pause_s in looks(end_s):
            try:
                where = yield from self._whereis(name, max(end_s - time.monotonic(), LOOK_S))
            except CallTimeout:
                break
            if where is not None:
                return where
            yield Once(), pause_s
        raise not_taken(name, timeout)

    def monitor(self, name: str) -> RemoteMonitor:
        """Be told, once, of the death of whoever has the name now (S200-S202)."""
        with self._asking.lock:
            monitor = RemoteMonitor(self._asking, self._asking.next_id(), name)
            if self._asking.say(hub_wire.Monitor(monitor.id, name), name):
                self._asking.monitors[monitor.id] = monitor
            else:
                monitor.settle(Down(name, 0, reason=NOCONNECTION))
        return monitor

    def demonitor(self, monitor: RemoteMonitor, flush: bool = True) -> bool:
        """The same as `monitor.demonitor(flush)`."""
        return monitor.demonitor(flush)

    # signals

    def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """
        Publish a signal. With a `timeout` (seconds), wait for the hub to have handed it out: returns to how many.

        Raises:
            BadRequest; Backpressure: too many wait for a connection. With a time-out also DeliveryTimeout, ProcessDown.
        """
        return finish(self._signals.publish(topic, message, timeout))

    def subscribe(self, pattern: str, *, since: int | None = None, timeout: float = 5.0) -> bool:
        """
        Get what is published under `pattern`; `since`: and the daemon's events after that number.

        Returns:
            Whether the hub has confirmed it; if it has not, it is told as soon as there is a connection.
        Raises:
            BadRequest: it is no pattern.
        """
        return finish(self._signals.subscribe(pattern, since, timeout))

    def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """Get it no longer; whether there was such a subscription."""
        return finish(self._signals.unsubscribe(pattern, timeout))

    def next_signal(self, timeout: float = 60.0) -> Signal | None:
        """The next signal; None when none comes in time."""
        self._asking.check_process()
        return finish(self._signals.next(timeout))

    # what the link tells, in its thread

    def came_up(self, session: str) -> None:
        """Called by the link."""
        with self._asking.lock:
            self.session = session
            self._signals.came_up()
        self._welcomed.set()

    def lost(self) -> None:
        """Called by the link."""
        self._asking.lost()

    def heard(self, message: hub_wire.FromHub) -> None:
        """Called by the link."""
        match message:
            case hub_wire.Done() | hub_wire.Refusal():
                self._asking.answered(message)
            case hub_wire.Signal() | hub_wire.Event() | hub_wire.Lost():
                self._signals.heard(message)
            case hub_wire.Down():
                self._asking.died(message)
            case _:
                pass


class RemoteControl(Control):
    """The verbs of the control socket, through the hub; those that act are for operators."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def request(self, verb: str, *, within_s: float = CALL_S, **fields: Any) -> Any:
        """
        Ask the daemon and wait for its answer.

        Raises:
            Refused, ControlTimeout, BadRequest, ProcessDown (noconnection).
        """
        limit_s = min(within_s + EXTRA_S, MAX_TIMEOUT_S)
        id, wait = self._asking.ask("the daemon", verb, lambda id: hub_wire.Control(id, verb, fields, limit_s))
        wait.wait_until_done(within_s)
        if not wait.done:
            self._asking.give_up(id)
            raise ControlTimeout("cannot get an answer from the daemon", within_s, "look again with `status`")
        return wait.result(None)


def _arguments(to: str | Address, handler: str, args: Any, kwargs: Any) -> tuple[Raw, Raw]:
    try:
        return hub_wire.pack(args), hub_wire.pack(kwargs)
    except UNSENDABLE as error:
        raise bad_arguments(str(to), handler, args, kwargs, error) from None


def _posted(to: str, id: str | None, expires: float | None) -> tuple[str, float]:
    """An id and a time limit as they are sent; the hub would take 0 for none."""
    if expires is not None and not (type(expires) in (int, float) and 0 < expires < float("inf")):
        raise BadRequest(to, f"expires is a number of seconds above 0, not {expires!r}")
    return "" if id is None else check_id(to, id), float(expires or 0.0)


def _due(to: str, delay: float | None, at: datetime | None) -> tuple[float, float]:
    """When it is due, as it is sent."""
    if delay is None and at is None:
        return 0.0, 0.0
    from regrow.ipc.clocks import now
    from regrow.ipc.timed import due_at

    due_at(to, delay, at, now())
    return float(delay or 0.0), max(at.timestamp(), 1.0) if at is not None else 0.0


def _target(to: str | Address) -> str | hub_wire.Pick:
    match to:
        case ByKey():
            return hub_wire.Pick("by_key", to.group, to.key)
        case LeastOutstanding():
            return hub_wire.Pick("least_outstanding", to.group)
        case RoundRobin():
            return hub_wire.Pick("round_robin", to.group)
        case _:
            check_address(to)
            return to
