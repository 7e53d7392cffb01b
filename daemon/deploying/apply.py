"""
The apply that is under way: it carries out what `core.deploy_step` decides, and feeds it what came of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from regrow.config.diff import places
from regrow.config.spec import Kind, Plan, Restart, ShutdownKind, SupervisorSpec, WorkerSpec
from regrow.daemon import why
from regrow.daemon.channel_messages import ReplyUp
from regrow.daemon.core import deploy, deploy_step
from regrow.daemon.core.deploy import Outcome
from regrow.daemon.core.effects import Report
from regrow.daemon.core.events import DeleteChild, ProbationOver, RestartChild, TerminateChild
from regrow.daemon.deploying.records import UNDER_WAY, Record

if TYPE_CHECKING:
    from regrow.daemon.root import Root

ENDED = {
    Outcome.DONE: "apply_done",
    Outcome.ROLLED_BACK: "apply_rolled_back",
    Outcome.FAILED: "apply_failed",
    Outcome.INTERRUPTED: "apply_interrupted",
}
"""The event that tells how it ended."""

SLOW_S = 2.0
"""How long a stop may last before it is told who holds it up, where nothing but the child itself can end that."""

SHOWN = 3


class Apply:
    """
    One, from its first step to its end. `record` tells of it, `before` is the plan that it may have to bring back;
    `over` gets the record as it ended.

    What it has asked and armed may still be answered when it is over, and means nothing then.
    """

    def __init__(
        self,
        root: Root,
        record: Record,
        before: Plan,
        again: frozenset[str],
        cause: int,
        over: Callable[[Record], None],
    ) -> None:
        self._root = root
        self.record = record
        self.before = before
        self._were_down = self._down()
        self.state = deploy_step.begin(before.root, record.plan.root, self._were_down, again)
        self._cause = cause
        self._failed_at: int | None = None
        self._waits = ""
        self._began_s = root.loop.now()
        self._over = over
        self._told: SupervisorSpec | None = None
        self._tells = 0
        self._started: dict[str, int] = {}
        """Who was started since it has begun, with how often the supervisors had been told of another tree by then."""

    def _down(self) -> frozenset[str]:
        """Who has no process and waits for none: an apply starts nobody whom it does not find running."""
        nodes = self._root.tree.nodes
        names = (name for name in places(self.before.root) if name in nodes)
        return frozenset(
            name for name in names if nodes[name].pid is None and nodes[name].state in ("stopped", "failed")
        )

    def lost(self) -> tuple[str, ...]:
        """Who ran when it began and does not now, though nobody wishes that, in start order."""
        gone = self._down() - self._were_down - self.state.down
        return tuple(name for name in places(self.before.root) if name in gone)

    def begin(self) -> None:
        """Take the first step, unless it is over already or on its way back."""
        if not self.under_way or self.state.back:
            return
        plan = self.record.plan
        self._root.replanning.hold_to(replace(plan, root=self.before.root), plan, on_the_way=True)
        self._feed(deploy.Begun())

    @property
    def under_way(self) -> bool:
        return self.record.outcome == UNDER_WAY

    def __str__(self) -> str:
        far = "; it ".join(part for part in (deploy.progress(self.state), self.waits_for()) if part)
        return f"apply {self.record.id} by {self.record.by} is under way: {far}"

    # what happens meanwhile

    def heard(self, report: Report, name: str, event: dict[str, Any]) -> None:
        """A supervisor has told of a child: it may be one that was to be better."""
        if report.event == "starting":
            self._started[name] = self._tells
        node = self._root.tree.nodes.get(name)
        if report.event == "ready" and node is not None and node.kind is Kind.SUPERVISOR:
            self._feed(deploy.SupervisorUp(name))
        elif report.event in ("start_failed", "unhealthy", "exited") and node is not None:
            lasts = node.kind is Kind.SUPERVISOR or (node.spec is not None and node.spec.restart is Restart.PERMANENT)
            if report.event != "exited" or lasts or node.state == "failed":
                self._failed_at = event["seq"]
                self._feed(deploy.ChildFailed(name, why.sentence(event)))
                self._failed_at = None

    def wished(self, names: frozenset[str], *, up: bool) -> None:
        """An operator has asked for these to be stopped, or to be started."""
        self._feed(deploy.Wish(names, up))

    def cancel(self, by: str) -> None:
        """Bring the plan of before back, as after a failure; nothing, where that is so already."""
        self._feed(deploy.Cancelled(f"cancelled by {by}"))
        self._waits = ""  # whoever asks may not have heard of it
        self._tell_waits()

    def abandon(self, text: str) -> None:
        """The daemon is ending."""
        self._feed(deploy.Abandoned(text))

    def waits_for(self) -> str:
        """Who is being stopped, may take its time without limit, and what ends it; empty for nobody."""
        names = places(self.before.root).keys() | places(self.record.plan.root)
        slow = [
            node for node in self._root.tree.nodes.values()
            if node.state == "stopping" and node.pid is not None and node.name in names
            and isinstance(node.spec, WorkerSpec) and node.spec.shutdown.kind is ShutdownKind.INFINITY
        ]  # fmt: skip
        words = [f"{node.name} (`kill -KILL {node.pid}` ends it)" for node in slow[:SHOWN]]
        more = f" and {len(slow) - SHOWN} more" if len(slow) > SHOWN else ""
        return f'waits for the end of {", ".join(words)}{more}: shutdown = "infinity"' if words else ""

    def _tell_waits(self) -> None:
        """Once for each that it waits for."""
        text = self.waits_for() if self.under_way else ""
        if text and text != self._waits:
            self._waits = text
            self._say("apply_waiting", text)

    # what the decisions ask for

    def _feed(self, event: deploy.Event) -> None:
        self.state, effects = deploy_step.step(self.state, event)
        self._do_all(effects)

    def _do_all(self, effects: Sequence[deploy.Effect]) -> None:
        """In order; what comes after the decision to go back waits for the sockets of before."""
        for number, effect in enumerate(effects, 1):
            if isinstance(effect, deploy.RollBack):
                self._roll_back(effect, effects[number:])
                return
            self._do(effect)

    def _do(self, effect: deploy.Effect) -> None:
        match effect:
            case deploy.StopChild():
                self._stop(effect)
            case deploy.Tell():
                self._tell(effect)
            case deploy.StartChild():
                self._start(effect)
            case deploy.Trust():
                self._root.replanning.tell_tree(effect.tree, effect.above, lambda: self._trust(effect))
            case deploy.Arm():
                self._root.loop.call_later(effect.after_s, lambda: self._feed(deploy.Elapsed(effect.serial)))
            case deploy.Hold():
                self._say("apply_holding", f"{', '.join(effect.names)} watched for {effect.hold_s:g} s")
            case deploy.Finish():
                self._finish(effect)

    def _ask(
        self, supervisor: str, name: str, kind: Callable[[int, str], Any], answer: Callable[[ReplyUp], None]
    ) -> None:
        self._root.asking.ask(
            supervisor or None,
            lambda number: kind(number, name),
            answer,
            by=f"apply {self.record.id}",
            about=name,
            cause=self._cause,
        )

    def _stop(self, effect: deploy.StopChild) -> None:
        supervisor, name = effect.member.supervisor, effect.member.name

        def is_late() -> bool:
            return self.state.serial != effect.serial

        def stopped(reply: ReplyUp) -> None:
            if effect.gone and reply.code is None and not is_late():  # the way back wants it again
                self._ask(supervisor, name, DeleteChild, gone)
            else:
                gone(reply)

        def gone(_reply: ReplyUp) -> None:
            if effect.gone and not is_late():  # its supervisor may have no slot to forget, or no process to say so
                self._root.tree.leave(supervisor or None, name)
            self._feed(deploy.Answered(effect.serial))

        self._ask(supervisor, name, TerminateChild, stopped)
        self._root.loop.call_later(SLOW_S, lambda: None if is_late() else self._tell_waits())

    def _start(self, effect: deploy.StartChild) -> None:
        supervisor, name = effect.member.supervisor, effect.member.name

        def started(reply: ReplyUp) -> None:
            fresh = self._started.get(name, -1) >= self._tells
            self._feed(deploy.Answered(effect.serial, reply.code, reply.message, fresh))

        self._ask(supervisor, name, lambda number, child: RestartChild(number, child, effect.probation), started)

    def _tell(self, effect: deploy.Tell) -> None:
        def told() -> None:
            if self.state.serial != effect.serial:
                return  # the apply has turned back meanwhile
            self._tells += effect.tree != self._told
            self._told = effect.tree
            self._feed(deploy.Answered(effect.serial))

        self._root.replanning.tell_tree(effect.tree, effect.supervisors, told, effect.anew)

    def _trust(self, effect: deploy.Trust) -> None:
        above = [(name or None, ProbationOver) for name in effect.supervisors]
        self._root.asking.all_of(above, lambda _refused: self._feed(deploy.Answered(effect.serial)))

    def _say(self, event: str, text: str, cause: int | None = None) -> int:
        cause = self._cause if cause is None else cause
        return self._root.books.apply_event(event, f"apply {self.record.id}: {text}", cause)

    def _roll_back(self, effect: deploy.RollBack, then: Sequence[deploy.Effect]) -> None:
        text = f"the plan of before comes back: {effect.reason}"
        self._cause = self._say("apply_rollback", text, self._failed_at)
        before = self.before
        self._root.replanning.hold_to(replace(before, root=self._root.plan.root), before, on_the_way=True)

        def listening_again(fault: str) -> None:
            """Most were held all the while, but for those whose addresses had been changed."""
            if fault:
                self._root.books.daemon_event("fault", fault)
            if self.under_way:  # unless the daemon ends meanwhile
                self._do_all(then)

        self._root.sockets.take_over(before.sockets, listening_again)

    def _finish(self, effect: deploy.Finish) -> None:
        seconds = round(self._root.loop.now() - self._began_s, 3)
        self.record = replace(
            self.record,
            outcome=str(effect.outcome), reason=effect.reason, failures=effect.failures, seconds=seconds,
        )  # fmt: skip
        what = "; ".join((effect.reason, *effect.failures)) or f"all is changed, in {seconds:.2g} s"
        if effect.outcome is Outcome.ROLLED_BACK and not effect.failures:
            what = f"all is as it was, in {seconds:.2g} s"  # why, is told by the event that caused this one
        self._say(ENDED[effect.outcome], what)
        self._over(self.record)
