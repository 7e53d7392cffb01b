"""
The worker that runs system commands: who asks is looked at, waits for his turn, and gets a runner of his own.

One thread, one wait, and nothing opened but a socket: all that takes time is done by the runners. It can be killed at
any time: its runners die with it, and their commands with them.

Source: docs/commands.md; architecture section 8.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from regrow.config.spec import CommandsSpec
from regrow.ipc import commands_wire as wire
from regrow.ipc.process import parent_of
from regrow.workers.notify import ready
from regrow.workers.system import commands_calls as calls
from regrow.workers.system.commands_crew import Crew
from regrow.workers.system.commands_folder import remove_folder
from regrow.workers.system.commands_news import News
from regrow.workers.system.commands_rules import Denied, Granted, decide
from regrow.workers.system.commands_survivors import end_survivors
from regrow.workers.system.commands_task import Group
from regrow.workers.system.commands_tree import children, kill_all
from regrow.workers.system.commands_visitor import Visitor, shown
from regrow.workers.system.commands_watch import GONE, IN, Watch
from regrow.workers.system.signal_pipe import SignalPipe

MOST_VISITORS = 256
"""Connections whose request has not come yet; more have to wait to be let in."""

SHORTAGE_S = 0.1
"""How long nobody is let in when there are no descriptors."""

HEARD = (signal.SIGTERM, signal.SIGCHLD)
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)

STOP_S = 4.0
"""How long an orderly stop may take, of the 5 s that the supervisor gives."""


def run(
    run_dir: str,
    state_dir: str,
    spec: dict[str, Any],
    operator_uids: Collection[int] = (),
    operator_gids: Collection[int] = (),
    group: Group | None = None,
) -> None:
    """
    Serve until SIGTERM.

    Args:
        operator_uids, operator_gids: who may run anything, besides root and our own user.
        group: the control group that we are in, where there is one that is ours.
    """
    operators = Operators(frozenset({0, os.geteuid(), *operator_uids}), frozenset(operator_gids))
    worker = Commands(run_dir, state_dir, msgspec.convert(spec, CommandsSpec), operators, group)
    try:
        ready()
        worker.serve()
    finally:
        worker.close()


class Operators(Struct, frozen=True):
    """Who may run anything, by number."""

    uids: frozenset[int]
    gids: frozenset[int]

    def has(self, visitor: Visitor) -> bool:
        return visitor.uid in self.uids or not self.gids.isdisjoint({visitor.gid, *visitor.groups})


class Commands:
    """The door, those who wait, and those who are served."""

    def __init__(
        self, run_dir: str, state_dir: str, spec: CommandsSpec, operators: Operators, group: Group | None
    ) -> None:
        calls.adopt_orphans()
        self._spec = spec
        self._operators = operators
        self._root = _root_pid()
        self._stop_s: float | None = None
        self._open_s: float | None = None
        self._watch = Watch()
        self._news = News()
        self._signals = SignalPipe(HEARD, IGNORED)
        folder = os.path.join(state_dir, "commands")
        end_survivors(folder)
        remove_folder(folder)  # what the commands of a worker that was killed have left
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o711)  # each one's own directory is its own
        self._crew = Crew(folder, self._watch, self._news, group, self._serve_next)
        self._visitors: set[Visitor] = set()
        self._queue: deque[tuple[Visitor, Granted]] = deque()
        self._door = _open_door(run_dir)
        self._watch.add(self._signals.fileno(), IN, lambda _: self._on_signals())
        self._watch.add(self._door.fileno(), IN, lambda _: self._let_in())
        gc.collect()
        gc.freeze()  # runners share it

    def serve(self) -> None:
        """Serve until told to stop, and all commands have ended."""
        while self._stop_s is None or not self._crew.is_empty:
            self._watch.turn(self._wait_s())
            self._late()
            if self._stop_s is not None and self._stop_s <= time.monotonic():
                self._crew.kill_all()

    def _wait_s(self) -> float | None:
        due = [one for one in (self._crew.overdue(), self._stop_s, self._open_s) if one is not None]
        due += [visitor.due_s for visitor in self._visitors]
        due += [visitor.due_s for visitor, _ in self._queue]
        if (again_s := self._news.send()) is not None:
            due.append(time.monotonic() + again_s)
        return max(0.0, min(due) - time.monotonic()) if due else None

    # who comes

    def _let_in(self) -> None:
        while len(self._visitors) < MOST_VISITORS:
            try:
                connection, _ = self._door.accept()
            except BlockingIOError:
                break
            except OSError:  # no descriptors: they wait until there are some, which nothing tells
                self._watch.want(self._door.fileno(), 0)
                self._open_s = time.monotonic() + SHORTAGE_S
                return
            try:
                visitor = Visitor(connection)
            except OSError:
                connection.close()
                continue
            self._visitors.add(visitor)
            self._watch.add(connection.fileno(), IN, lambda _, visitor=visitor: self._hear(visitor))  # type: ignore[misc]
        self._watch.want(self._door.fileno(), IN if len(self._visitors) < MOST_VISITORS else 0)

    def _hear(self, visitor: Visitor) -> None:
        try:
            if not visitor.receive():
                return
        except wire.Malformed as error:
            self._leaves(visitor)
            visitor.refuse("bad_request", f"cannot read the request: {error}")
            return
        except OSError:
            self._leaves(visitor)
            visitor.close()
            return
        self._leaves(visitor)
        self._judge(visitor)

    def _leaves(self, visitor: Visitor) -> None:
        self._visitors.discard(visitor)
        self._watch.forget(visitor.connection.fileno())
        self._watch.want(self._door.fileno(), IN)

    def _judge(self, visitor: Visitor) -> None:
        request = visitor.request
        assert request is not None
        is_inside = visitor.is_below(self._root)
        visitor.is_operator = not is_inside and self._operators.has(visitor)
        try:
            granted = decide(self._spec, request, is_inside=is_inside, is_operator=visitor.is_operator)
        except Denied as denied:
            if denied.code == "forbidden":
                line = f"{shown(request)} for {visitor.who}: {denied}"
                self._news.tell("command_refused", line)
            visitor.refuse(denied.code, str(denied))
            return
        if self._stop_s is not None:
            visitor.refuse("shutdown", "the commands worker ends")
        elif self._crew.busy < self._spec.max_parallel and not self._queue:
            self._start(visitor, granted)
        elif len(self._queue) >= self._spec.queue + self._crew.ending:
            text = f"{len(self._queue)} commands wait already"
            visitor.refuse("backpressure", text, len(self._queue), self._spec.queue)
        else:
            self._queue.append((visitor, granted))
            self._watch.add(visitor.connection.fileno(), GONE, lambda _: self._drop(visitor))

    # who waits

    def _drop(self, visitor: Visitor) -> None:
        """It waits no more."""
        self._queue = deque(entry for entry in self._queue if entry[0] is not visitor)
        self._watch.forget(visitor.connection.fileno())
        visitor.answer(wire.pack(wire.ENDED, wire.Ended(0, "cancelled", text="before its turn came")))

    def _late(self) -> None:
        now_s = time.monotonic()
        if self._open_s is not None and self._open_s <= now_s and self._stop_s is None:
            self._open_s = None
            self._watch.want(self._door.fileno(), IN)
        for visitor in [visitor for visitor in self._visitors if visitor.due_s <= now_s]:
            self._leaves(visitor)
            visitor.refuse("bad_request", "the request did not arrive in time")
        late = [visitor for visitor, _ in self._queue if visitor.due_s <= now_s]
        for visitor in late:
            self._queue = deque(entry for entry in self._queue if entry[0] is not visitor)
            self._watch.forget(visitor.connection.fileno())
            visitor.refuse("timeout", "its time was over before its turn came")

    def _serve_next(self) -> None:
        while self._queue and self._crew.busy < self._spec.max_parallel:
            visitor, granted = self._queue.popleft()
            self._watch.forget(visitor.connection.fileno())
            self._start(visitor, granted)

    def _start(self, visitor: Visitor, granted: Granted) -> None:
        try:
            self._crew.start(visitor, granted)
        except OSError as error:
            words = " and ".join(granted.request.isolate)
            what = f"isolate {words}" if words else "start a process"
            visitor.refuse("unavailable", f"cannot {what}: {error.strerror or error}")

    # the end

    def _on_signals(self) -> None:
        numbers = self._signals.arrived()
        if signal.SIGCHLD in numbers:
            self._crew.sweep()
        if signal.SIGTERM in numbers and self._stop_s is None:
            self._stop_s = time.monotonic() + STOP_S
            self._open_s = None
            self._watch.forget(self._door.fileno())
            self._door.close()
            for visitor, _ in self._queue:
                self._watch.forget(visitor.connection.fileno())
                visitor.refuse("shutdown", "the commands worker ends")
            self._queue.clear()
            self._crew.stop()

    def close(self) -> None:
        """Leave nobody and nothing behind, also after a mistake of ours."""
        while left := children():
            kill_all(left)
            os.waitpid(left[0], 0)
        for visitor in self._visitors:
            visitor.close()
        self._door.close()
        self._news.close()
        self._watch.close()


def _root_pid() -> int:
    """The root of the tree that we are in: the parent of our supervisor."""
    return parent_of(os.getppid())


def _open_door(run_dir: str) -> socket.socket:
    """Everybody may connect; who may do more, is decided by who it is. Addresses are short, run_dir may not be."""
    folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{folder}/{wire.SOCKET}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        door.bind(path)
        os.chmod(path, 0o666)
        door.listen(128)
        return door
    finally:
        os.close(folder)
