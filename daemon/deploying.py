"""
Going from the plan that runs to another: what would be done, and doing it.

Whatever reads or writes files does so in a process of its own (`errand`).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from regrow.config.diff import PlanDiff, diff, places
from regrow.config.spec import Kind, Plan, Restart, SupervisorSpec, WorkerSpec
from regrow.daemon import applies, errand, why
from regrow.daemon.applies import Record
from regrow.daemon.channel import ReplyUp
from regrow.daemon.control import ControlError
from regrow.daemon.core import deploy
from regrow.daemon.core.deploy import Deploy, Outcome
from regrow.daemon.core.effects import Report
from regrow.daemon.core.events import DeleteChild, ProbationOver, RestartChild, TerminateChild
from regrow.daemon.deployed import Deployed

if TYPE_CHECKING:
    from regrow.daemon.root import Root

MAX_FILES = 100

Done = Callable[[Any], None]
Refuse = Callable[[ControlError], None]

ENDED = {
    Outcome.DONE: "apply_done",
    Outcome.ROLLED_BACK: "apply_rolled_back",
    Outcome.FAILED: "apply_failed",
    Outcome.INTERRUPTED: "apply_interrupted",
}
"""The event that tells how it ended."""


class Loaded(Struct):
    """What an errand brings: a plan, the newest number of an apply, and the apply that the plan is from."""

    plan: Plan
    newest: int = 0
    back_to: int | None = None


def load(files: Sequence[str], state_dir: str) -> bytes:
    """
    The plan of these files.

    Raises:
        regrow.config.errors.ConfigErrors
    """
    from regrow.config import load as loading

    return msgspec.msgpack.encode(Loaded(loading.load(files), applies.newest_id(state_dir)))


def load_earlier(id: int | None, present: Plan) -> bytes:
    """
    The plan of an earlier apply.

    Raises:
        regrow.daemon.applies.NoApply
    """
    state_dir = present.daemon.state_dir
    record = applies.earlier(state_dir, id, present)
    return msgspec.msgpack.encode(Loaded(record.plan, applies.newest_id(state_dir), record.id))


class Apply(Struct, frozen=True):
    """One that is under way; `cause` is the number of the event that whatever it does now comes of."""

    record: Record
    before: Plan
    state: Deploy
    cause: int
    began_s: float


class Deploying:
    """Of one root; one apply at a time."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._held = Deployed(root.plan, time.time())
        self.apply: Apply | None = None
        self._reading_for = ""
        self._answer: Done = lambda _told: None
        self._serial = 0
        self._tells = 0
        self._began: dict[str, int] = {}
        """Who was started since the apply has begun, with how often the supervisors had been told of a tree by then."""
        self._unwritten: deque[tuple[Record, Callable[[str], None]]] = deque()
        self._writing = False

    def carried(self) -> Deployed:
        """What goes through an exec of the root; there is none while an apply is under way."""
        return self._held

    def take_up(self, held: Deployed) -> None:
        """Go on with that."""
        self._held = held

    @property
    def base(self) -> Plan:
        """The plan that was started, or applied last."""
        return self._held.base

    def runs(self) -> Plan:
        """The plan that the processes were made by: another, where some were started after a reload."""
        return self._held.runs(self._root.tree)

    def reloaded(self) -> None:
        """Supervisors are told of other files than those that were applied."""
        self._held = replace(self._held, reloaded=True)

    @property
    def busy(self) -> str:
        """Who is at it, and how far; empty when nobody is."""
        if self.apply is not None:
            record = self.apply.record
            return f"apply {record.id} by {record.by} is under way: {deploy.progress(self.apply.state)}"
        return f"an apply by {self._reading_for} is reading its files" if self._reading_for else ""

    def claims(self, name: str) -> bool:
        """Whether a name is about to be somebody's."""
        return self.apply is not None and name in deploy.names_in(self.apply.state)

    # asking

    def plan(self, files: Sequence[str], done: Done, refuse: Refuse) -> None:
        """Say what an apply of these files, of the daemon's own where there are none, would do."""

        def loaded(found: Loaded) -> None:
            difference = diff(self.runs(), found.plan)
            if fault := self._fault(difference, found.plan):
                refuse(ControlError("bad_request", fault))
            else:
                done({**told(difference, found.plan), "notes": self._notes(difference, found.plan)})

        self.load(files, loaded, refuse)

    def load(self, files: Sequence[str], loaded: Callable[[Loaded], None], refuse: Refuse) -> None:
        """Read files, the daemon's own where there are none."""
        chosen, state_dir = tuple(files) or self._root.plan.files, self._root.plan.daemon.state_dir
        self._read(lambda: load(chosen, state_dir), loaded, refuse)

    def _read(self, work: Callable[[], bytes], loaded: Callable[[Loaded], None], refuse: Refuse) -> None:
        def read(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                refuse(unreadable(result))
            else:
                loaded(msgspec.msgpack.decode(result, type=Loaded))

        self._root.errands.run(work, read)

    def _notes(self, difference: PlanDiff, plan: Plan) -> list[str]:
        held = self._held
        if held.back_to is None or plan.files != self.base.files or not difference:
            return []
        runs = f"the daemon runs apply {held.present}, which brought apply {held.back_to} back"
        return [f"{runs}; started again it would run what its files say now"]

    def list(self, done: Done, refuse: Refuse) -> None:
        """All applies that are kept, the oldest first."""
        state_dir = self._root.plan.daemon.state_dir

        def read(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                refuse(ControlError("internal", str(result)))
                return
            found = msgspec.msgpack.decode(result)
            for record in found:
                record["present"] = record["id"] == self._held.present
                if record["outcome"] == applies.UNDER_WAY and not self._is_under_way(record["id"]):
                    record["outcome"], record["reason"] = str(Outcome.INTERRUPTED), "the daemon ended meanwhile"
            done(found)

        self._root.errands.run(lambda: msgspec.msgpack.encode(applies.listed(state_dir)), read)

    def _is_under_way(self, id: int) -> bool:
        return self.apply is not None and self.apply.record.id == id

    # doing

    def start(self, files: Sequence[str], by: str, done: Done, refuse: Refuse) -> None:
        """Apply these files, the daemon's own where there are none. `done` gets what came of it."""
        chosen, state_dir = tuple(files) or self._root.plan.files, self._root.plan.daemon.state_dir
        self._start("apply", lambda: load(chosen, state_dir), by, done, refuse)

    def go_back(self, id: int | None, by: str, done: Done, refuse: Refuse) -> None:
        """Apply the plan of an earlier apply: that one, or the newest that is another than the present one."""
        present = self.base
        self._start("roll back", lambda: load_earlier(id, present), by, done, refuse)

    def _start(self, what: str, work: Callable[[], bytes], by: str, done: Done, refuse: Refuse) -> None:
        if (refusal := self._not_now(what)) is not None:
            refuse(refusal)
            return
        self._reading_for = by

        def loaded(found: Loaded) -> None:
            difference = diff(self.runs(), found.plan)
            if fault := self._fault(difference, found.plan):
                refused(ControlError("bad_request", fault))
            else:
                self._root.sockets.take_over(found.plan.sockets, lambda fault: listening(found, difference, fault))

        def listening(found: Loaded, difference: PlanDiff, fault: str) -> None:
            self._reading_for = ""
            if fault:
                refuse(ControlError("bad_request", fault))
            elif (refusal := self._not_now(what)) is not None:
                refuse(refusal)
            elif not difference:
                self._stay(found.plan.files, lambda: done(result_of(None, told(difference, found.plan))))
            else:
                self._begin(found, difference, by, done)

        def refused(error: ControlError) -> None:
            self._reading_for = ""
            refuse(error)

        self._read(work, loaded, refused)

    def _stay(self, files: tuple[str, ...], done: Callable[[], None]) -> None:
        """No process is to be another; but a reload may have told the supervisors of what these files do not say."""
        held, base = self._held, replace(self.base, files=files)
        self._held = replace(held, base=base, reloaded=False, made={})
        if held.reloaded:
            self._root.tell_tree(base.root, (), done)
            self._root.hold_to(base, base)
            self._root.release_sockets()
        else:
            self._root.plan = base
            done()

    def _not_now(self, what: str) -> ControlError | None:
        if self.busy:
            applying = self.apply.record.id if self.apply is not None else None
            return ControlError("busy", f"cannot {what} now: {self.busy}", apply=applying)
        if self._root.reexec.under_way:
            return ControlError("busy", f"cannot {what} now: the daemon is re-executing itself")
        if self._root.state == "starting":
            return ControlError("busy", f"cannot {what} now: the daemon is starting; wait until it is ready")
        if self._root.state != "running":
            return ControlError("shutdown", f"cannot {what} now: the daemon is stopping")
        return None

    def _fault(self, difference: PlanDiff, plan: Plan) -> str:
        """Why the daemon cannot go there; empty when it can."""
        if difference.refused:
            return difference.refused
        known = places(self.runs().root)
        for name in places(plan.root):
            node = self._root.tree.nodes.get(name)
            if node is not None and node.added and name not in known:
                return (
                    f"{name} runs as a child that start_child has added to {node.parent}: "
                    "end it with terminate_child and delete_child, or give the one in the file another name"
                )
        return ""

    def _begin(self, found: Loaded, difference: PlanDiff, by: str, done: Done) -> None:
        root, plan = self._root, found.plan
        held = self._held = replace(self._held, newest=max(self._held.newest, found.newest))
        if held.present is None:  # what it was started with, so that there is a way back
            id = self._next_id()
            self._held = replace(self._held, present=id)
            self._keep(Record(id, held.started_at, "start", self.base.files, applies.STARTED, self.base))
        summary = told(difference, plan)
        record = Record(
            self._next_id(), time.time(), by, plan.files, applies.UNDER_WAY, plan,
            back_to=found.back_to, changes=summary["changes"], tables=difference.tables,
        )  # fmt: skip
        self._keep(record)
        text = f"apply {record.id} by {by}: {in_short(difference)}"
        if found.back_to is not None:
            text = f"apply {record.id} by {by} brings apply {found.back_to} back: {in_short(difference)}"
        cause = root.books.apply_event("apply_started", text)
        before = self.runs()
        if self._held.reloaded:  # the way begins where the processes are
            root.tell_tree(before.root, (), lambda: None)
        down = self._down(before.root)
        state = deploy.begin(before.root, plan.root, down, frozenset(difference.again), self._serial)
        self.apply = Apply(record, before, state, cause, root.loop.now())
        self._answer = done
        root.hold_to(replace(plan, root=before.root), plan, on_the_way=True)
        self._feed(deploy.Begun())

    def _next_id(self) -> int:
        self._held = replace(self._held, newest=self._held.newest + 1)
        return self._held.newest

    def _down(self, before: SupervisorSpec) -> frozenset[str]:
        """Who has no process and waits for none: an apply starts nobody whom it does not find running."""
        nodes = self._root.tree.nodes
        names = (name for name in places(before) if name in nodes)
        return frozenset(
            name for name in names if nodes[name].pid is None and nodes[name].state in ("stopped", "failed")
        )

    # what the decisions ask for

    def _feed(self, event: deploy.Event) -> None:
        if self.apply is None:
            return
        state, effects = deploy.step(self.apply.state, event)
        self.apply = replace(self.apply, state=state)
        self._do_all(effects)

    def _do_all(self, effects: Sequence[deploy.Effect]) -> None:
        """In order; what comes after the decision to go back waits for the sockets of before."""
        for number, effect in enumerate(effects, 1):
            if isinstance(effect, deploy.RollBack):
                self._rolling_back(effect, effects[number:])
                return
            self._do(effect)

    def _do(self, effect: deploy.Effect) -> None:
        match effect:
            case deploy.StopChild():
                self._stop(effect)
            case deploy.Tell():
                self._root.tell_tree(effect.tree, effect.supervisors, lambda: self._told(effect.serial))
            case deploy.StartChild():
                self._restart(effect)
            case deploy.Trust():
                above = [(name or None, ProbationOver) for name in effect.supervisors]
                self._root.asking.all_of(above, lambda _refused: self._feed(deploy.Answered(effect.serial)))
            case deploy.Arm():
                self._root.loop.call_later(effect.after_s, lambda: self._feed(deploy.Elapsed(effect.serial)))
            case deploy.Hold():
                text = f"{', '.join(effect.names)} watched for {effect.hold_s:g} s"
                self._say("apply_holding", text)
            case deploy.Finish():
                self._finish(effect)

    def _ask(
        self, supervisor: str, name: str, kind: Callable[[int, str], Any], answer: Callable[[ReplyUp], None]
    ) -> None:
        assert self.apply is not None
        by, cause = f"apply {self.apply.record.id}", self.apply.cause
        self._root.asking.ask(
            supervisor or None, lambda number: kind(number, name), answer, by=by, about=name, cause=cause
        )

    def _stop(self, effect: deploy.StopChild) -> None:
        supervisor, name = effect.member.supervisor, effect.member.name
        answered = deploy.Answered(effect.serial)

        def stopped(reply: ReplyUp) -> None:
            if effect.gone and reply.code is None:
                self._ask(supervisor, name, DeleteChild, gone)
            else:
                gone(reply)

        def gone(_reply: ReplyUp) -> None:
            if effect.gone:  # its supervisor may have no slot to forget, or no process to say so
                self._root.tree.leave(supervisor or None, name)
            self._feed(answered)

        self._ask(supervisor, name, TerminateChild, stopped)

    def _restart(self, effect: deploy.StartChild) -> None:
        self._ask(
            effect.member.supervisor,
            effect.member.name,
            lambda number, name: RestartChild(number, name, effect.probation),
            lambda reply: self._started(effect, reply),
        )

    def _told(self, serial: int) -> None:
        self._tells += 1
        self._feed(deploy.Answered(serial))

    def _started(self, effect: deploy.StartChild, reply: ReplyUp) -> None:
        fresh = self._began.get(effect.member.name, -1) >= self._tells
        self._feed(deploy.Answered(effect.serial, reply.code, reply.message, fresh))

    def _say(self, event: str, text: str, cause: int | None = None) -> int:
        assert self.apply is not None
        record = self.apply.record
        return self._root.books.apply_event(
            event, f"apply {record.id}: {text}", self.apply.cause if cause is None else cause
        )

    def _rolling_back(self, effect: deploy.RollBack, then: Sequence[deploy.Effect]) -> None:
        assert self.apply is not None
        cause = self._say("apply_rollback", f"the plan of before comes back, because {effect.reason}", self._failed_at)
        self.apply = replace(self.apply, cause=cause)
        before, id = self.apply.before, self.apply.record.id
        self._root.hold_to(replace(before, root=self._root.plan.root), before, on_the_way=True)

        def listening_again(fault: str) -> None:
            """Most were held all the while, but for those whose addresses had been changed."""
            if fault:
                self._root.books.daemon_event("fault", fault)
            if self._is_under_way(id):  # unless the daemon ends meanwhile
                self._do_all(then)

        self._root.sockets.take_over(before.sockets, listening_again)

    _failed_at: int | None = None
    """The event of the failure that is being handled."""

    def _finish(self, effect: deploy.Finish) -> None:
        apply = self.apply
        assert apply is not None
        seconds = round(self._root.loop.now() - apply.began_s, 3)
        record = replace(
            apply.record,
            outcome=str(effect.outcome), reason=effect.reason, failures=effect.failures, seconds=seconds,
        )  # fmt: skip
        what = "; ".join((effect.reason, *effect.failures)) or f"all is changed, in {seconds:.2g} s"
        self._say(ENDED[effect.outcome], what)
        if effect.outcome is Outcome.DONE:
            self._held = replace(
                self._held,
                base=record.plan, present=record.id, back_to=record.back_to, reloaded=False, made={},
            )  # fmt: skip
        if effect.outcome is not Outcome.INTERRUPTED:
            now = self.base if effect.outcome is Outcome.DONE else apply.before
            self._root.hold_to(now, now)
        self.apply, self._serial = None, apply.state.serial  # what it has asked and armed may still be answered
        self._began.clear()
        self._root.release_sockets()
        self._answer_kept(record)

    def _answer_kept(self, record: Record) -> None:
        """Answer when it is on disk: who asks next, for all applies or for the way back, finds it there."""
        answer, result = self._answer, result_of(record, told_of(record))
        if record.outcome == Outcome.INTERRUPTED:  # the daemon ends, and may not come to that
            self._keep(record)
            answer(result)
        else:
            self._keep(record, lambda fault: answer({**result, "notes": [fault] if fault else []}))

    # what happens meanwhile

    def heard(self, report: Report, name: str, event: dict[str, Any]) -> None:
        """A supervisor has told of a child: it may be one that was to be better."""
        if self.apply is None and report.event == "starting":
            self._held = self._held.started(self._root.tree, name)
        if self.apply is None or not report.child:
            return
        if report.event == "starting":
            self._began[name] = self._tells
        node = self._root.tree.nodes.get(name)
        if report.event == "ready" and node is not None and node.kind is Kind.SUPERVISOR:
            self._feed(deploy.SupervisorUp(name))
        elif report.event in ("start_failed", "unhealthy", "exited") and node is not None:
            unasked = isinstance(node.spec, WorkerSpec) and node.spec.restart is Restart.PERMANENT
            if report.event != "exited" or unasked or node.state == "failed":
                self._failed_at = event["seq"]
                self._feed(deploy.ChildFailed(name, why.sentence(event)))
                self._failed_at = None

    def wished(self, name: str, *, up: bool) -> None:
        """An operator has asked for `name`, and all below it, to be stopped, or to be started."""
        names = frozenset(node.name for node in self._root.tree.subtree(name))
        self._feed(deploy.Wish(names, up))

    def abandon(self, text: str) -> None:
        """The daemon is ending: so does an apply."""
        self._feed(deploy.Abandoned(text))

    # keeping

    def _keep(self, record: Record, kept: Callable[[str], None] = lambda _fault: None) -> None:
        """
        Write it down, one after the other: the last word about an apply must be the last.

        `kept` gets the reason why it is not, empty when it is.
        """
        self._unwritten.append((record, kept))
        if not self._writing:
            self._write()

    def _write(self) -> None:
        self._writing = bool(self._unwritten)
        if not self._writing:
            return
        record, kept = self._unwritten.popleft()
        state_dir = record.plan.daemon.state_dir

        def work() -> bytes:
            applies.write(state_dir, record)
            return b""

        def written(result: bytes | errand.Failed) -> None:
            fault = f"apply {record.id} cannot be kept: {result}" if isinstance(result, errand.Failed) else ""
            if fault:
                self._root.books.daemon_event("fault", fault)
            kept(fault)
            self._write()

        self._root.errands.run(work, written)


def told(found: PlanDiff, plan: Plan) -> dict[str, Any]:
    """A difference as it is answered."""
    children: list[dict[str, Any]] = msgspec.to_builtins(found.children)
    for child in children:
        for change in child["why"]:
            del change["field"]
    return {"files": list(plan.files), "changes": children, "tables": list(found.tables)}


def told_of(record: Record) -> dict[str, Any]:
    """The same of an apply that is kept."""
    return {"files": list(record.files), "changes": record.changes, "tables": list(record.tables)}


def result_of(record: Record | None, summary: dict[str, Any]) -> dict[str, Any]:
    """What an apply answers; None for one that had nothing to do."""
    summary = {**summary, "notes": []}
    if record is None:
        return {"id": None, "outcome": "unchanged", "reason": "", "failures": [], "seconds": 0.0, **summary}
    told = {"id": record.id, "outcome": record.outcome, "reason": record.reason, "failures": list(record.failures)}
    return {**told, "seconds": record.seconds, **summary}


def in_short(found: PlanDiff) -> str:
    """`2 restart, 1 start, 3 change, [hub]`."""
    counted = Counter(str(child.action) for child in found.children)
    return ", ".join((*(f"{number} {word}" for word, number in counted.items()), *(f"[{t}]" for t in found.tables)))


def unreadable(result: errand.Failed) -> ControlError:
    """What is answered where files are wrong."""
    if not result.problems:
        return ControlError("bad_request", str(result))
    return ControlError("bad_request", f"nothing has changed: {result}", problems=result.problems)
