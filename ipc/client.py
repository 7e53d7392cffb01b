"""
A client of a daemon's agents, for scripts, notebooks and thread pools.

Source: contract section 4.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from regrow.ipc.addresses import address_of, run_dir_of
from regrow.ipc.control import ControlClient
from regrow.ipc.node import Node
from regrow.ipc.posting import Posting
from regrow.ipc.transaction import Transaction
from regrow.ipc.verbs import Verbs
from regrow.ipc.workflow_verbs import WorkflowVerbs
from regrow.ipc.workflows import Workflows

if TYPE_CHECKING:
    from datetime import datetime

    from regrow.ipc.groups import Address
    from regrow.ipc.mailbox import Signal
    from regrow.ipc.signals import Signals


class _Open(threading.local):
    """What is open in each thread."""

    transaction: Transaction | None = None

T = TypeVar("T")


class Client(WorkflowVerbs, Verbs):
    """
    Talks to the daemon whose run_dir this is; `$REGROW_RUN_DIR`, or the only one running, when it is not said.

    May be used by several threads at once. A forked process may go on using it: it then has its own connections, and
    none of its parent's open messages, monitors and subscriptions.

    Args:
        where: the run_dir; or `tcp://HOST:PORT`, where a daemon's hub listens, and then what is made is a RemoteClient
            with the same verbs.
        key: the file with this client's keys, for `tcp://` only.
    Raises:
        Unreachable: no daemon runs there, or this user may not talk to it; Ambiguous: several run.
    """

    def __new__(
        cls, where: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None
    ) -> Self:
        if (address := address_of(where)) is not None:
            from regrow.ipc.remote import RemoteClient

            return RemoteClient(address, key=key)  # type: ignore[return-value]  # the same verbs, another way
        return super().__new__(cls)

    def __init__(
        self, where: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None
    ) -> None:
        self._control: ControlClient | None = None
        self._node = Node(run_dir_of(where, key))
        self._signals: Signals | None = None
        self._posting = Posting(self._node)
        self._open = _Open()

    @property
    def run_dir(self) -> str:
        return self._node.run_dir

    @property
    def control(self) -> Control:
        """The management verbs (`which_children`, `restart_child`, `status`, …) as methods."""
        if self._control is None:
            self._control = ControlClient(self._node.run_dir)
        return Control(self._control)

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
        Send what takes effect exactly once, whoever is killed when; it is kept when this returns.

        Args:
            id: posts to one agent with the same id are one post; returned, or made up.
            expires: seconds, from when it is due, after which it becomes a dead letter instead.
            delay: seconds until it is due, of time that passes, whatever the clock is set to.
            at: the time by the clock at which it is due, a datetime with its zone.
        Raises:
            NoProcess: nothing of that name is known; BadRequest; Backpressure; StoreError: it was not kept.
        """
        out = self._posting.write(to, handler, args, kwargs, id, expires, delay, at)
        self._change(lambda transaction: transaction.post(out))
        return out.id

    def cancel(self, to: str | Address, id: str) -> bool:
        """
        Have a post that was put off never come; inside `transaction`, at its end. A post with this id may come again.

        Returns:
            Whether there was one: it had not become due yet.
        Raises:
            NoProcess: nothing of that name is known; StoreError.
        """
        from regrow.ipc.timed import cancel_post, cancelling_post

        store, names = self._posting.store, self._posting.names(to)
        together = self._open.transaction
        if together is None:
            return store.write(lambda txn: any(cancel_post(txn, store.messages, name, id) for name in names))
        change = cancelling_post(together, store, names, id)
        change.looked = False  # what is posted together is kept in any case
        together.post(change)
        return change.was_there

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        What this thread posts inside is kept at the end, all together; nothing of it when the block raises.

        Raises:
            StoreError: nothing was kept.
        """
        if self._open.transaction is not None:
            raise RuntimeError("a transaction of this thread is open already")
        together = self._open.transaction = Transaction()
        try:
            yield
        finally:
            self._open.transaction = None
        if together:
            self._posting.commit(together)

    def _workflows(self) -> Workflows:
        return Workflows(self._posting)

    def _change(self, change: Callable[[Transaction], T]) -> T:
        """Within the open transaction of this thread, or in one of its own. Raises: StoreError."""
        together = self._open.transaction
        if together is not None:
            return change(together)
        alone = Transaction()
        result = change(alone)
        if alone:
            self._posting.commit(alone)
        return result

    def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """
        Tell everybody who has subscribed to the topic. With a `timeout`, wait for the hub: returns how many they are.

        Raises:
            Backpressure, BadRequest; DeliveryTimeout.
        """
        return self.signals.publish(topic, message, timeout=timeout)

    def subscribe(self, pattern: str, *, since: int | None = None, timeout: float = 5.0) -> bool:
        """
        Have signals of these topics kept for `next_signal`; False when the hub is not there to confirm it yet.

        `since`: for patterns below `regrow.event`, first those events again that came after this number.
        """
        return self.signals.subscribe(pattern, since=since, timeout=timeout)

    def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """Hear no more of it; False when it was not subscribed to."""
        return self.signals.unsubscribe(pattern, timeout=timeout)

    def next_signal(self, timeout: float = 60.0) -> Signal | None:
        """The next signal; None after `timeout` seconds without one. `lost` counts those dropped before it."""
        return self.signals.receive(timeout)

    @property
    def signals(self) -> Signals:
        """What this client publishes and is subscribed to."""
        if self._signals is None:
            from regrow.ipc.signals import Signals

            self._signals = Signals(self._node)
        return self._signals

    def close(self) -> None:
        """End the connections; what still waits ends as NoProcess. A closed client stays closed."""
        if self._control is not None:
            self._control.close()
        if self._signals is not None:
            self._signals.close()
        self._posting.close()
        self._node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Control:
    """
    The control verbs as methods: `control.which_children("app")`, `control.restart_child("app", "web")`.

    Of the arguments without a name, the first is the supervisor and the second the child (`start_child`: the spec).
    Any other verb takes its fields by name. All raise Refused, ControlTimeout and Unreachable.
    """

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def request(self, verb: str, **fields: Any) -> Any:
        return self._client.request(verb, **fields)

    def start_child(self, supervisor: str, spec: dict[str, Any]) -> Any:
        return self.request("start_child", supervisor=supervisor, spec=spec)

    def restart_child(self, supervisor: str, child: str) -> Any:
        return self.request("restart_child", supervisor=supervisor, child=child)

    def terminate_child(self, supervisor: str, child: str) -> Any:
        return self.request("terminate_child", supervisor=supervisor, child=child)

    def delete_child(self, supervisor: str, child: str) -> Any:
        return self.request("delete_child", supervisor=supervisor, child=child)

    def which_children(self, supervisor: str) -> Any:
        return self.request("which_children", supervisor=supervisor)

    def count_children(self, supervisor: str) -> Any:
        return self.request("count_children", supervisor=supervisor)

    def get_childspec(self, supervisor: str, child: str) -> Any:
        return self.request("get_childspec", supervisor=supervisor, child=child)

    def status(self, **fields: Any) -> Any:
        return self.request("status", **fields)

    def events(self, **fields: Any) -> Any:
        return self.request("events", **fields)

    def why(self, name: str) -> Any:
        return self.request("why", name=name)
