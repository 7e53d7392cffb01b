"""
What children say of themselves: on the status pipe until their own code runs, and by sd_notify.

Source: sd_notify(3).
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from regrow.config import internal
from regrow.config.spec import Kind, ReadyKind, WorkerSpec
from regrow.daemon.channel_messages import DetailUp
from regrow.daemon.core.events import ChildIgnored, ChildReady
from regrow.daemon.errors import SpawnError
from regrow.daemon.events import ASIDE, COMMANDS
from regrow.daemon.handover import STANDING, TAKEN
from regrow.daemon.linux import shim, spawn
from regrow.daemon.linux.notify import Notice, NotifySocket
from regrow.daemon.process import Process

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime

MAX_DRAINS = 16

EVENT_EVERY_S = 0.1
"""One child's events come no faster: nobody can wash away what the others have to tell."""

MAX_EVENT_TEXT = 1_000

OF_SPARES = (STANDING, TAKEN)


class Hearing:
    """
    The listener to all children of one supervisor, on a notify socket at `address`.

    `fd` is that socket, where it is open already.
    """

    def __init__(self, runtime: Runtime, fd: int = -1) -> None:
        self._runtime = runtime
        self._notify = NotifySocket(f"regrow/{runtime.context.token}/{runtime.spec.name}", fd)
        self.address = self._notify.address

    @property
    def fd(self) -> int:
        """The notify socket."""
        return self._notify.fd

    def begin(self) -> None:
        self._runtime.loop.watch(self._notify.fd, select.EPOLLIN, lambda _events: self.drain())

    def born(self, process: Process) -> None:
        """Listen to a new child."""
        self._runtime.loop.watch(process.status_fd, select.EPOLLIN, lambda _events: self.status(process))

    def status(self, process: Process) -> None:
        """
        Read the status pipe: the child runs its own code, or says at which stage it failed.

        A spare says on it that it stands by, and that it has its name.
        """
        if process.status_fd < 0:
            return
        try:
            message = os.read(process.status_fd, 4096)
            while process.spare is not None and message.startswith(OF_SPARES):
                message = self._runtime.standby.heard(process, message) or os.read(process.status_fd, 4096)
        except BlockingIOError:
            return
        self._runtime.loop.unwatch(process.status_fd)
        os.close(process.status_fd)
        process.status_fd = -1
        process.failure = self._failure(message, process)
        executed = isinstance(process.spec, WorkerSpec) and process.spec.kind is Kind.COMMAND
        if process.failure is None and (message or executed):
            self._runs(process)

    @staticmethod
    def _failure(message: bytes, process: Process) -> SpawnError | None:
        spec = process.spec
        told = shim.read_failure(message, spec) if message and isinstance(spec, WorkerSpec) else None
        return told or spawn.read_failure(message)

    @staticmethod
    def _runs(process: Process) -> None:
        process.running = True
        if process.health is not None:
            process.health.running()

    def drain(self) -> None:
        """What a dead child said last counts; called before its death is handled."""
        for _ in range(MAX_DRAINS):
            if not self._take():
                return

    def _take(self) -> bool:
        """Take the notices that have arrived, a bounded number; True when there was any."""
        any_came = False
        for notice in self._notify.receive():
            any_came = True
            process = self._runtime.reaper.owner(notice.pid)
            if process is not None and process.ended is None:
                self._notice(process, notice)
        return any_came

    def _notice(self, process: Process, notice: Notice) -> None:
        runtime, fields = self._runtime, notice.fields
        if process.spare is not None:
            self.status(process)  # by now it may have a name
        if "X_REGROW_EXCEPTION" in fields:
            process.exception = fields["X_REGROW_EXCEPTION"].replace("\x1f", "\n")
        if process.spare is not None:
            return  # there is nobody yet of whom it could speak
        if fields.get("X_REGROW_IGNORE") == "1":
            runtime.feed(ChildIgnored(process.name, process.incarnation))
        if "STATUS" in fields:
            runtime.upward.send(DetailUp(process.name, process.incarnation, fields["STATUS"]))
        if fields.get("X_REGROW_EVENT") in ASIDE:  # what regrow's own code in it has to tell
            self._event(process, fields["X_REGROW_EVENT"], fields.get("X_REGROW_TEXT", ""))
        if process.health is not None and fields.get("WATCHDOG") == "1":
            process.health.progress()
        spec = process.spec
        if fields.get("READY") == "1" and isinstance(spec, WorkerSpec) and spec.ready.probe.kind is ReadyKind.NOTIFY:
            runtime.feed(ChildReady(process.name, process.incarnation))

    def _event(self, process: Process, event: str, text: str) -> None:
        now_s = self._runtime.loop.now()
        if now_s - process.event_s >= EVENT_EVERY_S or (event in COMMANDS and process.name == internal.COMMANDS):
            process.event_s = now_s
            self._runtime.note(event, process.name, process.incarnation, text[:MAX_EVENT_TEXT])
