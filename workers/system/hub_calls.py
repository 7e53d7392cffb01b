"""
The hub's own messages, on behalf of its clients, to the processes of this host.

Nothing here waits: what comes of a message is noted when the node learns it, and told at the hub's next turn. The
exact reason of a death is asked of the root meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from regrow.ipc import hub_wire as wire
from regrow.ipc.delivery import Awaits, Pending
from regrow.ipc.down import NOCONNECTION, NOPROC, UNKNOWN, Down, reason_of
from regrow.ipc.errors import (
    Backpressure,
    BadRequest,
    CallTimeout,
    MessageError,
    NoProcess,
    ProcessDown,
    Refused,
    RemoteError,
)
from regrow.ipc.groups import Address, ByKey, LeastOutstanding, RoundRobin
from regrow.ipc.monitor import Monitor
from regrow.ipc.node import Node
from regrow.ipc.process import cannot_tell, open_pidfd, start_time
from regrow.ipc.wire import BACKPRESSURE, BAD_REQUEST, REMOTE_ERROR
from regrow.workers.system.hub_gateway import Answered, Died, NotAnswered
from regrow.workers.system.hub_peer import Handle
from regrow.workers.system.hub_posts import HubPosts
from regrow.workers.system.hub_root import RootLink
from regrow.workers.system.hub_watch import Death, Watch

EXPLAIN_S = 2.0
"""How long the root may take to learn of what a process has died."""


class Underway:
    """A message that was sent, or a monitor, until the client has been told what came of it."""

    __slots__ = ("_give_up", "is_over", "tell")

    def __init__(self, tell: Callable[[], None], give_up: Callable[[], object]) -> None:
        self.tell = tell
        self._give_up = give_up
        self.is_over = False

    def cancel(self) -> bool:
        if self.is_over:
            return False
        self.is_over = True
        self._give_up()
        return True


class Over:
    """What has ended before it could be given up."""

    def cancel(self) -> bool:
        return False


class NodeCalls:
    """The `Calls` of the gateway, over a node."""

    def __init__(self, node: Node, root: RootLink, watch: Watch) -> None:
        self._node = node
        self._root = root
        self._watch = watch
        self._settled: list[Underway] = []
        self._touched = True
        self._posts = HubPosts(node, watch)
        watch.add(node.fileno(), self._touch)

    def turn(self) -> float | None:
        """Take in what has come and tell it. Returns in how many seconds this is due again, None if nothing is."""
        while self._touched or self._settled:
            self._touched = False
            due_s = self._node.on_readable()
            settled, self._settled = self._settled, []
            for underway in settled:
                if not underway.is_over:
                    underway.is_over = True
                    underway.tell()
            if due_s != float("inf"):
                self._touched = True
                if not self._settled:
                    return max(0.0, due_s - time.monotonic())
        return None

    def _touch(self) -> None:
        self._touched = True

    # messages

    def call(self, request: wire.Call | wire.Send, done: Answered, failed: NotAnswered) -> Handle:
        awaits = Awaits.REPLY if isinstance(request, wire.Call) else Awaits.ACCEPTANCE
        self._touched = True
        try:
            pending = self._node.submit(awaits, target(request.to), request.handler, request.args, request.kwargs)
        except MessageError as error:
            self._fail(error, failed)
            return Over()
        late = CallTimeout(pending.to, request.handler, request.timeout_s)
        underway = Underway(
            lambda: self._tell(pending, done, failed), lambda: self._node.give_up(pending, late)
        )
        self._when_done(pending, underway)
        return underway

    def cast(self, request: wire.Cast) -> None:
        self._touched = True
        try:
            self._node.cast(target(request.to), request.handler, request.args, request.kwargs)
        except MessageError:
            pass  # nobody is told what becomes of a cast (S196)

    def post(self, request: wire.Post, done: Answered, failed: NotAnswered) -> Handle:
        def tell(outcome: str | Exception) -> None:
            if isinstance(outcome, str):
                done(wire.pack(outcome))
            elif isinstance(outcome, MessageError):
                self._fail(outcome, failed)
            else:
                failed(wire.NOT_KEPT, str(outcome), {"type": type(outcome).__name__})

        return self._posts.post(target(request.to), request, tell)

    def close(self) -> None:
        """Keep what was posted, and tell nobody any more."""
        self._posts.close()

    def _when_done(self, thing: Pending | Monitor, underway: Underway) -> None:
        thing.callback = lambda: self._settled.append(underway)
        if thing.done:
            self._settled.append(underway)

    def _tell(self, pending: Pending, done: Answered, failed: NotAnswered) -> None:
        if pending.error is not None:
            self._fail(pending.error, failed)
        else:
            done(pending.value if pending.value is not None else wire.NIL)

    def _fail(self, error: MessageError, failed: NotAnswered) -> None:
        if not isinstance(error, ProcessDown):
            failed(*described(error))
            return
        down = error.down

        def explained(exit: Mapping[str, Any]) -> None:
            details = {"incarnation": down.incarnation, "reason": reason_of(exit), "exit": dict(exit)}
            failed(wire.DOWN, f"{down.name} ended before it answered", {"name": down.name, **details})

        self._explain(down.name, down.incarnation, explained)

    def _explain(self, name: str, incarnation: int, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Ask the root of what this incarnation died; it tells `unknown` when the root cannot say."""

        def answered(exit: Any) -> None:
            if not isinstance(exit, dict) or not isinstance(exit.get("reason"), str):
                exit = {"reason": UNKNOWN}
            tell({key: value for key, value in exit.items() if key not in ("name", "incarnation")})

        def refused(_code: str, _text: str, _details: Mapping[str, Any]) -> None:
            tell({"reason": UNKNOWN})

        fields = {"name": name, "incarnation": incarnation, "within_s": EXPLAIN_S}
        self._root.ask("exit_reason", fields, answered, refused)

    # names and monitors

    def whereis(self, name: str) -> Mapping[str, Any] | None:
        record = self._node.names.get(name)
        try:
            if record is None or not record.is_alive():
                return None
        except OSError as error:
            raise NoProcess(name, cannot_tell(error)) from None
        return {"name": record.name, "incarnation": record.incarnation, "pid": record.pid}

    def monitor(self, name: str, down: Died) -> Handle:
        self._touched = True
        try:
            if self.whereis(name) is None and not self._node.members(name):
                return self._monitor_unnamed(name, down)
            monitor = self._node.monitor(name)
        except NoProcess:
            down(name, 0, {"reason": NOCONNECTION})  # it may live (S202)
            return Over()
        underway = Underway(
            lambda: self._tell_death(monitor, down), lambda: self._node.demonitor(monitor, flush=True)
        )
        self._when_done(monitor, underway)
        return underway

    def _tell_death(self, monitor: Monitor, tell: Died) -> None:
        found = monitor.down if monitor.down is not None else Down(monitor.name, 0)
        if found.incarnation == 0:
            tell(found.name, 0, {"reason": NOPROC})
        else:
            self._explain(found.name, found.incarnation, lambda exit: tell(found.name, found.incarnation, exit))

    def _monitor_unnamed(self, name: str, tell: Died) -> Handle:
        """A command or a function has no record of its own: the root knows its process."""
        handle = UnnamedMonitor()

        def died(incarnation: int) -> None:
            self._explain(name, incarnation, lambda exit: handle.tell(tell, name, incarnation, exit))

        def found(rows: Any) -> None:
            handle.step = None
            listed: list[dict[str, Any]] = rows if isinstance(rows, list) else []
            row = next((row for row in listed if row["name"] == name), {})
            pid, incarnation = row.get("pid"), row.get("incarnation", 0)
            try:
                pidfd = open_pidfd(pid, start_time(pid)) if pid is not None else -1
            except OSError:
                handle.tell(tell, name, 0, {"reason": NOCONNECTION})
                return
            if pidfd >= 0:
                handle.step = Death(self._watch, pidfd, lambda: died(incarnation))
            else:
                handle.tell(tell, name, 0, {"reason": NOPROC})

        def unknown(_code: str, _text: str, _details: Mapping[str, Any]) -> None:
            handle.tell(tell, name, 0, {"reason": NOPROC})

        handle.step = self._root.ask("status", {"names": [name]}, found, unknown)
        return handle


