"""
A supervisor process: carries out what the core decides, and tells the core what came of it.

The same runtime is the root and every nested supervisor; they differ in where their messages go (`Upward`).
It touches nothing but the kernel (architecture, principle 2).
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from regrow.config import exits
from regrow.config.spec import Kind, Limits, ReadyKind, Start, SupervisorSpec, WorkerSpec
from regrow.daemon import birth, nested
from regrow.daemon.channel import (
    MAX_FDS,
    BatchUp,
    DetailUp,
    ForgottenUp,
    LastWordUp,
    MatchedDown,
    NoteUp,
    ReadyUp,
    ReplyUp,
    ReportUp,
    RequestDown,
    Stream,
    StreamsUp,
    Up,
)
from regrow.daemon.context import Context
from regrow.daemon.core.effects import (
    ArmTimer,
    CancelTimer,
    Code,
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
from regrow.daemon.core.events import (
    ChildExited,
    ChildIgnored,
    ChildReady,
    ChildUnhealthy,
    Event,
    Exit,
    ExitReason,
    Request,
    Spawned,
    SpawnFailed,
    Started,
    StopRequested,
    TimerElapsed,
    TimerKind,
)
from regrow.daemon.core.state import SupervisorState, initial
from regrow.daemon.core.supervisor import step
from regrow.daemon.errors import SpawnError
from regrow.daemon.health import Health
from regrow.daemon.linux import spawn
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.notify import Notice, NotifySocket
from regrow.daemon.linux.probes import ProbeProcesses
from regrow.daemon.loop import Loop, Timer
from regrow.daemon.process import Process
from regrow.daemon.reaping import Reaper
from regrow.daemon.recording import Recording
from regrow.daemon.signalling import kill_group, send

PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})
"""Shortages of the machine: tried again until they pass, and not held against the child."""

SHORTAGE_RETRY_S = 0.25

MAX_DRAINS = 16

WAKE_S = 0.1
"""Most programs are gone this soon after their stop signal; the others are sent SIGCONT too."""

TELL_S = 0.002
"""Reports of what has just been done go up together, after a moment: children come before the telling of them."""

NO_LIMITS = Limits()


class Upward(Protocol):
    """Where a supervisor's messages go: the channel to its parent, or the root's own books."""

    def send(self, message: Up, fds: tuple[int, ...] = ()) -> None:
        """Deliver one message without waiting; duplicates of `fds` go with it."""

    def put(self, message: ReportUp) -> None:
        """Deliver one message at the next `flush`, or before the next `send`; in order."""

    def flush(self) -> None:
        """Deliver what was put."""


class Runtime:
    """One supervisor's processes, timers and messages around the pure core."""

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
    ) -> None:
        self.context = context
        self.loop = loop
        self.spec = spec
        self.path = path
        self.upward = upward
        self.group = group
        self.state: SupervisorState = initial(spec, incarnations)
        self.processes: dict[str, Process] = {}
        self.end: End | None = None
        self._inherited = incarnations
        self._incarnations: dict[str, dict[str, int]] = {}
        self._pid = os.getpid()
        self.probes = ProbeProcesses(loop)
        self.notify = NotifySocket(f"regrow/{context.token}/{spec.name}")
        self.reaper = Reaper(self, own)
        self.light = spec.start is Start.PARALLEL
        self._recording = Recording(loop, spec.name)
        self._inbox: deque[Event] = deque()
        self._stepping = False
        self._telling: Timer | None = None
        self._streams: list[tuple[Stream, int]] = []
        self._holding = 0
        self._asked: list[Process] = []
        self._timers: dict[tuple[str, str, int], Timer] = {}
        self._shortages: dict[str, Spawn] = {}
        self._do: dict[type[Any], Callable[[Any], None]] = {
            Spawn: self._spawn,
            Signal: self._signal,
            ArmTimer: self._arm,
            CancelTimer: self._cancel,
            Reply: self._reply,
            Refuse: self._refuse,
            Report: self._report,
            Forget: self._forget,
            Ready: self._ready,
            End: self._end,
        }

    def begin(self) -> None:
        """Take up the supervisor's duties: watch, then start the children."""
        self.context = birth.prepare(self.context, self.spec, self.notify.address)
        self.loop.watch(self.notify.fd, select.EPOLLIN, lambda _events: self.drain_notices())
        if self.context.record and (recording := self._recording.open()) is not None:
            self._announce(*recording)
        self.feed(Started())

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
        with self.several(sum(type(effect) is Spawn for effect in effects)):
            for effect in effects:
                self._do[type(effect)](effect)
        self._recording.step(before, event, now_s, self.state, effects)

    @contextmanager
    def several(self, births: int) -> Iterator[None]:
        """While many children are made, the pipes of what they print are handed on many at a time."""
        self._holding += births > 1
        try:
            yield
        finally:
            self._holding -= births > 1
            if not self._holding:
                self._hand_on()

    def _announce(self, stream: Stream, fd: int) -> None:
        """Give the read end of an output, which is the channel's from now on, to the root."""
        self._streams.append((stream, fd))
        if not self._holding or len(self._streams) >= MAX_FDS:
            self._hand_on()

    def _hand_on(self) -> None:
        if self._streams:
            streams, fds = zip(*self._streams, strict=True)
            self._streams.clear()
            self.upward.send(StreamsUp(streams), fds)
            for fd in fds:
                os.close(fd)

    # effects

    def _spawn(self, effect: Spawn) -> None:
        try:
            process = self._make(effect)
        except SpawnError as error:
            self._not_made(effect, error)
            return
        if self._shortages.pop(effect.child, None) is not None:
            self.note("fault_cleared", effect.child, effect.incarnation, "a process could be made again")
        self.processes[effect.child] = process
        self.reaper.born(process)
        self.feed(Spawned(effect.child, effect.incarnation, process.pid))
        if process.status_fd >= 0:
            self.loop.watch(process.status_fd, select.EPOLLIN, lambda _events: self.status(process))
        elif not process.supervises:
            self._runs(process)

    def _make(self, effect: Spawn) -> Process:
        if isinstance(effect.spec, SupervisorSpec):
            return nested.make(self, effect.spec, effect.incarnation)
        spec = effect.spec
        group = self.group_of(spec.name, spec.limits)
        born = birth.worker(
            self.context,
            spec,
            effect.incarnation,
            light=self.light,
            group=group,
            announce=lambda fd: self._announce(
                Stream(spec.name, effect.incarnation, spec.log, birth.pattern(spec)), fd
            ),
        )
        process = Process(spec.name, effect.incarnation, spec, born.pid)
        process.status_fd = born.status_fd
        process.group = group
        process.oom_kills = group.oom_kills() if group is not None and spec.limits.memory_bytes else 0
        process.health = Health(
            self.loop,
            spec,
            born.pid,
            born.env,
            self.probes,
            lambda: self.feed(ChildReady(process.name, process.incarnation)),
            lambda why: self.feed(ChildUnhealthy(process.name, process.incarnation, why)),
        )
        return process

    def group_of(self, child: str, limits: Limits = NO_LIMITS) -> Group | None:
        """The control group of a child, made and limited, where this daemon has any."""
        if self.group is None:
            return None
        group = self.group.child(child)
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
        if error.errno in PASSING:
            if effect.child not in self._shortages:
                self.note("fault", effect.child, effect.incarnation, f"{error}; trying again until it passes")
            self._shortages[effect.child] = effect
            self.loop.call_later(SHORTAGE_RETRY_S, lambda: self._try_again(effect))
            return
        reason = ExitReason.EXEC_FAILED if error.stage == "exec" else ExitReason.START_FAILED
        self.feed(SpawnFailed(effect.child, effect.incarnation, Exit(reason, text=str(error))))

    def _try_again(self, effect: Spawn) -> None:
        if self._shortages.get(effect.child) is effect:
            self._spawn(effect)

    def _signal(self, effect: Signal) -> None:
        process = self.processes.get(effect.child)
        if process is None or process.incarnation != effect.incarnation:
            waiting = self._shortages.pop(effect.child, None)
            if waiting is not None:  # nothing was made yet, so nothing has to end
                exit = Exit(ExitReason.START_FAILED, text="no process could be made")
                self.feed(ChildExited(effect.child, effect.incarnation, exit))
            return
        if process.ended is not None:
            return  # its number is free for others; what it left behind is being killed already
        if effect.kind is SignalKind.KILL:
            if process.health is not None:
                process.health.killed()
            kill_group(process.pid, signal.SIGKILL)
        elif process.supervises:
            send(process.pid, signal.SIGTERM)
        else:
            assert isinstance(process.spec, WorkerSpec)
            kill_group(process.pid, process.spec.stop_signal)
            self._asked.append(process)
            if len(self._asked) == 1:
                self.loop.call_later(WAKE_S, self._wake)

    def _wake(self) -> None:
        """Who has been asked to stop and is still there may have been stopped by a signal, and not have seen it."""
        asked, self._asked = self._asked, []
        for process in asked:
            if self.processes.get(process.name) is process and process.ended is None:
                kill_group(process.pid, signal.SIGCONT)

    def _arm(self, effect: ArmTimer) -> None:
        key = (effect.kind, effect.child, effect.incarnation)
        event = TimerElapsed(effect.kind, effect.child, effect.incarnation)

        def elapsed() -> None:
            if effect.kind is TimerKind.START and self._excused(effect.child):
                self._timers[key] = self.loop.call_later(effect.after_s, elapsed)
                return
            self._timers.pop(key, None)
            self.feed(event)

        self._timers[key] = self.loop.call_later(effect.after_s, elapsed)

    def _excused(self, child: str) -> bool:
        """Whether a start takes long for no fault of the child: there is no process yet, or it has ended already."""
        process = self.processes.get(child)
        return child in self._shortages or (process is not None and process.ended is not None)

    def _cancel(self, effect: CancelTimer) -> None:
        timer = self._timers.pop((effect.kind, effect.child, effect.incarnation), None)
        if timer is not None:
            timer.cancel()

    def _reply(self, effect: Reply) -> None:
        self.upward.send(ReplyUp(effect.request, ok=effect.ok))

    def _refuse(self, effect: Refuse) -> None:
        self.upward.send(ReplyUp(effect.request, code=effect.code, message=effect.message, pid=effect.pid))

    def _report(self, effect: Report) -> None:
        self.upward.put(ReportUp(self.spec.name, self._pid, self.loop.now(), effect))
        if effect.event == "ready":
            process = self.processes.get(effect.child)
            if process is not None and process.health is not None:
                process.health.became_ready()

    def _forget(self, effect: Forget) -> None:
        self._shortages.pop(effect.child, None)
        self.upward.send(ForgottenUp(self.spec.name, effect.child))

    def _ready(self, _effect: Ready) -> None:
        self.upward.send(ReadyUp())

    def _end(self, effect: End) -> None:
        self.end = effect
        self.reaper.finish(self._ended)

    def _ended(self) -> None:
        """Nothing is left, strays included."""
        end = self.end
        assert end is not None
        self._recording.flush()
        self.upward.send(LastWordUp(end.outcome, end.text))
        self.loop.stop()

    # what happens to processes

    def status(self, process: Process) -> None:
        """Read the status pipe: the child runs its own code, or says at which stage it failed."""
        if process.status_fd < 0:
            return
        try:
            message = os.read(process.status_fd, 4096)
        except BlockingIOError:
            return
        self.loop.unwatch(process.status_fd)
        os.close(process.status_fd)
        process.status_fd = -1
        process.failure = spawn.read_failure(message)
        executed = isinstance(process.spec, WorkerSpec) and process.spec.kind is Kind.COMMAND
        if process.failure is None and (message or executed):
            self._runs(process)

    def _runs(self, process: Process) -> None:
        process.running = True
        if process.health is not None:
            process.health.running()

    def exited(self, process: Process, exit: Exit) -> None:
        """The process is dead and nothing that it left behind lives any more."""
        if process.channel is not None:
            process.channel.close()
        if process.health is not None:
            missing = process.health.missing
            process.health.cancel()
            slot = self.state.slots.get(process.name)
            if slot is not None and slot.forced is not None and slot.forced.reason is ExitReason.START_TIMEOUT:
                exit = Exit(exit.reason, exit.code, exit.signal, missing)
        if self.processes.get(process.name) is process:
            del self.processes[process.name]
        if process.group is not None:
            # Never used twice: once a group was killed, Linux kills what is born into it from outside (seen on 6.18:
            # clone3 compares the kill count of the group with that of the parent's).
            process.group.remove()
        jitter = int.from_bytes(os.urandom(4), "little") / 2**31 - 1.0
        self.feed(ChildExited(process.name, process.incarnation, exit, jitter))

    def _notices(self, _events: int = 0) -> bool:
        """Take what has arrived, a bounded number; True when there was anything."""
        any_came = False
        for notice in self.notify.receive():
            any_came = True
            process = self.reaper.owner(notice.pid)
            if process is not None and process.ended is None:
                self._notice(process, notice)
        return any_came

    def drain_notices(self) -> None:
        """What a dead child said last counts; called before its death is handled."""
        for _ in range(MAX_DRAINS):
            if not self._notices():
                return

    def _notice(self, process: Process, notice: Notice) -> None:
        fields = notice.fields
        if "X_REGROW_EXCEPTION" in fields:
            process.exception = fields["X_REGROW_EXCEPTION"].replace("\x1f", "\n")
        if fields.get("X_REGROW_IGNORE") == "1":
            self.feed(ChildIgnored(process.name, process.incarnation))
        if "STATUS" in fields:
            self.upward.send(DetailUp(process.name, process.incarnation, fields["STATUS"]))
        if process.health is not None and fields.get("WATCHDOG") == "1":
            process.health.progress()
        spec = process.spec
        if fields.get("READY") == "1" and isinstance(spec, WorkerSpec) and spec.ready.probe.kind is ReadyKind.NOTIFY:
            self.feed(ChildReady(process.name, process.incarnation))

    # messages

    def from_child(self, process: Process, message: Up, fds: tuple[int, ...]) -> None:
        """A message of a nested supervisor: its own readiness and last word end here, the rest goes up."""
        try:
            if isinstance(message, ReadyUp):
                self.feed(ChildReady(process.name, process.incarnation))
            elif isinstance(message, LastWordUp):
                process.last_word = message
            elif isinstance(message, BatchUp):
                for report in message.reports:
                    self._passes(process, report)
                self.upward.send(message)
            else:
                self.upward.send(message, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _passes(self, process: Process, message: ReportUp) -> None:
        """Remember the numbers of incarnations below a supervisor, for when it must be made anew."""
        report = message.report
        if report.pid is not None and report.event in ("starting", "exited", "stopped", "start_failed"):
            self.reaper.below(report.pid, gone=report.event != "starting")
        if message.report.event == "starting":
            self._incarnations.setdefault(process.name, {})[message.report.child] = message.report.incarnation

    def from_parent(self, message: RequestDown | MatchedDown, _fds: tuple[int, ...] = ()) -> None:
        """A request for this supervisor or for one below it."""
        if message.route:
            self._pass_on(message)
        elif isinstance(message, MatchedDown):
            self.feed(ChildReady(message.child, message.incarnation))
        else:
            self.feed(message.event)

    def _pass_on(self, message: RequestDown | MatchedDown) -> None:
        process = self.processes.get(message.route[0])
        if process is not None and process.channel is not None and process.ended is None:
            process.channel.send(type(message)(message.route[1:], *_rest(message)))
        elif isinstance(message, RequestDown) and isinstance(message.event, Request):
            text = f"{message.route[0]} is not running"
            self.upward.send(ReplyUp(message.event.request, code=Code.NOPROC, message=text))

    def incarnations_below(self, supervisor: str) -> Mapping[str, int]:
        """The newest incarnation of each name below a child supervisor, over all its own incarnations."""
        return {**self._inherited, **self._incarnations.get(supervisor, {})}

    def abandon(self) -> None:
        """The parent is gone, and with it the right to go on: end everything at once."""
        if self.end is None:
            self.reaper.kill_everything()
            os._exit(exits.REFUSED)

    def stop(self, *, now: bool = False, text: str = "") -> None:
        """End in order; `now`: without asking anybody."""
        self.feed(StopRequested(now, text))

    def note(self, event: str, child: str, incarnation: int, text: str) -> None:
        """Tell what is not a decision of the core: faults of the machine, strays."""
        self.upward.send(NoteUp(self.spec.name, event, child, incarnation, text))


def _rest(message: RequestDown | MatchedDown) -> tuple[Any, ...]:
    if isinstance(message, RequestDown):
        return (message.event,)
    return (message.child, message.incarnation)
