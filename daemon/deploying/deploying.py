"""
What clients ask for: what would be done, doing it, and what was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from regrow.config.diff import PlanDiff
from regrow.config.spec import Plan
from regrow.daemon.control import ControlError
from regrow.daemon.core import deploy
from regrow.daemon.core.deploy import Outcome
from regrow.daemon.core.effects import Report
from regrow.daemon.deploying import records
from regrow.daemon.deploying.answers import Done, Refuse, in_short, result_of, told, told_of
from regrow.daemon.deploying.apply import Apply
from regrow.daemon.deploying.deployed import Deployed
from regrow.daemon.deploying.keeping import Keeping
from regrow.daemon.deploying.plans import Loaded, Plans, Take
from regrow.daemon.deploying.records import Record

if TYPE_CHECKING:
    from regrow.daemon.root import Root


Told = TypeVar("Told")


class Deploying:
    """Of one root; one apply at a time."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._plans = Plans(root, Deployed(root.plan, time.time()))
        self._keeping = Keeping(root)
        self.apply: Apply | None = None
        self._reading_for = ""
        self._cancelled: Done | None = None

    @property
    def _held(self) -> Deployed:
        return self._plans.held

    def carried(self) -> Deployed:
        """What goes through an exec of the root; there is none while an apply is under way."""
        return self._held

    def take_up(self, held: Deployed) -> None:
        """Go on with that."""
        self._plans.held = held

    def look_back(self) -> None:
        """A daemon begins: an earlier one may have ended in the middle of an apply."""
        self._keeping.look_back(self._held.started_at)

    @property
    def busy(self) -> str:
        """Who is at it, and how far; empty when nobody is."""
        if self.apply is not None:
            return str(self.apply)
        return f"an apply by {self._reading_for} is reading its files" if self._reading_for else ""

    def claims(self, name: str) -> bool:
        """Whether a name is about to be somebody's."""
        return self.apply is not None and name in deploy.names_in(self.apply.state)

    # asking

    def plan(self, files: Sequence[str], done: Done, refuse: Refuse) -> None:
        """Say what an apply of these files, of the daemon's own where there are none, would do."""
        self._plans.tell(files, done, refuse)

    def load(self, files: Sequence[str], loaded: Take, refuse: Refuse) -> None:
        """Read files, the daemon's own where there are none."""
        self._plans.load(files, loaded, refuse)

    def list(self, done: Done, refuse: Refuse) -> None:
        """All applies that are kept, the oldest first."""
        self._keeping.list(lambda: self._held.present, done, refuse)

    # doing

    def start(self, files: Sequence[str], by: str, done: Done, refuse: Refuse) -> None:
        """Apply these files, the daemon's own where there are none. `done` gets what came of it."""
        self._start("apply", partial(self._plans.load, files), by, done, refuse)

    def go_back(self, id: int | None, by: str, done: Done, refuse: Refuse) -> None:
        """Apply the plan of an earlier apply: that one, or the newest that is another than the present one."""
        self._start("roll back", partial(self._plans.load_earlier, id), by, done, refuse)

    def cancel(self, by: str, done: Done, refuse: Refuse, *, wait: bool) -> None:
        """End the apply that is under way: the plan of before comes back. `wait`: answer when it is over."""
        if self.apply is None:
            why = f"{self.busy}, and has changed nothing yet: ask again" if self.busy else "no apply is under way"
            refuse(ControlError("busy" if self.busy else "not_found", f"cannot cancel: {why}"))
            return
        apply, id = self.apply, self.apply.record.id
        if apply.state.back:
            text = f"cannot cancel apply {id}: it is rolled back already ({apply.state.reason}); {apply}"
            refuse(ControlError("busy", text, apply=id))
            return
        self._root.forget_hang_up()  # it would have the same files applied again
        self._cancelled = done if wait else None
        apply.cancel(by)
        if not wait:
            done({"id": id, "outcome": "requested", "reason": apply.state.reason, "waiting": apply.waits_for()})

    def _start(self, what: str, read: Callable[[Take, Refuse], None], by: str, done: Done, refuse: Refuse) -> None:
        if (refusal := self._not_now(what)) is not None:
            refuse(refusal)
            return
        self._reading_for = by
        done, refuse = self._followed(done), self._followed(refuse)

        def compared(found: Loaded, difference: PlanDiff) -> None:
            self._root.sockets.take_over(found.plan.sockets, lambda fault: listening(found, difference, fault))

        def listening(found: Loaded, difference: PlanDiff, fault: str) -> None:
            self._reading_for = ""
            if fault:
                refuse(ControlError("bad_request", fault))
            elif (refusal := self._not_now(what)) is not None:
                refuse(refusal)
            elif not difference:
                answer = self._plans.told(difference, found.plan)
                self._stay(found.plan.files, lambda: done(result_of(None, answer)))
            else:
                self._begin(found, difference, by, done)

        def refused(error: ControlError) -> None:
            self._reading_for = ""
            refuse(error)

        read(self._plans.comparing(compared, refused), refused)

    def _followed(self, answer: Callable[[Told], None]) -> Callable[[Told], None]:
        """An answer, after which the next one may begin."""

        def then(told: Told) -> None:
            answer(told)
            self._root.hang_up_again()

        return then

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

    def _stay(self, files: tuple[str, ...], done: Callable[[], None]) -> None:
        """No process is to be another; but a reload may have told the supervisors of what these files do not say."""
        reloaded = self._held.reloaded
        self._plans.held = held = self._held.stayed(files)
        if reloaded:
            self._root.replanning.tell_tree(held.base.root, (), done)
            self._root.replanning.hold_to(held.base, held.base)
            self._root.release_sockets()
        else:
            self._root.plan = held.base
            done()

    def _begin(self, found: Loaded, difference: PlanDiff, by: str, done: Done) -> None:
        root, plan = self._root, found.plan
        self._plans.held = self._held.knowing(found.newest)
        if self._held.present is None:  # what it was started with, so that there is a way back
            id = self._next_id()
            self._plans.held = held = self._held.numbered(id)
            self._keeping.keep(Record(id, held.started_at, "start", held.base.files, records.STARTED, held.base))
        record = Record(
            self._next_id(), time.time(), by, plan.files, records.UNDER_WAY, plan,
            back_to=found.back_to, changes=told(difference, plan)["changes"], tables=difference.tables,
        )  # fmt: skip
        what = f" brings apply {found.back_to} back" if found.back_to is not None else ""
        cause = root.books.apply_event("apply_started", f"apply {record.id} by {by}{what}: {in_short(difference)}")
        before = self._plans.runs()
        if self._held.reloaded:  # the way begins where the processes are
            root.replanning.tell_tree(before.root, (), lambda: None)
        again = frozenset(difference.again)
        self.apply = apply = Apply(root, record, before, again, cause, lambda ended: self._over(ended, before, done))
        self._keeping.keep(record, lambda _fault: apply.begin())  # its number is never another's, whatever ends us

    def _next_id(self) -> int:
        self._plans.held = self._held.knowing(self._held.newest + 1)
        return self._held.newest

    def _over(self, record: Record, before: Plan, done: Done) -> None:
        if record.outcome == Outcome.DONE:
            self._plans.held = self._held.applied(record.plan, record.id, record.back_to)
        elif record.outcome == Outcome.FAILED and self.apply is not None:
            self._plans.lose(record.id, self.apply.lost())
        if record.outcome != Outcome.INTERRUPTED:
            now = record.plan if record.outcome == Outcome.DONE else before
            self._root.replanning.hold_to(now, now)
        self.apply = None
        self._root.release_sockets()
        self._answer_kept(record, done)

    def _answer_kept(self, record: Record, done: Done) -> None:
        """Answer when it is on disk: who asks next, for all applies or for the way back, finds it there."""
        result, cancelled, self._cancelled = result_of(record, told_of(record)), self._cancelled, None

        def answer(fault: str = "") -> None:
            told = {**result, "notes": [fault] if fault else []}
            done(told)
            if cancelled is not None:
                cancelled(told)

        if record.outcome == Outcome.INTERRUPTED:  # the daemon ends, and may not come to that
            self._keeping.keep(record)
            answer()
        else:
            self._keeping.keep(record, answer)

    # what happens meanwhile

    def reloaded(self) -> None:
        """Supervisors are told of other files than those that were applied."""
        self._plans.held = self._held.told_others()

    def heard(self, report: Report, name: str, event: dict[str, Any]) -> None:
        """A supervisor has told of a child."""
        if self.apply is not None:
            if report.child:
                self.apply.heard(report, name, event)
        elif report.event == "starting":
            self._plans.held = self._held.started(self._root.tree, name)

    def wished(self, name: str, *, up: bool) -> None:
        """An operator has asked for `name`, and all below it, to be stopped, or to be started."""
        if self.apply is not None:
            self.apply.wished(frozenset(node.name for node in self._root.tree.subtree(name)), up=up)

    def abandon(self, text: str) -> None:
        """The daemon is ending: so does an apply."""
        if self.apply is not None:
            self.apply.abandon(text)
