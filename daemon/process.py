"""
One incarnation of a child as the supervisor holds it: from fork to the moment when nothing of it is left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from signal import SIGKILL
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regrow.config.exits import SHUTDOWN
from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.config.units import size_text
from regrow.daemon.channel_messages import LastWordUp
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
        if signal == SIGKILL and (shortage := self._out_of_memory()):
            return Exit(ExitReason.OOM, None, signal, shortage)
        if signal is not None:
            return Exit(ExitReason.SIGNAL, None, signal, self._scarcity())
        if code == SHUTDOWN and not (isinstance(self.spec, WorkerSpec) and code in self.spec.normal_exit):
            return Exit(ExitReason.SHUTDOWN, code)
        return Exit(ExitReason.EXIT, code, None, self._scarcity() if code else "")

    def _out_of_memory(self) -> str:
        """
        What the kernel killed it for, if that was want of memory; empty otherwise.

        What it has killed in the groups of a supervisor's children is no death of the supervisor's.
        """
        if self.group is None or self.group.main().oom_kills() <= self.oom_kills:
            return ""
        limit = self.spec.limits.memory_bytes if isinstance(self.spec, WorkerSpec) else None
        if limit is not None and self.group.overran():  # the limit is of the whole group, wherever the process is
            return f"killed by the kernel: all its processes needed more memory than {size_text(limit)}, its limit"
        return "killed by the kernel: a group above its own, or the machine, was out of memory"

    def _scarcity(self) -> str:
        """What its processes lacked before it ended by itself, which may be why; empty when that is nothing."""
        if self.group is None or self.told_to_stop:
            return ""
        main = self.group.main()
        killed, refused = main.oom_kills() - self.oom_kills, main.refused_forks()
        lacked = [f"the kernel has killed {killed} of its processes, out of memory"] if killed > 0 else []
        if refused:
            lacked.append(f"{refused} processes or threads could not be made: there were as many as may be")
        return "; ".join(lacked)


_REASONS = {
    Outcome.STOPPED: ExitReason.SHUTDOWN,
    Outcome.GAVE_UP: ExitReason.SHUTDOWN,
    Outcome.AUTO_SHUTDOWN: ExitReason.SHUTDOWN,
    Outcome.START_FAILED: ExitReason.START_FAILED,
}
