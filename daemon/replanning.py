"""
Another plan for a tree that runs: its supervisors are told their specs, regrow's own workers are made those that are
wanted now, and who may talk is let in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from regrow.config import internal
from regrow.config.diff_settings import settings_diff
from regrow.config.spec import Plan, SupervisorSpec, WorkerSpec
from regrow.daemon import commons, reload, system
from regrow.daemon.channel_messages import AdmitDown
from regrow.daemon.core.events import CountChildren, PlanChanged, RestartChild, TerminateChild
from regrow.daemon.footing import Footing
from regrow.daemon.sockets import differing

if TYPE_CHECKING:
    from regrow.daemon.root import Root


class Replanning:
    """
    Of one root. `own` is regrow's own part of the tree, as `wanted` has it, `top` the root's own supervisor; `members`
    are who may talk.
    """

    def __init__(self, root: Root, on: Footing) -> None:
        self._root = root
        self.own, self.top, self.wanted, self.members = on.system, on.top, on.wanted, on.members
        self._begins: Mapping[str, SupervisorSpec] = {}

    def take_over(self, plan: Plan, done: Callable[[Any], None]) -> None:
        """What a reload has read; `done` gets what has changed, and what was refused, when all have heard of it."""
        changes = reload.changes(self._root.tree, plan.root, self._root.books.incarnation_of)
        told: dict[str, list[str]] = {"supervisors": [name for name, _ in changes if name]}
        if sockets := differing(self._root.plan.sockets, plan.sockets):
            told["sockets"] = sockets
        if settings := [one.table for one in settings_diff(self._root.plan, plan)]:
            told["tables"] = settings
        self._root.deploying.reloaded()
        before = self.members
        self.hold_to(plan, plan)

        def answered(refused: list[str]) -> None:
            if refused:
                told["refused"] = refused
            self._root.asking.all_of(heard, lambda _refused: done(told))

        # Whom agents admit is told without an answer; what is asked behind it is answered when that was heard.
        heard = [] if self.members == before else [(name, CountChildren) for name in self._root.tree.supervisors()]
        self._root.asking.all_of(changes, answered)

    def hold_to(self, plan: Plan, wanted: Plan, *, on_the_way: bool = False) -> None:
        """From now on this is the plan; regrow's own workers, and who may talk, are those of `wanted`, or will be."""
        self._root.plan = plan
        if not on_the_way:
            self._begins = {}
        workers = [*commons.workers_in(wanted.root), *self._root.tree.workers()]
        now = system.wanted(wanted)
        if on_the_way:
            now = system.between(self.wanted, now)
        self._provide(system.kept(now, self.wanted), commons.members(plan.access, workers))

    def tell_tree(
        self,
        tree: SupervisorSpec,
        forced: Collection[str],
        done: Callable[[], None],
        begins: Mapping[str, SupervisorSpec] = {},
    ) -> None:
        """
        Give every supervisor what `tree` has for it: the next step of an apply. `forced` are told in any case; `begins`
        has those that would not begin anew with what `tree` says.
        """
        used = self._root.books.incarnation_of
        changes = reload.changes(self._root.tree, tree, used, forced=forced, applied=True, begins=begins)
        self._root.plan, self._begins = replace(self._root.plan, root=tree), begins
        top = system.top_spec(begins.get(tree.name, tree), self.own)
        if top != self.top or "" in forced:
            self.top = top
            numbers = reload.numbers(self._root.tree, top, used)
            changes.insert(0, (None, lambda number: PlanChanged(number, top, numbers, applied=True)))
        self._root.tree.replan(tree, self.own)
        away = frozenset(node.name for node in self._root.tree.nodes.values() if node.pid is None)
        self._root.asking.all_of(changes, lambda _refused: self._tell_late(tree, away, done))

    def _tell_late(self, tree: SupervisorSpec, away: frozenset[str], done: Callable[[], None]) -> None:
        """Who was away and is back may have begun before the one above was told."""
        if tree is not self._root.plan.root:  # the way back has begun meanwhile
            done()
            return
        nodes = self._root.tree.nodes
        back = frozenset(name for name in away if name in nodes and nodes[name].pid is not None)
        used, begins = self._root.books.incarnation_of, self._begins
        changes = reload.changes(self._root.tree, tree, used, forced=back, applied=True, begins=begins) if back else []
        if changes:
            self._root.asking.all_of(changes, lambda _refused: self._tell_late(tree, away - back, done))
        else:
            done()

    def _provide(self, wanted: system.Wanted, members: commons.Members) -> None:
        """Have what is wanted now, and let those in who may talk; agents that run do not change their minds."""
        admitted = self._admit(members)
        own = system.system_spec(self._root.plan.daemon, wanted)
        before, self.own, self.wanted = self.own, own, wanted
        top = system.top_spec(self._begins.get(self._root.plan.root.name, self._root.plan.root), own)
        if top != self.top:  # what a crash of a subtree would bring back
            self.top = top
            self._root.tree.replan(self._root.plan.root, own)
            self._root.asking.tell(None, lambda number: PlanChanged(number, top))
        if own != before:
            self._root.asking.tell(internal.SYSTEM, lambda number: PlanChanged(number, own))
        for name, known in system.to_restart(before, own, admitted=admitted):
            self._start_anew(name, known)

    def _start_anew(self, name: str, known: bool) -> None:
        """Have one of regrow's own workers begin with what holds now."""
        if known:
            self._root.asking.tell(internal.SYSTEM, lambda number: TerminateChild(number, name))
        self._root.asking.tell(internal.SYSTEM, lambda number: RestartChild(number, name))

    def provide_for(self, agent: WorkerSpec) -> None:
        """The first agent of a tree, or of its user, may be one that comes at run time."""
        wanted, members = system.with_agents(self.wanted), self.members.with_agent(agent)
        if wanted != self.wanted or members != self.members:
            self._provide(wanted, members)

    def _admit(self, members: commons.Members) -> bool:
        """Whether others than before may use the names, the mailboxes and the hub from now on."""
        self._root.server.admit_by(self._root.plan.access, members.agents)
        if members == self.members:
            return False
        self.members = members
        if fault := commons.admit(self._root.plan.daemon.run_dir, members):
            self._root.books.daemon_event("fault", fault)
        self._root.runtime.relay.from_parent(AdmitDown(members.listed()))
        return True
