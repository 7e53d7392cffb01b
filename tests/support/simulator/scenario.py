"""One simulated life of a tree: wild at first, then calm, then stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from regrow.config.spec import AutoShutdown, ChildSpec
from regrow.daemon.core.events import (
    ChildExited,
    ChildReady,
    ChildUnhealthy,
    CountChildren,
    DeleteChild,
    Event,
    Exit,
    ExitReason,
    GetChildspec,
    PlanChanged,
    ProbationOver,
    Request,
    RestartChild,
    StartChild,
    StopRequested,
    TerminateChild,
    TimerElapsed,
    TimerKind,
    WhichChildren,
)
from regrow.daemon.core.state import Phase, SlotState
from simulator.trees import Grower, Size
from simulator.violation import Violation
from simulator.world import KILLED, SPONTANEOUS, Line, Node, Process, World

CALM_EVENTS = 20_000
"""A tree that has not come to rest after so many events without a new fault never will."""


@dataclass
class Result:
    """What one scenario amounted to; `violation` is None when every invariant held."""

    seed: str
    events: int = 0
    checks: int = 0
    supervisors: int = 0
    processes: int = 0
    outcome: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    violation: Violation | None = None
    trace: list[Line] = field(default_factory=list)


class Scenario:
    """A tree and its fate, both drawn from `seed`."""

    def __init__(self, seed: str, *, size: Size | None = None, events: int | None = None, trace: int = 60) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.size = size or Size(self.random.randint(1, 3), self.random.randint(1, 6))
        self.events = events if events is not None else self.random.choice((30, 100, 300, 1000, 3000))
        self.grower = Grower(self.random, self.size)
        self.world = World(self.random, wild=self.random.choice((0.02, 0.1, 0.3)), trace=trace)
        self.every_s = self.random.choice((0.01, 0.2, 2.0))
        self.reloads = self.random.random() < 0.4
        self.applies = self.random.random() < 0.3
        self._requests = 0
        self._after_end = 0

    def run(self) -> Result:
        """Live the whole life; a violation ends it and is part of the result."""
        result = Result(self.seed)
        world = self.world
        try:
            result.outcome = self._live()
        except Violation as violation:
            result.violation = violation
        result.events, result.checks, result.processes = world.events, world.checks, world.processes
        result.supervisors = world.supervisors
        result.seen = world.seen
        result.trace = list(world.trace)
        return result

    def _live(self) -> str:
        world = self.world
        top = world.boot(self.grower.tree())
        world.after(self.random.choice((0.0, 1.0, 3.0)), self._strike)  # mostly once the tree is up
        world.run(events=self.events)
        if self.random.random() < 0.75:
            world.wild = 0.0
            self._rest()
            self._at_rest(top)
        world.after(0.0, lambda: world.deliver(top, StopRequested(now=self.random.random() < 0.2)))
        if self.random.random() < 0.2:
            world.after(0.5, lambda: world.deliver(top, StopRequested(now=True)))
        self.events = 0
        self._rest()
        self._over(top)
        return str(top.outcome)

    def _rest(self) -> None:
        if not self.world.run(events=self.world.events + CALM_EVENTS):
            raise Violation("comes to rest", f"still busy after {CALM_EVENTS} events without a fault")

    def _at_rest(self, top: Node) -> None:
        for node in self.world.nodes:
            if node.alive and node.state.phase is not Phase.ENDED:
                self.world.checks += node.checker.at_rest()
        if top.state.phase is Phase.ENDED:
            self._over(top)

    def _over(self, top: Node) -> None:
        if top.state.phase is not Phase.ENDED:
            raise Violation("comes to rest", f"top was asked to stop and is {top.state.phase}")
        if self.world.live:
            raise Violation("nothing outlives its supervisor", f"{sorted(self.world.live)} live on")

    # faults

    def _strike(self) -> None:
        """Do something bad, or ask for something, and come back for more while the wild time lasts."""
        world = self.world
        if world.wild == 0.0 or world.events >= self.events or self._after_end > 5:
            return
        self._after_end += world.nodes[0].state.phase is Phase.ENDED
        self.world.nodes = [node for node in self.world.nodes if node.alive]
        node = self.random.choice(self.world.nodes)
        for _ in range(1 if self.random.random() < 0.7 else self.random.randint(2, 6)):
            self._fault(node)
        world.after(self.random.expovariate(1 / self.every_s), self._strike)

    def _fault(self, node: Node) -> None:
        random = self.random
        chance = random.random()
        if chance < 0.3:
            self.world.request(node, self._request(node))
        elif chance < 0.9 and node.children:
            self._hurt(random.choice(list(node.children.values())))
        elif chance < 0.97:
            self._late(node)
        elif random.random() < 0.3:
            self.world.deliver(node, StopRequested(now=random.random() < 0.3))

    def _hurt(self, process: Process) -> None:
        if process.node is None and self.random.random() < 0.3:
            sick = Exit(self.random.choice((ExitReason.WATCHDOG, ExitReason.LIVENESS, ExitReason.MEMORY)), text="sick")
            self.world.tell(process, ChildUnhealthy(process.name, process.incarnation, sick))
        elif process.node is None:
            self.world.die(process, self.random.choice(SPONTANEOUS))
        elif self.random.random() < 0.3:
            self.world.die(process, KILLED)

    def _late(self, node: Node) -> None:
        """Let the supervisor hear once more of an incarnation that is over, or of a stranger."""
        name, incarnation = self.random.choice([*node.past, ("stranger", 1)])
        slot = node.state.slots.get(name)
        if slot is not None and slot.dead is not None:
            return  # heard of, but not yet handled
        events: list[Event] = [
            ChildExited(name, incarnation, KILLED),
            ChildReady(name, incarnation),
            TimerElapsed(TimerKind.START, name, incarnation),
            TimerElapsed(TimerKind.STOP, name, incarnation),
        ]
        self.world.deliver_late(node, self.random.choice(events))

    def _request(self, node: Node) -> Request:
        random = self.random
        self._requests += 1
        number = self._requests
        child = self._child(node)
        calls: list[Callable[[], Request]] = [
            lambda: StartChild(number, self._new_child(node)),
            lambda: StartChild(number, self._new_child(node)),
            lambda: RestartChild(number, child),
            lambda: RestartChild(number, child, self.applies and random.random() < 0.8),
            lambda: TerminateChild(number, self._address(node, child)),
            lambda: DeleteChild(number, child),
            lambda: WhichChildren(number),
            lambda: CountChildren(number),
            lambda: GetChildspec(number, child),
        ]
        if self.applies and random.random() < 0.05:
            return ProbationOver(number)
        if self.reloads and random.random() < 0.1:
            children = [slot.spec for slot in node.state.slots.values()]
            return PlanChanged(number, self.grower.reloaded(node.state.spec, children))
        return random.choice(calls)()

    def _child(self, node: Node) -> str:
        """A child to ask something about, most often one that is not simply running."""
        slots = node.state.slots
        odd = [child for child, slot in slots.items() if slot.state is not SlotState.RUNNING]
        return self.random.choice(odd if odd and self.random.random() < 0.5 else [*slots, "nobody"])

    def _address(self, node: Node, child: str) -> str | int:
        """A name, or sometimes a pid."""
        slot = node.state.slots.get(child)
        if slot is not None and slot.pid is not None and self.random.random() < 0.3:
            return slot.pid
        return child

    def _new_child(self, node: Node) -> ChildSpec:
        """A child that was there before, or a new one."""
        if not node.offered or self.random.random() < 0.5:
            node.offered.append(self._unheard_of(node))
        return self.random.choice(node.offered)

    def _unheard_of(self, node: Node) -> ChildSpec:
        random = self.random
        slots = node.state.slots
        if slots and not node.state.dynamic and random.random() < 0.2:
            return slots[random.choice(list(slots))].spec
        rule = random.choice((node.state.spec.auto_shutdown, AutoShutdown.ANY_SIGNIFICANT))
        if random.random() < 0.1:
            below = self.grower.supervisor(1, rule)
            if node.state.dynamic:  # there may be several of it, and a name is unique in the whole tree
                below = replace(below, children=())
            return replace(below, name=self.grower.name("t"))
        name = f"{node.name}job" if node.state.dynamic and random.random() < 0.5 else self.grower.name("n")
        return self.grower.worker(name, rule)
