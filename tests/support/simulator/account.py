"""
The naive book-keeping beside one supervisor: what was charged, who is owed a start, who may be down.

Restart types are looked up in a table written out here, not asked of the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.config.spec import Restart
from regrow.daemon.core.effects import Code, Refuse, Reply, Report, Spawn
from regrow.daemon.core.events import (
    ChildUnhealthy,
    Event,
    Exit,
    ExitReason,
    PlanChanged,
    Request,
    RestartChild,
    StartChild,
    TerminateChild,
    TimerElapsed,
    TimerKind,
)
from regrow.daemon.core.state import Batch, Phase, SlotState, SupervisorState
from simulator.violation import Violation

if TYPE_CHECKING:
    from simulator.world import Node

WANTED = {
    (Restart.PERMANENT, "normal"): True,
    (Restart.PERMANENT, "shutdown"): True,
    (Restart.PERMANENT, "abnormal"): True,
    (Restart.TRANSIENT, "normal"): False,
    (Restart.TRANSIENT, "shutdown"): False,
    (Restart.TRANSIENT, "abnormal"): True,
    (Restart.TEMPORARY, "normal"): False,
    (Restart.TEMPORARY, "shutdown"): False,
    (Restart.TEMPORARY, "abnormal"): False,
}


def kind_of(exit: Exit) -> str:
    """File an exit by hand; the simulated children all have a `normal_exit` of 0."""
    if exit.reason is ExitReason.EXIT:
        return {0: "normal", 82: "shutdown"}.get(exit.code or 0, "abnormal")
    return "shutdown" if exit.reason is ExitReason.SHUTDOWN else "abnormal"


class Account:
    """
    What one supervisor's own reports and answers add up to.

    `owed`: children whose own restart has been charged and not yet tried. `batches`: by the child
    for which it was charged, whom a restart of its group has tried already. `down`: children that rightly have no
    process. `charges_s`: when restarts were charged.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.before = node.state
        self.charges_s: list[float] = []
        self.owed: set[str] = set()
        self.batches: dict[str, set[str]] = {}
        self.asked: set[str] = set()
        self.down: set[str] = set()
        self.spawned_before: set[str] = set()
        self.ended: dict[str, Exit] = {}
        self.reloaded = False

    def event(self, before: SupervisorState, event: Event) -> None:
        """Take note of what allows a kill, and of a reload."""
        self.before = before
        if isinstance(event, PlanChanged):
            self.reloaded = True
        elif isinstance(event, ChildUnhealthy) or (
            isinstance(event, TimerElapsed) and event.kind is not TimerKind.RETRY
        ):
            process = self.node.children.get(event.child)
            if process is not None and process.incarnation == event.incarnation:
                process.may_be_killed = True

    def report(self, report: Report, after: SupervisorState, now_s: float) -> None:
        """Follow one report."""
        child = report.child
        match report.event:
            case "exited" if report.exit is not None:
                self._exited(child, report.exit, after)
            case "ignored":
                self.down.add(child)
            case "start_failed":
                operation = self.node.state.operation
                slot = after.slots.get(child)
                if slot is not None and slot.probation:
                    self.down.add(child)  # whoever watches it is told, and the group goes on without
                elif child not in self.asked and isinstance(operation, Batch):
                    self.batches.pop(operation.pivot, None)
                self.ended.pop(child, None)
            case "restarting":
                self._charged(report, after, now_s)
            case "gave_up":
                used = self._used(now_s, report.extra["period_s"])
                if used <= report.extra["intensity"]:
                    raise Violation("budget", f"{self.node.name} gave up with {used} of {report.extra}")
            case "child_added":
                self.down.discard(child)

    def _exited(self, child: str, exit: Exit, after: SupervisorState) -> None:
        self.ended[child] = exit
        slot = after.slots.get(child)
        if slot is not None and (slot.probation or not WANTED[slot.spec.restart, kind_of(exit)]):
            self.down.add(child)

    def _used(self, now_s: float, period_s: float) -> int:
        self.charges_s = [*(at_s for at_s in self.charges_s if at_s >= now_s - period_s), now_s]
        return len(self.charges_s)

    def _charged(self, report: Report, after: SupervisorState, now_s: float) -> None:
        extra = report.extra
        used = self._used(now_s, extra["period_s"])
        if used != extra["used"] or used > extra["intensity"]:
            raise Violation("budget", f"{self.node.name} counts {extra}, there were {used}")
        child = report.child
        exit = self.ended.pop(child, None)
        slot, was = after.slots.get(child), self.before.slots.get(child)
        if slot is not None and slot.probation and was is not None and was.probation:
            # In one step a charge may come first, and then the request that has waited for it.
            raise Violation("restarts are wanted", f"{child} is on probation, and its restart was charged")
        if exit is not None and slot is not None and not self.reloaded:
            kind = kind_of(exit)
            if not WANTED[slot.spec.restart, kind]:
                raise Violation("restarts are wanted", f"{child} is {slot.spec.restart} and its end was {kind}")
        if after.independent:
            self.owed.add(child)
        else:
            self.batches[child] = set()

    def spawned(self, spawn: Spawn, after: SupervisorState) -> None:
        """Check that a start is the first, asked for, or charged."""
        child = spawn.child
        self.down.discard(child)
        asked = self._asked_for(child)
        self.asked.discard(child)
        if after.phase is Phase.STARTING and child not in self.spawned_before:
            self.spawned_before.add(child)
        elif child in self.owed:
            self.owed.discard(child)
        elif asked:
            self.asked.add(child)
        elif not self._in_batch(child, after) and not self.reloaded:
            raise Violation("restarts are charged", f"{child} is started again and nothing was charged for it")

    def _in_batch(self, child: str, after: SupervisorState) -> bool:
        """Whether a charged restart of the group tries this child for the first time."""
        operation = after.operation
        if not isinstance(operation, Batch):
            return False
        tried = self.batches.get(operation.pivot)
        if tried is None or child in tried:
            return False
        if not tried:  # what else waited in the scope is part of this batch now
            for joined in operation.scope:
                self.batches.pop(joined, None)
            self.batches[operation.pivot] = tried
        tried.add(child)
        return True

    def _asked_for(self, child: str) -> bool:
        return any(
            (isinstance(request, StartChild) and child.startswith(request.spec.name))
            or (isinstance(request, RestartChild) and request.child == child)
            for request in self.node.requests.values()
        )

    def answered(self, request: Request | None, answer: Reply | Refuse, after: SupervisorState) -> None:
        """Learn from an answer who is rightly down."""
        ok = isinstance(answer, Reply)
        failed = isinstance(answer, Refuse) and answer.code is Code.START_FAILED
        match request:
            case TerminateChild() if ok:
                child = request.child if isinstance(request.child, str) else ""
                self.down.add(child)
                self.owed.discard(child)
                if not after.independent:  # what the interrupted batch had not reached stays down (S85)
                    self._all_down(after)
                    self.batches.pop(child, None)
            case RestartChild() if failed:
                self.down.add(request.child)
            case StartChild() if failed:  # a reload may have kept its spec
                self.down.add(request.spec.name)
            case PlanChanged():  # new children are not started, and a batch may have lost its order (S177)
                self._all_down(after)
            case _:
                pass

    def _all_down(self, after: SupervisorState) -> None:
        self.down.update(child for child, slot in after.slots.items() if slot.state is SlotState.UNDEFINED)
