"""
A supervisor process: carries out what the core decides, and tells the core what came of it.

The same runtime is the root and every nested supervisor; they differ in where their messages go (`Upward`).
It touches nothing but the kernel (architecture, principle 2).
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec.structs import replace

from regrow.config import exits
from regrow.config.spec import SupervisorSpec, WorkerSpec
from regrow.daemon import forked
from regrow.daemon.channel_messages import (
    ChildNow,
    ForgottenUp,
    LastWordUp,
    NoteUp,
    ReadyUp,
    ReplyUp,
    ReportUp,
    SnapshotUp,
    TellDown,
    Up,
)
from regrow.daemon.context import Context
from regrow.daemon.core.effects import (
    ArmTimer,
    CancelTimer,
    End,
    Forget,
    Ready,
    Refuse,
    Reply,
    Report,
    Signal,
    SignalKind,
    Spawn,
)
from regrow.daemon.core.events import ChildExited, Event, Exit, ExitReason, PlanChanged, Started, StopRequested
from regrow.daemon.core.state import StopAll, SupervisorState, initial
from regrow.daemon.core.supervisor import step
from regrow.daemon.hearing import Hearing
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.leftovers import Known
from regrow.daemon.linux.probes import ProbeProcesses
from regrow.daemon.loop import Loop, Timer
from regrow.daemon.pipes import Pipes
from regrow.daemon.process import Process
from regrow.daemon.reaping import Reaper
from regrow.daemon.recording import Recording
from regrow.daemon.reexec.renewal import Renewal
from regrow.daemon.relay import Relay
from regrow.daemon.signalling import Signaller
from regrow.daemon.spawning import Spawner
from regrow.daemon.standby import Standby
from regrow.daemon.timers import Timers

TELL_S = 0.002
"""Reports of what has just been done go up together, after a moment: children come before the telling of them."""

HANGING = frozenset({ExitReason.WATCHDOG, ExitReason.LIVENESS, ExitReason.START_TIMEOUT})
"""Why a worker is killed that does not do what it should: what it does instead is worth knowing."""


class Upward(Protocol):
    """Where a supervisor's messages go: the channel to its parent, or the root's own books."""

    def send(self, message: Up) -> None:
        """Deliver one message without waiting."""

    def put(self, message: ReportUp) -> None:
        """Deliver one message at the next `flush`, or before the next `send`; in order."""

    def flush(self) -> None:
        """Deliver what was put."""


class Runtime:
    """
    One supervisor's processes, timers and messages around the pure core.

    `notify_fd` and `known` are those from before an exec (`regrow.daemon.reexec`).
    """

    def __init__(
        self,
        context: Context,
        loop: Loop,
        spec: SupervisorSpec,
        path: str,
        upward: Upward,
        incarnations: Mapping[str, int],
        own: Marker,
        group: Group | None,
        *,
        notify_fd: int = -1,
        known: Known | None = None,
    ) -> None:
        self.context = context
        self.loop = loop
        self.spec = spec
        self.path = path
        self.upward = upward
        self.state: SupervisorState = initial(spec, incarnations)
        self.processes: dict[str, Process] = {}
        self.end: End | None = None
        self.probes = ProbeProcesses(loop)
        self.pipes = Pipes(socket.socket(fileno=context.outputs_fd), upward.send)
        self.own = own
        self.group = group
        self.hearing = Hearing(self, notify_fd)
        self.spawner = Spawner(self, group)
        self.standby = Standby(self)
        self.reaper = Reaper(self, own, known)
        self.relay = Relay(self, incarnations)
        self.signaller = Signaller(loop, self.processes)
        self.timers = Timers(loop, self.feed, self._excused)
        self.renewal = Renewal(self)
        self.recording = Recording(loop, spec.name)
        self._pid = os.getpid()
        self._inbox: deque[Event] = deque()
        self._stepping = False
        self._applied: set[int] = set()
        self._telling: Timer | None = None
        self._do: dict[type[Any], Callable[[Any], None]] = {
            Spawn: self.spawner.spawn,
            Signal: self._signal,
            ArmTimer: self.timers.arm,
            CancelTimer: self.timers.cancel,
            Reply: self._reply,
            Refuse: self._refuse,
            Report: self._report,
            Forget: self._forget,
            Ready: self._ready,
            End: self._end,
        }

    def begin(self) -> None:
        """Take up the supervisor's duties: listen, then start the children."""
        self.listen()
        if self.context.record:
            self.recording.open(self.pipes.hand_over)
        self.feed(Started())

    def listen(self) -> None:
        """Make ready for children."""
        self.context = forked.prepare(self.context, self.spec, self.hearing.address)
        self.hearing.begin()

    def settle(self) -> None:
        """Give away what was kept back for a moment: reports, and the record."""
        self.upward.flush()
        self.recording.flush()

    @property
    def stepping(self) -> bool:
        """Whether an event is being decided on, or waits for that."""
        return self._stepping or bool(self._inbox)

    def feed(self, event: Event) -> None:
        """Let the core decide on `event`, and do what it says; outcomes are fed in turn."""
        self._inbox.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inbox:
                self._step(self._inbox.popleft())
        finally:
            self._stepping = False
            if self._telling is None:
                self._telling = self.loop.call_later(TELL_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self.upward.flush()

    def _step(self, event: Event) -> None:
        now_s = self.loop.now()
        before = self.state
        self.state, effects = step(before, event, now_s)
        with self.pipes.several(sum(type(effect) is Spawn for effect in effects)):
            for effect in effects:
                self._do[type(effect)](effect)
        self.recording.step(before, event, now_s, self.state, effects)

    # effects

    def _signal(self, effect: Signal) -> None:
        process = self.processes.get(effect.child)
        if process is not None and process.incarnation == effect.incarnation:
            if effect.kind is not SignalKind.KILL or not self._asks_first(process):
                self.signaller.signal(process, effect.kind)
        elif self.standby.give_up(effect.child):
            pass  # its end comes when the spare is dead, which may have taken its name just now
        elif self.spawner.give_up(effect.child):  # nothing was made yet, so nothing has to end
            self.not_made(effect.child, effect.incarnation)

    def not_made(self, child: str, incarnation: int) -> None:
        """Tell the core that there is no process and will be none: it was not to be made any more."""
        self.feed(ChildExited(child, incarnation, Exit(ExitReason.START_FAILED, text="no process could be made")))

    def _asks_first(self, process: Process) -> bool:
        """Whether a worker that hangs is asked for its stacks now, and killed when they are there."""
        slot = self.state.slots.get(process.name)
        if process.stacks is None or process.ended is not None or slot is None:
            return False
        hangs = slot.forced.reason in HANGING if slot.forced is not None else process.told_to_stop
        if not hangs or (isinstance(self.state.operation, StopAll) and self.state.operation.now):
            return False
        if process.health is not None:
            process.health.killed()
        return process.stacks.ask(lambda: self.signaller.signal(process, SignalKind.KILL))

    def _excused(self, child: str) -> bool:
        """Whether a start takes long for no fault of the child: there is no process yet, or it has ended already."""
        process = self.processes.get(child)
        if self.spawner.lacks(child) or self.standby.lacks(child):
            return True
        return process is not None and process.ended is not None

    def requested(self, event: Event) -> None:
        """A request has come from above."""
        if isinstance(event, PlanChanged) and event.applied:
            self._applied.add(event.request)
        self.feed(event)

    def _change_in_place(self) -> None:
        """What the supervisor alone decides by holds at once, also for the processes that there are."""
        for name, process in self.processes.items():
            slot = self.state.slots.get(name)
            if slot is None or slot.incarnation != process.incarnation or slot.spec == process.spec:
                continue
            if isinstance(slot.spec, WorkerSpec) and isinstance(process.spec, WorkerSpec):
                process.spec = slot.spec
                if process.health is not None:
                    process.health.change(slot.spec)
        self.standby.renew()

    def _reply(self, effect: Reply) -> None:
        if effect.request in self._applied:
            self._applied.discard(effect.request)
            self._change_in_place()
        self.upward.send(ReplyUp(effect.request, ok=effect.ok))

    def _refuse(self, effect: Refuse) -> None:
        self._applied.discard(effect.request)
        self.upward.send(ReplyUp(effect.request, code=effect.code, message=effect.message, pid=effect.pid))

    def _report(self, effect: Report) -> None:
        self.upward.put(ReportUp(self.spec.name, self._pid, self.loop.now(), effect))
        self.standby.noticed(effect)
        if effect.event == "ready":
            process = self.processes.get(effect.child)
            if process is not None and process.health is not None:
                process.health.became_ready()

    def _forget(self, effect: Forget) -> None:
        self.spawner.give_up(effect.child)
        self.relay.forget(effect.child)
        self.upward.send(ForgottenUp(self.spec.name, effect.child))

    def _ready(self, _effect: Ready) -> None:
        self.upward.send(ReadyUp())
        self.standby.begin()

    def _end(self, effect: End) -> None:
        self.end = effect
        self.reaper.finish(self._ended)

    def _ended(self) -> None:
        """Nothing is left, strays included."""
        end = self.end
        assert end is not None
        self.recording.flush()
        self.upward.send(LastWordUp(end.outcome, end.text))
        self.loop.stop()

    # what happens to the supervisor and its children

    def exited(self, process: Process, exit: Exit) -> None:
        """The process is dead and nothing that it left behind lives any more."""
        if process.spare is not None:
            self.standby.ended(process, exit)
            return
        if process.channel is not None:
            process.channel.close()
        if process.health is not None:
            missing = process.health.missing
            process.health.cancel()
            slot = self.state.slots.get(process.name)
            if slot is not None and slot.forced is not None and slot.forced.reason is ExitReason.START_TIMEOUT:
                exit = replace(exit, text="; ".join(part for part in (missing, exit.text) if part))
        if self.processes.get(process.name) is process:
            del self.processes[process.name]
        if process.group is not None:
            # Never used twice: once a group was killed, Linux kills what is born into it from outside (seen on 6.18:
            # clone3 compares the kill count of the group with that of the parent's).
            process.group.remove()
        jitter = int.from_bytes(os.urandom(4), "little") / 2**31 - 1.0
        self.feed(ChildExited(process.name, process.incarnation, exit, jitter))

    def abandon(self) -> None:
        """The parent is gone, and with it the right to go on: end everything at once."""
        if self.end is None:
            self.reaper.kill_everything()
            os._exit(exits.REFUSED)

    def stop(self, *, now: bool = False, text: str = "") -> None:
        """End in order; `now`: without asking anybody."""
        self.feed(StopRequested(now, text))

    def recovered(self, dropped: int) -> None:
        """The parent reads again, but some of what it and the root should know was lost."""
        text = f"{dropped} messages were lost, for nobody read them; how things stand is told anew"
        self.note("fault", "", 0, text)
        self.tell_all()

    def tell_all(self) -> None:
        """Tell how every child stands, and have the supervisors below do the same: they told it through us."""
        children = tuple(
            ChildNow(name, slot.spec.kind, slot.state, slot.incarnation, slot.pid, slot.restarts)
            for name in self.state.order
            for slot in (self.state.slots[name],)
        )
        self.upward.send(SnapshotUp(self.spec.name, children))
        self.standby.tell_all()
        self.relay.to_all(TellDown())

    def note(self, event: str, child: str, incarnation: int, text: str) -> None:
        """Tell what is not a decision of the core: faults of the machine, strays."""
        self.upward.send(NoteUp(self.spec.name, event, child, incarnation, text))
