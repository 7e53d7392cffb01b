"""
A kernel that is not there: processes, deaths, signals and timers in virtual time.

Every supervisor of a tree runs the real `step`. What the kernel tells it comes late at random, and in any
order that a real kernel could produce: the birth of a process is heard of before its death, nothing else is
promised. A supervisor that is killed takes everything below it along before its parent hears of it.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import TypeAlias

from regrow.config.exits import SHUTDOWN
from regrow.config.spec import ChildSpec, ShutdownKind, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import ArmTimer, CancelTimer, Effect, End, Outcome, Ready, Signal, SignalKind, Spawn
from regrow.daemon.core.events import (
    ChildExited,
    ChildIgnored,
    ChildReady,
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
from regrow.daemon.core.state import Phase, SupervisorState, initial
from regrow.daemon.core.supervisor import ProcessEvent, event_kind, step
from simulator.invariants import Checker, must
from simulator.violation import Violation

TimerKey: TypeAlias = tuple[TimerKind, str, int]
Line: TypeAlias = tuple[float, str, Event, tuple[Effect, ...]]

KILLED = Exit(ExitReason.SIGNAL, signal=9)
BY_TERM = Exit(ExitReason.SIGNAL, signal=15)
SPONTANEOUS = (
    Exit(ExitReason.EXIT, code=0),
    Exit(ExitReason.EXIT, code=0),
    Exit(ExitReason.EXIT, code=1),
    Exit(ExitReason.EXIT, code=SHUTDOWN),
    Exit(ExitReason.SHUTDOWN, code=SHUTDOWN),
    Exit(ExitReason.SIGNAL, signal=11),
    Exit(ExitReason.OOM, signal=9),
    KILLED,
)


class Process:
    """One incarnation of a child. `told` once its supervisor has heard of its death."""

    __slots__ = (
        "alive", "asked_at_s", "heard_from_s", "incarnation", "may_be_killed", "name", "node", "owner", "pid", "ready",
        "spec", "told",
    )  # fmt: skip

    def __init__(self, owner: Node, spec: ChildSpec, name: str, incarnation: int, pid: int) -> None:
        self.owner = owner
        self.spec = spec
        self.name = name
        self.incarnation = incarnation
        self.pid = pid
        self.node: Node | None = None
        self.alive = True
        self.told = False
        self.ready = False
        self.heard_from_s = 0.0
        self.asked_at_s: float | None = None
        self.may_be_killed = False


class Node:
    """One supervisor process: the state of its core, its timers, and what it holds of the kernel."""

    def __init__(self, spec: SupervisorSpec, process: Process | None) -> None:
        self.name = spec.name
        self.process = process
        self.state: SupervisorState = initial(spec)
        self.alive = True
        self.children: dict[str, Process] = {}  # by name; until their death has been told
        self.past: deque[tuple[str, int]] = deque(maxlen=10)  # incarnations whose death has been told
        self.timers: dict[TimerKey, object] = {}
        self.requests: dict[int, Request] = {}
        self.offered: list[ChildSpec] = []  # by start_child, whatever became of it
        self.outcome: Outcome | None = None
        self.checker = Checker(self)


class World:
    """The machine. `wild` is the probability of misbehaviour; 0 and nothing goes wrong any more."""

    def __init__(self, random: Random, *, wild: float, trace: int = 60) -> None:
        self.random = random
        self.wild = wild
        self.now_s = 1000.0
        self.events = 0
        self.checks = 0
        self.processes = 0
        self.supervisors = 0
        self.seen: Counter[str] = Counter()
        self.live: dict[str, Process] = {}
        self.nodes: list[Node] = []
        self.trace: deque[Line] = deque(maxlen=trace)
        self.witness: Callable[[Node, SupervisorState, Event, float, SupervisorState, tuple[Effect, ...]], None] | None
        self.witness = None
        self._heap: list[tuple[float, float, int, Callable[[], None]]] = []
        self._order = count()
        self._pids = count(100)

    # time

    def at(self, when_s: float, happening: Callable[[], None], tie: float | None = None) -> None:
        """Let something happen; of what happens at the same moment the lowest `tie` comes first, else any."""
        tie = self.random.random() if tie is None else tie
        heapq.heappush(self._heap, (when_s, tie, next(self._order), happening))

    def after(self, delay_s: float, happening: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, happening)

    def run(self, *, events: int) -> bool:
        """Let time pass until nothing is left to happen (True) or so many events were handled."""
        while self._heap:
            if self.events >= events:
                return False
            when_s, _, _, happening = heapq.heappop(self._heap)
            self.now_s = max(self.now_s, when_s)
            happening()
        return True

    def pause_s(self) -> float:
        """How long something takes to be noticed: mostly no time at all."""
        return 0.0 if self.random.random() < 0.7 else self.random.choice((0.001, 0.01, 0.3))

    def misbehaves(self, share: float = 1.0) -> bool:
        return self.random.random() < self.wild * share

    # supervisors

    def boot(self, spec: SupervisorSpec, process: Process | None = None) -> Node:
        """Begin a supervisor process and tell it to start."""
        node = Node(spec, process)
        self.nodes.append(node)
        self.supervisors += 1
        self.after(self.pause_s(), lambda: self.deliver(node, Started()))
        return node

    def deliver_late(self, node: Node, event: Event) -> None:
        """Let the supervisor hear of a process that is no more to it: nothing may come of that."""
        before = node.state
        self.deliver(node, event)
        must("late events change nothing", node.state == before, event)

    def request(self, node: Node, request: Request) -> None:
        node.requests[request.request] = request
        self.deliver(node, request)

    def deliver(self, node: Node, event: Event) -> None:
        """Let the supervisor take one step and carry out what it decides; a dead one hears nothing."""
        if not node.alive:
            return
        before = node.state
        if isinstance(event, ProcessEvent):
            slot = before.slots.get(event.child)
            if slot is not None and slot.incarnation == event.incarnation:
                self.seen[f"{slot.state} {event_kind(event)}"] += 1
        after, effects = step(before, event, self.now_s)
        self.events += 1
        self.trace.append((self.now_s, node.name, event, effects))
        if self.witness is not None:
            self.witness(node, before, event, self.now_s, after, effects)
        if isinstance(event, ChildExited | SpawnFailed):
            self._told(node, event.child, event.incarnation)
        self.checks += node.checker.decided(before, event, after, effects, self.now_s)
        node.state = after
        for effect in effects:
            self._execute(node, effect)
        self.checks += node.checker.settled()

    def _told(self, node: Node, child: str, incarnation: int) -> None:
        process = node.children.get(child)
        if process is not None and process.incarnation == incarnation:
            process.told = True
            del node.children[child]
            node.past.append((child, incarnation))

    # effects

    def _execute(self, node: Node, effect: Effect) -> None:
        match effect:
            case Spawn():
                self._spawn(node, effect)
            case Signal():
                self._signal(node, effect)
            case ArmTimer():
                self._arm(node, effect)
            case CancelTimer():
                node.timers.pop((effect.kind, effect.child, effect.incarnation), None)
            case Ready():
                self._ready(node)
            case End():
                self._end(node, effect)
            case _:
                pass

    def _spawn(self, node: Node, effect: Spawn) -> None:
        name = effect.child
        if name in self.live or name in node.children:
            raise Violation("one incarnation", f"{name} is spawned while an earlier incarnation lives or is unreported")
        process = Process(node, effect.spec, name, effect.incarnation, next(self._pids))
        node.children[name] = process
        gentle = 0.05 if node.state.phase is Phase.STARTING else 1.0  # or few trees would ever be up
        if self.misbehaves(0.1 * gentle**0.5):
            process.alive = False
            failed = SpawnFailed(name, effect.incarnation, Exit(ExitReason.EXEC_FAILED, text="fork: EAGAIN"))
            late_s = self.random.choice((0.0, 0.2))
            self.at(self.now_s + late_s, lambda: self.deliver(node, failed), tie=-1.0)
            return
        self.processes += 1
        self.live[name] = process
        process.heard_from_s = self.now_s + (0.01 if self.random.random() < 0.1 else 0.0)
        born = Spawned(name, effect.incarnation, process.pid)
        self.at(process.heard_from_s, lambda: self.deliver(node, born), tie=-1.0)
        if isinstance(effect.spec, SupervisorSpec):
            process.node = self.boot(effect.spec, process)
        else:
            self._live(process, effect.spec, gentle)

    def _live(self, process: Process, spec: WorkerSpec, gentle: float) -> None:
        """Draw the life of a worker: ready soon and for ever, unless it misbehaves."""
        random = self.random
        start_s = random.choice((0.0, 0.001, 0.05, 0.8))
        if not self.misbehaves(0.5 * gentle):
            self.after(start_s, lambda: self._becomes_ready(process))
            if self.misbehaves():
                life_s = start_s + random.choice((0.0, 0.01, 0.5, 20.0))
                self.after(life_s, lambda: self._misbehave(process, random.choice(SPONTANEOUS)))
            return
        fate = random.randrange(5)
        if fate == 0:  # never ready
            return
        if fate == 1:  # late
            self.after(spec.ready.timeout_s * random.choice((0.9, 1.0, 1.1)), lambda: self._becomes_ready(process))
            return
        if fate == 2:  # ends first
            self.after(start_s, lambda: self.die(process, random.choice(SPONTANEOUS)))
            return
        self.tell(process, ChildIgnored(process.name, process.incarnation))
        if fate == 3:
            self.after(start_s, lambda: self.die(process, random.choice(SPONTANEOUS[:3])))

    def _misbehave(self, process: Process, exit: Exit) -> None:
        if self.wild:
            self.die(process, exit)

    def _becomes_ready(self, process: Process) -> None:
        if process.alive:
            self.tell(process, ChildReady(process.name, process.incarnation))

    def tell(self, process: Process, event: Event) -> None:
        """Let the owner hear of something about a process, some time after its birth."""
        when_s = max(self.now_s + self.pause_s(), process.heard_from_s)
        self.at(when_s, lambda: self.deliver(process.owner, event))

    def die(self, process: Process, exit: Exit) -> None:
        """End a process, with all that is below it, and let its owner hear of it."""
        if not process.alive:
            return
        self._bury(process)
        jitter = self.random.uniform(-1.0, 1.0)
        self.tell(process, ChildExited(process.name, process.incarnation, exit, jitter))

    def _bury(self, process: Process) -> None:
        process.alive = False
        del self.live[process.name]
        if process.node is not None:
            process.node.alive = False
            for child in list(process.node.children.values()):
                if child.alive:
                    self._bury(child)

    def _signal(self, node: Node, effect: Signal) -> None:
        process = node.children.get(effect.child)
        if process is None or process.incarnation != effect.incarnation:
            raise Violation("signals go to ours", f"{effect} but no such process of {node.name} lives or is unreported")
        node.checker.signalled(process, effect.kind, self.now_s)
        if not process.alive:
            return
        if effect.kind is SignalKind.KILL:
            self.die(process, KILLED)
            return
        if process.asked_at_s is not None:
            raise Violation("asked once", f"{effect.child} gets its stop signal twice")
        process.asked_at_s = self.now_s
        if process.node is not None:
            child = process.node
            self.after(self.pause_s(), lambda: self.deliver(child, StopRequested()))
        else:
            self._asked(process)

    def _asked(self, process: Process) -> None:
        """Stop as asked: at once, slowly, or, where a kill will follow, not at all."""
        shutdown = process.spec.shutdown
        delay_s = self.random.choice((0.0, 0.001, 0.1))
        if self.misbehaves(2.0):
            if shutdown.kind is ShutdownKind.TIMEOUT and self.random.random() < 0.5:
                return
            delay_s = self.random.choice((0.5, 1.0, 7.0))
        exit = self.random.choice((BY_TERM, BY_TERM, SPONTANEOUS[0], SPONTANEOUS[2]))
        self.after(delay_s, lambda: self.die(process, exit))

    def _arm(self, node: Node, effect: ArmTimer) -> None:
        key = (effect.kind, effect.child, effect.incarnation)
        if key in node.timers:
            raise Violation("timers are armed once", f"{effect} is armed already")
        token = object()
        node.timers[key] = token
        late_s = 0.0 if self.random.random() < 0.8 else 0.02
        self.after(effect.after_s + late_s, lambda: self._elapse(node, key, token))

    def _elapse(self, node: Node, key: TimerKey, token: object) -> None:
        if node.timers.get(key) is token:
            del node.timers[key]
            self.deliver(node, TimerElapsed(*key))

    def _ready(self, node: Node) -> None:
        process = node.process
        if process is not None:
            self._becomes_ready(process)

    def _end(self, node: Node, effect: End) -> None:
        node.outcome = effect.outcome
        if left := [child.name for child in node.children.values()]:
            raise Violation("nothing outlives its supervisor", f"{node.name} ended and {left} live or are unreported")
        process = node.process
        if process is None:
            return
        exit = Exit(ExitReason.EXIT, code=1 if effect.outcome is Outcome.START_FAILED else 0)
        if effect.outcome in (Outcome.GAVE_UP, Outcome.AUTO_SHUTDOWN):
            exit = self.random.choice((SPONTANEOUS[3], SPONTANEOUS[4]))
        self.after(self.pause_s(), lambda: self.die(process, exit))
