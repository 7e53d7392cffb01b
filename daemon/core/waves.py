"""
The way from one tree to another: which children are stopped and started in which order, and what holds in between.

First everything goes that is no longer where it was, in reverse start order; then what has changed is replaced and what
is new is started, in start order. Only then is the next wave begun.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.diff import Action, Difference, Place, needs_restart, places, tree_diff
from regrow.config.spec import ChildSpec, Strategy, SupervisorSpec, WorkerSpec


class Member(Struct, frozen=True):
    """A child and who is above it: "" for the supervisor at the top."""

    supervisor: str
    name: str


class Wave(Struct, frozen=True):
    """
    `stop` are stopped in this order, then `tree` holds, then `start` are started in this order, each ready before the
    next, and watched for `hold_s`. Where `gone`, `tree` holds before, and those who are stopped are forgotten.
    `fresh` are all whose process is a new one afterwards.
    """

    tree: SupervisorSpec
    stop: tuple[Member, ...] = ()
    gone: bool = False
    start: tuple[Member, ...] = ()
    fresh: tuple[str, ...] = ()
    hold_s: float = 0.0


def waves(
    before: SupervisorSpec,
    after: SupervisorSpec,
    down: Collection[str] = (),
    again: Collection[str] = (),
) -> tuple[Wave, ...]:
    """
    Every wave on the way.

    `down` have no process and are to have none: what holds for them changes, and they are not started. `again` are
    stopped, or may be, though `before` has them, and are started as `after` has them.
    """
    if before.name != after.name:
        return _all_anew(before, after)
    return tuple(_Way(before, after, down, again).waves())


def _all_anew(before: SupervisorSpec, after: SupervisorSpec) -> tuple[Wave, Wave]:
    """
    Another supervisor at the top: nothing of the one tree goes on in the other.

    As long as the old one runs, its supervisors are not told what is for their namesakes in the new one.
    """
    old, new = Member("", before.name), Member("", after.name)
    return Wave(replace(after, children=()), (old,), True), Wave(after, (), False, (new,), tuple(places(after)))


class _Way:
    def __init__(
        self, before: SupervisorSpec, after: SupervisorSpec, down: Collection[str], again: Collection[str]
    ) -> None:
        self._before, self._after = before, after
        self._old, self._new = places(before), places(after)
        self._found = {found.name: found for found in tree_diff(before, after)}
        for name in again:
            self._once_more(name)
        self._off = {
            name for name, place in self._new.items() if any(above in down for above in (*place.above, name))
        }
        self._taken = set(self._off)

    def _once_more(self, name: str) -> None:
        """What is stopped is started, also where its spec is the same."""
        place = self._new.get(name)
        found = self._found.get(name)
        if place is None or name not in self._old or (found is not None and found.action is not Action.CHANGE):
            return
        for above in place.above:
            if above in self._found and self._found[above].action is not Action.CHANGE:
                return
        why = found.why if found is not None else ()
        self._found[name] = Difference(name, str(place.spec.kind), Action.RESTART, place.supervisor, why)
        for child, its in self._new.items():
            known = self._found.get(child)
            if name in its.above and (known is None or known.action is Action.CHANGE):
                self._found[child] = Difference(child, str(its.spec.kind), Action.RESTART, its.supervisor, because=name)

    def waves(self) -> Iterator[Wave]:
        gone = tuple(
            Member(self._old[name].supervisor, name)
            for name in reversed(self._old)
            if (found := self._found.get(name)) is not None and self._leaves(found)
        )
        first = self._tree()
        if gone or first != self._before:
            yield Wave(first, gone, bool(gone))
        pending = [name for name in self._new if self._is_due(name)]
        while pending:
            some = self._together(pending)
            del pending[: len(some)]
            place = self._new[some[0]]
            if isinstance(place.spec, WorkerSpec):
                yield from self._workers(some, place.spec)
            else:
                yield self._wave(some)

    @staticmethod
    def _leaves(found: Difference) -> bool:
        return found.action is Action.MOVE or (found.action is Action.STOP and not found.because)

    def _is_due(self, name: str) -> bool:
        """Whether it has to be started by itself, and not with a supervisor above it."""
        found = self._found.get(name)
        if found is None or name in self._off or found.action in (Action.CHANGE, Action.STOP):
            return False
        return not found.because

    def _together(self, pending: list[str]) -> list[str]:
        """
        The first of `pending`, and those after it that belong to it: the replicas of its group; under a group strategy
        all of its siblings, for what depends on a child is stopped before it and started after it.
        """
        first = self._new[pending[0]]
        if not isinstance(first.spec, WorkerSpec):
            return pending[:1]
        some = pending[:1]
        for name in pending[1:]:
            place = self._new[name]
            if not isinstance(place.spec, WorkerSpec) or place.supervisor != first.supervisor:
                break
            if not self._same_group(first.spec, place.spec) and not self._depends(first, place):
                break
            some.append(name)
        return some

    @staticmethod
    def _same_group(one: WorkerSpec, other: WorkerSpec) -> bool:
        return one.index is not None and other.index is not None and one.group == other.group

    def _depends(self, one: Place, other: Place) -> bool:
        above = self._new[one.supervisor].spec
        assert isinstance(above, SupervisorSpec)
        specs = [place.spec for place in (one, other)]
        alone = all(isinstance(spec, WorkerSpec) and spec.index is None and not spec.update.canary for spec in specs)
        return alone and above.strategy in (Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)

    def _workers(self, names: list[str], spec: WorkerSpec) -> Iterator[Wave]:
        update = spec.update
        if spec.index is None:
            yield self._wave(names, update.hold_s if update.canary else 0.0)
            return
        first, others = names[: update.canary], names[update.canary :]
        for some, hold_s in ((first, update.hold_s), (others, 0.0)):
            for start in range(0, len(some), update.rolling):
                last = start + update.rolling >= len(some)
                yield self._wave(some[start : start + update.rolling], hold_s if last else 0.0)

    def _wave(self, names: list[str], hold_s: float = 0.0) -> Wave:
        members = tuple(Member(self._new[name].supervisor, name) for name in names)
        fresh = [name for name, place in self._new.items() if any(above in names for above in (*place.above, name))]
        self._taken.update(fresh)
        stop = tuple(one for one in reversed(members) if self._found[one.name].action is Action.RESTART)
        return Wave(self._tree(), stop, False, members, tuple(fresh), hold_s)

    # the tree in between

    def _tree(self) -> SupervisorSpec:
        """What holds now: all that changes in place, and those that were taken over."""
        return self._supervisor(self._before, self._after)

    def _supervisor(self, before: SupervisorSpec, after: SupervisorSpec) -> SupervisorSpec:
        if after.name in self._taken:
            return after
        if self._begins_anew(after.name):
            return self._left_of(before)
        children = tuple(child for child in map(self._child, after.children) if child is not None)
        return replace(after, children=children)

    def _child(self, after: ChildSpec) -> ChildSpec | None:
        """One child of a supervisor that goes on; None before its time."""
        if after.name in self._taken:
            return after
        old = self._old.get(after.name)
        if old is None or old.supervisor != self._new[after.name].supervisor:
            return None
        if isinstance(after, SupervisorSpec):
            if isinstance(old.spec, SupervisorSpec):
                return self._supervisor(old.spec, after)
            return old.spec
        if isinstance(old.spec, SupervisorSpec):
            return self._left_of(old.spec)
        return old.spec if needs_restart(old.spec, after) else after

    def _begins_anew(self, name: str) -> bool:
        found = self._found.get(name)
        return found is not None and found.action is Action.RESTART

    def _left_of(self, before: SupervisorSpec) -> SupervisorSpec:
        """A supervisor that is still the old one, without what has left it."""
        left = []
        for child in before.children:
            found = self._found.get(child.name)
            if found is not None and (found.action is Action.MOVE or found.action is Action.STOP):
                continue
            left.append(self._left_of(child) if isinstance(child, SupervisorSpec) else child)
        return replace(before, children=tuple(left))
