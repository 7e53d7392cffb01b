"""A tree that does what an apply asks of it, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from regrow.config.spec import ChildSpec, SupervisorSpec, WorkerSpec
from regrow.daemon.core import deploy
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


class World:
    """`bad` are the names of workers whose new command cannot be started."""

    def __init__(self, root: SupervisorSpec, bad: frozenset[str] = frozenset()) -> None:
        self.sups: dict[str, Sup] = {}
        self.bad = bad
        self.began: dict[str, int] = {}
        self.tells = 0
        top = SupervisorSpec("", children=(root,))
        self.sups[""] = Sup(self, replace(top, children=()))
        self.sups[""].tell(top)
        assert self.start(Member("", root.name)) is None

    def run(self, above: Sup, spec: ChildSpec) -> None:
        assert all(spec.name not in sup.running for sup in self.sups.values()), f"two of {spec.name} run"
        above.running[spec.name] = spec
        self.began[spec.name] = self.tells
        if isinstance(spec, SupervisorSpec):
            self.sups[spec.name] = Sup(self, spec)

    def start(self, member: Member) -> Code | None:
        """RestartChild."""
        sup = self.sups.get(member.supervisor)
        if sup is None:
            return Code.NOPROC
        if member.name not in sup.slots:
            return Code.NOT_FOUND
        if member.name in sup.running:
            return Code.RUNNING
        spec = sup.slots[member.name]
        if isinstance(spec, WorkerSpec) and spec.name in self.bad and spec.command == ("new",):
            return Code.START_FAILED
        self.run(sup, spec)
        return None

    def stop(self, member: Member, *, gone: bool) -> None:
        """TerminateChild, and DeleteChild where it is to be gone."""
        sup = self.sups.get(member.supervisor)
        if sup is not None:
            self._end(sup, member.name)
            if gone:
                sup.slots.pop(member.name, None)

    def _end(self, sup: Sup, name: str) -> None:
        sup.running.pop(name, None)
        below = self.sups.pop(name, None)
        if below is not None:
            for child in list(below.running):
                self._end(below, child)

    def tell(self, tree: SupervisorSpec, supervisors: tuple[str, ...]) -> None:
        """Every supervisor that runs gets its new spec; those that are named must be told, where they run."""
        self.tells += 1
        self.sups[""].tell(SupervisorSpec("", children=(tree,)))
        for spec in supervisors_in(tree):
            if (sup := self.sups.get(spec.name)) is not None:
                sup.tell(spec)

    def crash(self, name: str) -> None:
        """A supervisor is killed, and begins anew with the list that the one above has for it."""
        above = next((sup for sup in self.sups.values() if name in sup.running), None)
        if above is None:
            return
        self._end(above, name)
        self.run(above, above.slots[name])

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
    "cancel": lambda who: deploy.Cancelled(f"cancelled by {who}"),
}


def play(world: World, state: deploy.Deploy, disturb: Iterator[str]) -> tuple[deploy.Deploy, deploy.Finish]:
    """
    Carry an apply out to its end.

    `disturb` says before each answer what happens: "crash NAME", "fail NAME", "cancel WHO", or nothing.
    """
    state, effects = deploy.step(state, deploy.Begun())
    todo = list(effects)
    for _ in range(2000):
        effect = todo.pop(0)
        event: deploy.Event | None = None
        match effect:
            case deploy.Finish():
                assert not todo
                return state, effect
            case deploy.StopChild():
                world.stop(effect.member, gone=effect.gone)
                event = deploy.Answered(effect.serial)
            case deploy.Tell():
                world.tell(effect.tree, effect.supervisors)
                event = deploy.Answered(effect.serial)
            case deploy.StartChild():
                code = world.start(effect.member)
                fresh = world.began.get(effect.member.name, -1) >= world.tells
                event = deploy.Answered(effect.serial, code, f"{effect.member.name}: {code}", fresh)
            case deploy.Trust():
                event = deploy.Answered(effect.serial)
            case deploy.Arm():
                event = deploy.Elapsed(effect.serial)
        for happens in (next(disturb, ""), ""):
            word, _, name = happens.partition(" ")
            if word == "crash":
                world.crash(name)
            elif word in MEANWHILE:
                state, more = deploy.step(state, MEANWHILE[word](name))
                todo = [*todo, *more]
        if event is not None:
            state, more = deploy.step(state, event)
            todo = [*todo, *more]
    raise AssertionError("it does not end")
