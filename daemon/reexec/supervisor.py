"""
From a running supervisor to the value that goes through an exec, and back.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regrow.config.spec import WorkerSpec
from regrow.daemon import birth, forked, sharing
from regrow.daemon.channel import Channel
from regrow.daemon.core.state import Phase, Slot, SlotState
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.nested import channel_to
from regrow.daemon.process import Process
from regrow.daemon.reexec import execute
from regrow.daemon.reexec.carried import Child, Supervisor
from regrow.daemon.stacks import Stacks

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime


def busy(runtime: Runtime) -> str:
    """Why this supervisor cannot exec itself at this moment; empty when it can."""
    name = runtime.spec.name
    if runtime.end is not None or runtime.state.phase in (Phase.NEW, Phase.STOPPING, Phase.ENDED):
        return f"{name} is {runtime.state.phase}"
    if runtime.stepping:
        return f"{name} is deciding"
    if runtime.reaper.lingering:
        return f"what {runtime.reaper.lingering} left behind is still being ended"
    if runtime.spawner.lacking:
        return f"the machine has no process for {runtime.spawner.lacking}"
    for process in runtime.processes.values():
        if process.stacks is not None and process.stacks.awaited:
            return f"{process.name} is being asked for its stacks"
    return ""


def gather(runtime: Runtime, answers: int = 0) -> Supervisor:
    """All that `runtime` is."""
    runtime.settle()
    inherited, incarnations = runtime.relay.carried()
    return Supervisor(
        context=replace(runtime.context, environ={}),  # an exec hands on the environment itself, whatever is in it
        path=runtime.path,
        own=runtime.own,
        group=runtime.group.path if runtime.group is not None else "",
        state=runtime.state,
        children=tuple(_child(process) for process in runtime.processes.values()),
        timers=runtime.timers.armed(),
        notify_fd=runtime.hearing.fd,
        inherited=inherited,
        incarnations=incarnations,
        known=runtime.reaper.carried(),
        record=runtime.recording.carried(),
        left_s=runtime.loop.now(),
        spares=runtime.standby.serial,
        aliases=runtime.reaper.aliases(),
        up=runtime.upward.link() if isinstance(runtime.upward, Channel) else None,
        answers=answers,
    )


def _child(process: Process) -> Child:
    failure = process.failure
    return Child(
        name=process.name,
        incarnation=process.incarnation,
        spec=process.spec,
        pid=process.pid,
        status_fd=process.status_fd,
        running=process.running,
        told_to_stop=process.told_to_stop,
        exception=process.exception,
        failure=None if failure is None else (failure.stage, failure.errno, failure.subject),
        last_word=process.last_word,
        group=process.group.path if process.group is not None else "",
        oom_kills=process.oom_kills,
        stacks_fd=process.stacks.fd if process.stacks is not None else -1,
        stacks=process.stacks.text if process.stacks is not None else "",
        link=process.channel.link() if process.channel is not None else None,
    )


def take_up(runtime: Runtime, carried: Supervisor) -> None:
    """Go on with what was gathered; nothing is started, and nobody is told."""
    runtime.state = carried.state
    runtime.relay.take_up(carried.incarnations)
    runtime.recording.take_up(carried.record)
    for child in carried.children:
        _take_up(runtime, child)
    runtime.reaper.take_up_aliases(carried.aliases)
    runtime.standby.serial = carried.spares
    for armed in carried.timers:
        runtime.timers.arm(armed.effect, armed.due_s)
    watch(runtime)


def resume(runtime: Runtime, carried: Supervisor) -> None:
    """Be the supervisor that was gathered, and hear of what has happened meanwhile."""
    runtime.listen()
    take_up(runtime, carried)
    if failure := _preload(runtime):
        runtime.note("fault", "", 0, f"{failure}; each child imports it by itself")
    runtime.loop.listen_again()
    sharing.settle()  # what has been loaded since, forks are to share too
    if carried.state.phase is Phase.RUNNING:
        runtime.standby.begin()


class _Stopped(BaseException):
    """The supervisor was told to stop while it imported something."""


def _preload(runtime: Runtime) -> str:
    """
    Hear of signals from now on, and import what children share; a stop does not wait for that.

    Returns what went wrong.
    """
    importing = True

    def stopped(_number: int, _frame: object) -> None:
        nonlocal importing
        if importing:
            importing = False
            raise _Stopped  # the loop has it too, by its wakeup descriptor

    if runtime.spec.preload:
        signal.signal(signal.SIGTERM, stopped)
    try:
        execute.listen()
        failure = forked.preload(runtime.spec)
        importing = False
    except _Stopped:
        failure = ""
    return failure


def _take_up(runtime: Runtime, child: Child) -> None:
    process = Process(child.name, child.incarnation, child.spec, child.pid)
    process.status_fd = child.status_fd
    process.running = child.running
    process.told_to_stop = child.told_to_stop
    process.exception = child.exception
    process.failure = SpawnError(*child.failure) if child.failure is not None else None
    process.last_word = child.last_word
    process.group = Group(child.group) if child.group else None
    process.oom_kills = child.oom_kills
    if isinstance(child.spec, WorkerSpec):
        process.env = birth.environ(runtime.context, child.spec, child.incarnation)
    if child.stacks_fd >= 0:
        process.stacks = Stacks(runtime.loop, child.pid, child.stacks_fd, child.stacks)
    if child.link is not None:
        process.channel = channel_to(runtime, process, child.link)
    runtime.processes[child.name] = process
    runtime.reaper.born(process)
    if child.status_fd >= 0:
        runtime.hearing.born(process)
    if child.told_to_stop:
        runtime.signaller.wake_soon(process)


def watch(runtime: Runtime) -> None:
    """Begin to look after the health of all children; what was under way begins anew."""
    for process in list(runtime.processes.values()):
        slot = runtime.state.slots.get(process.name)
        if slot is not None and isinstance(process.spec, WorkerSpec) and process.ended is None:
            process.health = runtime.spawner.health(process)
            _begin_watch(process, slot)


def _begin_watch(process: Process, slot: Slot) -> None:
    assert process.health is not None
    if slot.state is SlotState.RUNNING and slot.forced is None:
        process.health.became_ready()
    elif slot.state is SlotState.STARTING and process.running and slot.forced is None:
        process.health.running()
    elif slot.state is not SlotState.STARTING or slot.forced is not None:
        process.health.killed()


def unwatch(runtime: Runtime) -> None:
    """Look after nobody's health any more, and leave no check under way."""
    for process in runtime.processes.values():
        if process.health is not None:
            process.health.cancel()
    runtime.probes.kill_all()