class UnnamedMonitor:
    """A monitor in two steps: ask who it is, then wait for its death."""

    __slots__ = ("is_over", "step")

    def __init__(self) -> None:
        self.step: Handle | None = None
        self.is_over = False

    def tell(self, tell: Died, name: str, incarnation: int, exit: Mapping[str, Any]) -> None:
        if not self.is_over:
            self.is_over = True
            tell(name, incarnation, exit)

    def cancel(self) -> bool:
        if self.is_over:
            return False
        self.is_over = True
        if self.step is not None:
            self.step.cancel()
        return True


def described(error: MessageError) -> tuple[str, str, dict[str, Any]]:
    """An error as it is said to a client: code, text, details."""
    text = str(error)
    match error:
        case NoProcess():
            return wire.NOPROC, text, {"name": error.to}
        case Backpressure():
            details = {"length": error.length, "limit": error.limit, "where": error.where}
            if error.limit_bytes:
                details |= {"size": error.size, "limit_bytes": error.limit_bytes}
            return BACKPRESSURE, text, details
        case BadRequest():
            return BAD_REQUEST, error.text, {"path": error.path}
        case RemoteError():
            return REMOTE_ERROR, error.text, {"type": error.type}
        case CallTimeout():
            return wire.TIMEOUT, text, {"within_s": error.within_s}
        case Refused():
            return error.code, error.message, error.details
        case _:
            return "internal", text, {}


def target(to: str | wire.Pick) -> str | Address:
    """Whom a client means."""
    if isinstance(to, str):
        return to
    match to.way:
        case "by_key":
            return ByKey(to.group, to.key)
        case "least_outstanding":
            return LeastOutstanding(to.group)
        case _:
            return RoundRobin(to.group)

