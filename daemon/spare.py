"""
One spare: a process that has imported the module of its group, and becomes a member of it by one message.

Until then it has a session, limits, a control group and a marker of its own, `<group>.standby` with a number, by which
it and all that its import has forked are found.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from regrow.config.spec import STANDBY, OutputKind, WorkerSpec
from regrow.daemon import birth
from regrow.daemon.core.effects import Spawn
from regrow.daemon.core.events import ChildExited, Exit, ExitReason
from regrow.daemon.core.supervisor import step
from regrow.daemon.errors import SpawnError
from regrow.daemon.handover import Handover, Way
from regrow.daemon.linux.identity import Marker
from regrow.daemon.loop import Timer
from regrow.daemon.pipes import Output, Stream
from regrow.daemon.process import Process
from regrow.daemon.signalling import kill_group
from regrow.daemon.stacks import Stacks

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime


class Spare:
    """
    What there is to know of a process that has no name of its own, or not yet taken it.

    `stands`: the module is imported. `ending`: we have killed it. `effect` is what it was handed; `given_up`: and what
    is not wanted any more. `env` is its environment, `key` the name and the number that its marker shows.
    """

    __slots__ = ("effect", "ending", "env", "given_up", "key", "like", "since_s", "stands", "timer", "way")

    def __init__(self, spec: WorkerSpec, env: Mapping[str, str], way: Way, key: tuple[str, int]) -> None:
        self.like = likeness(spec)
        self.key = key
        self.env = env
        self.way = way
        self.stands = False
        self.ending = False
        self.given_up = False
        self.since_s = 0.0
        self.effect: Spawn | None = None
        self.timer: Timer | None = None

    def settle(self) -> None:
        """Nothing is under way between us and it any more."""
        self.way.close()
        if self.timer is not None:
            self.timer.cancel()


def likeness(spec: WorkerSpec) -> tuple[object, ...]:
    """What is settled before a process has a name: a spare serves only those who are alike in it."""
    place = (spec.cwd, spec.credentials, spec.umask, spec.nice, spec.limits, spec.stdout, spec.stderr)
    return (spec.kind, spec.target, spec.import_path, spec.sockets, *place)


def shared_env(specs: Sequence[WorkerSpec]) -> dict[str, str]:
    """The variables that all of a group have alike in the file."""
    first, *others = specs
    return {name: value for name, value in first.env.items() if all(spec.env.get(name) == value for spec in others)}


def make(runtime: Runtime, group: str, specs: Sequence[WorkerSpec], serial: int) -> Process:
    """
    Fork a spare for a group, whose members are `specs`. What it prints goes to the log of the first one.

    Raises:
        SpawnError: there is no process.
    """
    spec, name = specs[0], group + STANDBY
    marker = Marker(runtime.context.token, name, serial)
    env = birth.spare_environ(runtime.context, spec, shared_env(specs), str(marker))
    way = Way(len(spec.sockets))
    leaf = runtime.spawner.group_of(f"{name}.{serial}", spec.limits)
    output = Output(runtime.pipes, Stream(runtime.spec.name, name, serial, spec.log, file=spec.name))
    try:
        born = birth.spare(runtime.context, spec, env, way.theirs.fileno(), group=leaf, output=output.open)
    except SpawnError:
        way.close()
        if leaf is not None:
            leaf.remove()
        raise
    finally:
        output.close()
    process = Process(name, serial, spec, born.pid)
    process.status_fd, process.group = born.status_fd, leaf
    process.stacks = Stacks(runtime.loop, born.pid, born.stacks_fd)
    process.oom_kills = leaf.oom_kills() if leaf is not None and spec.limits.memory_bytes else 0
    process.spare = Spare(spec, env, way, (name, serial))
    return process


def end(process: Process) -> None:
    """Kill it; its end is no failure."""
    if process.spare is not None and not process.spare.ending:
        process.spare.ending = True
        if process.ended is None:
            kill_group(process.pid, signal.SIGKILL)


def message_to(spare: Spare, spec: WorkerSpec, env: Mapping[str, str]) -> Handover | None:
    """What makes it the child that has this environment; None: it has variables that the child must not have."""
    if any(env.get(name) != value for name, value in spare.env.items() if name != "REGROW_CHILD"):
        return None
    kinds = [output.kind for output in birth.streams(spec)]
    logged = tuple(fd for fd, kind in enumerate(kinds, 1) if kind is OutputKind.LOG)
    journals = tuple(fd for fd, kind in enumerate(kinds, 1) if kind is OutputKind.JOURNAL and spec.index is not None)
    added = {name: value for name, value in env.items() if spare.env.get(name) != value}
    return Handover(spec.name, spec.args_json, added, logged, journals)


def hand_over(runtime: Runtime, process: Process, effect: Spawn, spec: WorkerSpec, env: Mapping[str, str]) -> bool:
    """Give it the name, the output and the environment of the child. False: it is a spare as before."""
    spare = process.spare
    assert spare is not None
    message = message_to(spare, spec, env)
    if message is None:
        return False
    output = runtime.spawner.output(spec, effect.incarnation)
    try:
        sent = spare.way.send(message, output.open() if message.outputs else -1)
    except SpawnError:
        sent = False
    if not sent:
        runtime.spawner.keep_output(output)
        return False
    output.close()
    runtime.reaper.rename(process, effect.child, effect.incarnation)
    process.spec, spare.effect, spare.env = spec, effect, env
    return True


def rehearse(runtime: Runtime, spare: Spare, group: str) -> None:
    """
    Decide on the death of a member, and drop what was decided.

    After a fork, memory is shared with the child, and each page is copied when it is first written to, be it for
    counting references. Pages that a decision writes to are copied now, and not between a death and its successor.
    """
    for child, slot in runtime.state.slots.items():
        if isinstance(slot.spec, WorkerSpec) and slot.spec.group == group and slot.pid is not None:
            death = ChildExited(child, slot.incarnation, Exit(ExitReason.SIGNAL, signal=signal.SIGKILL))
            step(runtime.state, death, runtime.loop.now())
            message_to(spare, slot.spec, birth.environ(runtime.context, slot.spec, slot.incarnation + 1))
            return


def why(spare: Spare, exit: Exit) -> str:
    """How a spare ended that should not have."""
    how = exit.text or (f"code {exit.code}" if exit.signal is None else signal.Signals(exit.signal).name)
    if exit.reason is ExitReason.EXCEPTION or not spare.stands:
        return how
    return f"it did not take over: {how}" if spare.effect is not None else f"it ended while it stood by: {how}"
