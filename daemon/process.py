"""
One incarnation of a child as the supervisor holds it: from fork to the moment when nothing of it is left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regrow.config.exits import SHUTDOWN
from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.channel import LastWordUp
from regrow.daemon.core.effects import Outcome
from regrow.daemon.core.events import Exit, ExitReason
from regrow.daemon.errors import SpawnError

if TYPE_CHECKING:
    from regrow.daemon.channel import Channel
    from regrow.daemon.health import Health
    from regrow.daemon.linux.cgroup import Group
    from regrow.daemon.spare import Spare
    from regrow.daemon.stacks import Stacks


class Process:
    """
    `status_fd` is -1 once the child runs its own code. `env` is a worker's complete environment. `ended` is set when
    the main process is dead and only what it left behind is waited for. `event_s` is when it last said something for
    the event stream. `spare` is set as long as it has no name of its own.
    """

    __slots__ = (
        "channel",
        "ended",
        "env",
        "event_s",
        "exception",
        "failure",
        "group",
        "health",
        "incarnation",
        "last_word",
        "name",
        "oom_kills",
        "pid",
        "running",
        "spare",
        "spec",
        "stacks",
        "status_fd",
        "told_to_stop",
    )

    def __init__(self, name: str, incarnation: int, spec: WorkerSpec | SupervisorSpec, pid: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.spec = spec
        self.pid = pid
        self.status_fd = -1
        self.spare: Spare | None = None
        self.running = False
        self.told_to_stop = False
        self.event_s = 0.0
        self.stacks: Stacks | None = None
        self.health: Health | None = None
        self.channel: Channel | None = None
        self.env: Mapping[str, str] = {}
        self.group: Group | None = None
        self.oom_kills = 0
        self.failure: SpawnError | None = None
        self.exception = ""
        self.last_word: LastWordUp | None = None
        self.ended: Exit | None = None

    @property
    def supervises(self) -> bool:
        return self.spec.kind is Kind.SUPERVISOR

    def exit(self, info: os.waitid_result) -> Exit:
        """Why the main process ended, as precisely as anybody can know (`info` as of waitid)."""
        exit = self._exit(info)
        stacks = self.stacks.text if self.stacks is not None else ""
        return replace(exit, text="\n".join(part for part in (exit.text, stacks) if part)) if stacks else exit

    def _exit(self, info: os.waitid_result) -> Exit:
        killed = info.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        code = None if killed else info.si_status
        signal = info.si_status if killed else None
        if self.failure is not None:
            return Exit(ExitReason.EXEC_FAILED, None, None, str(self.failure))
        if self.last_word is not None:
            return Exit(_REASONS[self.last_word.outcome], code, signal, self.last_word.text)
        if self.exception:
            return Exit(ExitReason.EXCEPTION, code, signal, self.exception)
        if signal is not None and self.group is not None and self.group.oom_kills() > self.oom_kills:
            return Exit(ExitReason.OOM, None, signal, "killed by the kernel: out of memory")
        if signal is not None:
            return Exit(ExitReason.SIGNAL, None, signal)
        if code == SHUTDOWN and not (isinstance(self.spec, WorkerSpec) and code in self.spec.normal_exit):
            return Exit(ExitReason.SHUTDOWN, code)
        return Exit(ExitReason.EXIT, code)


_REASONS = {
    Outcome.STOPPED: ExitReason.SHUTDOWN,
    Outcome.GAVE_UP: ExitReason.SHUTDOWN,
    Outcome.AUTO_SHUTDOWN: ExitReason.SHUTDOWN,
    Outcome.START_FAILED: ExitReason.START_FAILED,
}
