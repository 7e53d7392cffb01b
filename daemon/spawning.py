"""
Making the children: workers and supervisors, with their control groups, again and again while the machine is short.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from regrow.config.spec import Limits, SupervisorSpec, WorkerSpec
from regrow.daemon import birth, nested
from regrow.daemon.core.effects import Spawn
from regrow.daemon.core.events import ChildReady, ChildUnhealthy, Exit, ExitReason, Spawned, SpawnFailed
from regrow.daemon.errors import SpawnError
from regrow.daemon.health import Health
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.shim import Shims
from regrow.daemon.linux.spawn import NO_LIMITS
from regrow.daemon.pipes import Output, Stream
from regrow.daemon.process import Process
from regrow.daemon.stacks import Stacks

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})

PASSING = NO_DESCRIPTORS | {errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.ETOOMANYREFS}
"""Shortages of the machine: tried again until they pass, and not held against the child."""

SHORTAGE_RETRY_S = 0.25


class Spawner:
    """Carries out `Spawn`; `group` is the supervisor's own control group, where it has one."""

    def __init__(self, runtime: Runtime, group: Group | None) -> None:
        self._runtime = runtime
        self._group = group
        self._shims = Shims()
        self._shortages: dict[str, Spawn] = {}
        self._outputs: dict[str, Output] = {}

    def spawn(self, effect: Spawn) -> None:
        """Have a spare be the child, or make it; tell the core of it, or of the failure."""
        spec = effect.spec
        if not (isinstance(spec, WorkerSpec) and spec.standby and self._runtime.standby.serves(effect, spec)):
            self.make(effect)

    def make(self, effect: Spawn) -> None:
        """Make the child afresh."""
        runtime = self._runtime
        try:
            process = self._make(effect)
        except SpawnError as error:
            self._not_made(effect, error)
            return
        if self._shortages.pop(effect.child, None) is not None:
            runtime.note("fault_cleared", effect.child, effect.incarnation, "a process could be made again")
        runtime.processes[effect.child] = process
        runtime.reaper.born(process)
        runtime.feed(Spawned(effect.child, effect.incarnation, process.pid))
        runtime.hearing.born(process)

    @property
    def lacking(self) -> str:
        """A child of which there is no process for want of something; empty when there is none."""
        return next(iter(self._shortages), "")

    def lacks(self, child: str) -> bool:
        """Whether there is no process of `child` for want of something that the machine is short of."""
        return child in self._shortages

    def give_up(self, child: str) -> bool:
        """Try to make `child` no more; True when that was under way."""
        output = self._outputs.pop(child, None)
        if output is not None:
            output.close()
        return self._shortages.pop(child, None) is not None

    def _make(self, effect: Spawn) -> Process:
        if isinstance(effect.spec, SupervisorSpec):
            return nested.make(self._runtime, effect.spec, effect.incarnation)
        return self._worker(effect.spec, effect.incarnation)

    def _worker(self, spec: WorkerSpec, incarnation: int) -> Process:
        runtime = self._runtime
        group = self.group_of(spec.name, spec.limits)
        output = self.output(spec, incarnation)
        try:
            born = birth.worker(
                runtime.context, spec, incarnation, shims=self._shims, group=group, output=output.open
            )
        except SpawnError as error:
            if error.errno not in PASSING or error.errno in NO_DESCRIPTORS:
                output.close()
            if error.errno in PASSING:
                self._outputs[spec.name] = output
            raise
        output.close()
        process = Process(spec.name, incarnation, spec, born.pid)
        process.env = born.env
        process.status_fd = born.status_fd
        if born.stacks_fd >= 0:
            process.stacks = Stacks(runtime.loop, born.pid, born.stacks_fd)
        process.group = group
        process.oom_kills = group.oom_kills() if group is not None and spec.limits.memory_bytes else 0
        process.health = self.health(process)
        return process

    def health(self, process: Process) -> Health:
        """The watch over a worker."""
        runtime, spec = self._runtime, process.spec
        assert isinstance(spec, WorkerSpec)
        return Health(
            runtime.loop,
            spec,
            process.pid,
            process.env,
            runtime.probes,
            lambda: runtime.feed(ChildReady(process.name, process.incarnation)),
            lambda why: runtime.feed(ChildUnhealthy(process.name, process.incarnation, why)),
            # A sum over processes counts what they share for each: where the kernel counts, nobody else does.
            looks_at_memory=process.group is None or not process.group.holds_memory(),
        )

    def keep_output(self, output: Output) -> None:
        """Have the next attempt to make that incarnation use it too."""
        self._outputs[output.stream.child] = output

    def output(self, spec: WorkerSpec, incarnation: int) -> Output:
        """That of the last attempt to make this incarnation, if there was one."""
        stream = Stream(self._runtime.spec.name, spec.name, incarnation, spec.log, birth.pattern(spec))
        last = self._outputs.pop(spec.name, None)
        if last is None or last.stream == stream:
            return last or Output(self._runtime.pipes, stream)
        last.close()
        return Output(self._runtime.pipes, stream)

    def group_of(self, child: str, limits: Limits = NO_LIMITS) -> Group | None:
        """The control group of a child, made and limited, where this daemon has any."""
        if self._group is None:
            return None
        group = self._group.child(child)
        group.remove()  # one of an earlier life of this supervisor
        if group.create():
            return None  # a shortage of the group file system: the child is found by other means
        group.set_memory_max(limits.memory_bytes)
        group.set_pids_max(limits.processes)
        return group

    @staticmethod
    def home_of(group: Group | None) -> Group | None:
        """Where the process of a child supervisor is born."""
        if group is None or group.delegate_controllers() or group.home().create():
            return None
        return group.home()

    def _not_made(self, effect: Spawn, error: SpawnError) -> None:
        runtime = self._runtime
        if error.errno in PASSING:
            if effect.child not in self._shortages:
                runtime.note("fault", effect.child, effect.incarnation, f"{error}; trying again until it passes")
            self._shortages[effect.child] = effect
            runtime.loop.call_later(SHORTAGE_RETRY_S, lambda: self._try_again(effect))
            return
        reason = ExitReason.EXEC_FAILED if error.stage == "exec" else ExitReason.START_FAILED
        runtime.feed(SpawnFailed(effect.child, effect.incarnation, Exit(reason, text=str(error))))

    def _try_again(self, effect: Spawn) -> None:
        if self._shortages.get(effect.child) is effect:
            self.make(effect)
