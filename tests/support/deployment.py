"""A tree that does what an apply asks of it, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from regrow.config.diff import needs_restart, places
from regrow.config.spec import ChildSpec, SupervisorSpec, WorkerSpec
from regrow.daemon.core import deploy, deploy_step
from regrow.daemon.core.anew import as_told
from regrow.daemon.core.effects import Code
from regrow.daemon.core.waves import Member


class Sup:
    """A supervisor that runs: its specs in order, and with what spec each child of it runs."""

    def __init__(self, world: World, spec: SupervisorSpec) -> None:
        self.spec = spec
        self.slots: dict[str, ChildSpec] = {child.name: child for child in spec.children}
        self.running: dict[str, ChildSpec] = {}
        for child in spec.children:
            world.run(self, child)

    def tell(self, spec: SupervisorSpec) -> None:
        """PlanChanged: known children keep their process, new ones are not started, missing ones stay."""
        new: dict[str, ChildSpec] = {child.name: child for child in spec.children}
        self.slots = {**new, **{name: old for name, old in self.slots.items() if name not in new}}
        self.spec = spec


class Away(NamedTuple):
    """Who has ended and is to begin anew: with `made`, where there is a process already."""

    above: Sup
    name: str
    made: ChildSpec | None


class World:
    """
    `bad` are the names of workers whose new command cannot be started: nothing but an apply is to try that.

    `away` are supervisors that have ended and are not back. Those on `probation` are not restarted; `proven` is what
    restarts may bring.
    """

    def __init__(self, root: SupervisorSpec, bad: frozenset[str] = frozenset()) -> None:
        self.sups: dict[str, Sup] = {}
        self.bad = bad
        self.began: dict[str, int] = {}
        self.tells = 0
        self.away: list[Away] = []
        self.probation: set[str] = set()
        self.proven = [places(root)]
        self.told: SupervisorSpec | None = None
        top = SupervisorSpec("", children=(root,))
        self.sups[""] = Sup(self, replace(top, children=()))
        self.sups[""].tell(top)
        assert self.start(Member("", root.name), probation=False) is None

    def run(self, above: Sup, spec: ChildSpec) -> None:
        assert all(spec.name not in sup.running for sup in self.sups.values()), f"two of {spec.name} run"
        assert not isinstance(spec, WorkerSpec) or self._can_start(spec), f"the bad {spec.name} uses up a limit"
        above.running[spec.name] = spec
        self.began[spec.name] = self.tells
        if isinstance(spec, SupervisorSpec):
            self.sups[spec.name] = Sup(self, spec)

    def start(self, member: Member, *, probation: bool) -> Code | None:
        """RestartChild."""
        sup = self.sups.get(member.supervisor)
        if sup is None:
            return Code.NOPROC
        if member.name not in sup.slots:
            return Code.NOT_FOUND
        if member.name in sup.running:
            return Code.RUNNING
        if any(one.above is sup and one.name == member.name for one in self.away):
            return Code.RESTARTING
        spec = sup.slots[member.name]
        if not self._can_start(spec):
            return Code.START_FAILED
        self.probation = (self.probation | {spec.name}) if probation else (self.probation - {spec.name})
        self.run(sup, spec)
        return None

    def _can_start(self, spec: ChildSpec) -> bool:
        if isinstance(spec, SupervisorSpec):
            return all(self._can_start(child) for child in spec.children)
        return spec.name not in self.bad or spec.command != ("new",)

    def stop(self, member: Member, *, gone: bool) -> None:
        """TerminateChild, and DeleteChild where it is to be gone."""
        sup = self.sups.get(member.supervisor)
        if sup is not None:
            self._end(sup, member.name)
            self.away = [one for one in self.away if one.above is not sup or one.name != member.name]
            if gone:
                sup.slots.pop(member.name, None)

    def _end(self, sup: Sup, name: str) -> None:
        sup.running.pop(name, None)
        below = self.sups.pop(name, None)
        if below is not None:
            for child in list(below.running):
                self._end(below, child)

    def tell(self, tree: SupervisorSpec, anew: Mapping[str, SupervisorSpec]) -> None:
        """Every supervisor that runs gets its new spec, with what those below it would begin with."""
        self.sups[""].tell(as_told(SupervisorSpec("", children=(tree,)), anew))
        for spec in supervisors_in(tree):
            if (sup := self.sups.get(spec.name)) is not None:
                sup.tell(as_told(spec, anew))

    def has_told(self, tree: SupervisorSpec) -> None:
        """Everybody has answered."""
        self.tells += tree != self.told
        self.told = tree

    def kill(self, name: str, *, made: bool = False) -> bool:
        """
        A supervisor ends; False where it does not run. It begins anew by the list that the one above has then, or has
        now where it is `made` already, and nobody has heard of that.
        """
        above = next((sup for sup in self.sups.values() if name in sup.running), None)
        if above is None or name not in self.sups or above is self.sups[""]:
            return False
        self._end(above, name)
        if name in self.probation:
            return True
        self.away.append(Away(above, name, above.slots[name] if made else None))
        return True

    def come_back(self, *, made: bool = False) -> list[str]:
        """Those who are away, or only those `made`, begin anew, unless those above have ended; who is up."""
        self.away = [one for one in self.away if one.above in self.sups.values()]
        back = [one for one in self.away if one.made is not None or not made]
        self.away = [one for one in self.away if one not in back]
        up: list[str] = []
        for one in back:
            spec = one.made or one.above.slots[one.name]
            if not self._on_probation(one.above.spec.name):
                self._assert_proven(spec)
            self.run(one.above, spec)
            up += [below.name for below in supervisors_in(spec)] if isinstance(spec, SupervisorSpec) else []
        return up

    def _on_probation(self, name: str) -> bool:
        above = next((sup for sup in self.sups.values() if name in sup.running), None)
        return above is not None and (name in self.probation or self._on_probation(above.spec.name))

    def _assert_proven(self, spec: ChildSpec) -> None:
        """What begins anew is what was before."""
        if isinstance(spec, SupervisorSpec):
            for child in spec.children:
                self._assert_proven(child)
            return
        was = [tree[spec.name].spec for tree in self.proven if spec.name in tree]
        assert any(not needs_restart(each, spec) for each in was), f"{spec.name} begins anew with what is new"

    def trust(self, tree: SupervisorSpec) -> None:
        """All is proven."""
        self.tell(tree, {})
        self.probation.clear()
        self.proven.append(places(tree))

    def runs(self) -> dict[str, tuple[str, ChildSpec]]:
        """Who runs, under whom, with what spec; supervisors with what they were told last."""
        found: dict[str, tuple[str, ChildSpec]] = {}
        for name, sup in self.sups.items():
            for child, spec in sup.running.items():
                found[child] = (name, self.sups[child].spec if child in self.sups else spec)
        return found


def supervisors_in(tree: SupervisorSpec) -> Iterator[SupervisorSpec]:
    """All of them, the top first."""
    yield tree
    for child in tree.children:
        if isinstance(child, SupervisorSpec):
            yield from supervisors_in(child)


MEANWHILE: dict[str, Callable[[str], deploy.Event]] = {
    "fail": lambda name: deploy.ChildFailed(name, f"{name} failed"),
    "stop": lambda name: deploy.Wish(frozenset({name}), up=False),
    "cancel": lambda who: deploy.Cancelled(f"cancelled by {who}"),
}


def play(world: World, state: deploy.Deploy, disturb: Iterator[str]) -> tuple[deploy.Deploy, deploy.Finish]:
    """
    Carry an apply out to its end.

    `disturb` says before each answer what happens: "crash NAME" of a supervisor that is back at once, "kill NAME" of
    one that is not, "make NAME" of one whose new process is not heard of, "back" for all of these, "fail NAME",
    "stop NAME" for an operator, "cancel WHO", or nothing.
    """
    state, effects = deploy_step.step(state, deploy.Begun())
    todo = list(effects)
    for _ in range(2000):
        effect = todo.pop(0)
        if isinstance(effect, deploy.Finish):
            assert not todo
            world.come_back()
            return state, effect
        event = answer(world, effect)
        if isinstance(event, deploy.Answered) and event.code is Code.NOPROC:  # that is heard before the one is back
            state, more = deploy_step.step(state, event)
            todo, event = [*todo, *more], None
        for happens in (next(disturb, ""), ""):
            for meanwhile in disturbed(world, happens, waits=state.phase is deploy.Phase.RECOVERING):
                state, more = deploy_step.step(state, meanwhile)
                todo = [*todo, *more]
        if isinstance(effect, deploy.Tell):  # those, too, who are back meanwhile; and who is made by now is told of
            for name in world.come_back(made=True):
                state, more = deploy_step.step(state, deploy.SupervisorUp(name))
                todo = [*todo, *more]
            world.tell(effect.tree, effect.anew)
            world.has_told(effect.tree)
        if event is not None:
            state, more = deploy_step.step(state, event)
            todo = [*todo, *more]
    raise AssertionError("it does not end")


def answer(world: World, effect: deploy.Effect) -> deploy.Event | None:
    """Do what is asked."""
    match effect:
        case deploy.StopChild():
            world.stop(effect.member, gone=effect.gone)
            return deploy.Answered(effect.serial)
        case deploy.Tell():
            world.tell(effect.tree, effect.anew)
            return deploy.Answered(effect.serial)
        case deploy.StartChild():
            code = world.start(effect.member, probation=effect.probation)
            fresh = world.began.get(effect.member.name, -1) >= world.tells
            return deploy.Answered(effect.serial, code, f"{effect.member.name}: {code}", fresh)
        case deploy.Trust():
            world.trust(effect.tree)
            return deploy.Answered(effect.serial)
        case deploy.Arm():
            return deploy.Elapsed(effect.serial)
    return None


def disturbed(world: World, happens: str, *, waits: bool) -> Iterator[deploy.Event]:
    """What is heard of something that happens by itself; who is waited for is back."""
    word, _, name = happens.partition(" ")
    if word in ("crash", "kill", "make") and world.kill(name, made=word == "make"):
        yield deploy.ChildFailed(name, f"{name} ended")
    if word in ("crash", "back") or waits:
        yield from map(deploy.SupervisorUp, world.come_back())
    if word == "stop":
        above = next(sup for sup in world.sups.values() if name in sup.running)
        world.stop(Member(above.spec.name, name), gone=False)
    if word in MEANWHILE:
        yield MEANWHILE[word](name)
