"""
What the commands worker keeps of a runner, and of the command that it has.
"""

from __future__ import annotations

import math
import os
import socket
from typing import Protocol

from regrow.ipc import commands_wire as wire
from regrow.workers.system.commands_job import Place
from regrow.workers.system.commands_visitor import Visitor

OVERDUE_S = 30.0
"""How long after the deadline of a command its runner is killed: it has been stopped, or hangs."""


class Group(Protocol):
    """A control group; each method but `open` returns what went wrong, or nothing."""

    path: str

    def child(self, name: str) -> Group: ...
    def home(self) -> Group: ...
    def create(self) -> str: ...
    def enter(self) -> str: ...
    def open(self) -> int: ...
    def delegate_controllers(self) -> str: ...
    def set_memory_max(self, limit_bytes: int | None) -> str: ...
    def set_pids_max(self, limit: int | None) -> str: ...
    def kill(self) -> str: ...
    def remove(self) -> str: ...


class Task:
    """
    A command that a runner has. `is_told` once it is known how it ended; then `is_busy` a moment longer, for its runner
    is about to be free.
    """

    def __init__(self, run: int, visitor: Visitor, work_dir: str, group: Group | None) -> None:
        self.run = run
        self.visitor = visitor
        self.work_dir = work_dir
        self.group = group
        self.is_busy = True
        self.is_told = False
        self.lingers_until_s = math.inf
        self.overdue_s = visitor.due_s + OVERDUE_S

    @property
    def request(self) -> wire.Request:
        assert self.visitor.request is not None
        return self.visitor.request


class Runner:
    """A runner as the worker sees it; one without a task waits for one, until `idle_until_s`."""

    def __init__(self, pid: int, place: Place, worker: socket.socket, task: Task) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.place = place
        self.worker = worker
        self.task: Task | None = task
        self.is_alive = True
        self.idle_until_s = 0.0
