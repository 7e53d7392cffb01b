"""
What is different between two plans, and what each difference asks for. Pure.

A key that only a supervisor's decisions read changes in place; what a process is made of needs a new process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.described import Change, changes
from regrow.config.diff_settings import SettingsDifference, settings_diff
from regrow.config.diff_sockets import SocketDifference, sockets_diff
from regrow.config.spec import ChildSpec, Plan, Strategy, SupervisorSpec, WorkerSpec

IN_PLACE = frozenset(
    {
        "restart", "shutdown", "significant", "normal_exit", "stop_signal", "liveness", "replicas", "standby",
        "update",
        "ready", "log",  # these two are read when a process begins, so they hold from its next start
    }
)  # fmt: skip
"""Fields of a worker that its process does not know of. Whatever is not named here needs a new process."""

FIXED = ("name", "run_dir", "state_dir", "log_dir", "durability", "cgroup")
"""Keys of [daemon] that hold for as long as the daemon lives."""


OTHER = "other table"
"""The field of a change that is none of the child's own spec."""


class Action(StrEnum):
    """What becomes of one child."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    CHANGE = "change"
    MOVE = "move"


class Difference(Struct, frozen=True):
    """
    One child that is not as it was. `supervisor` is the one it has from now on, and had last where it is stopped; ""
    for the supervisor at the top. `left` is the one that it had before it was moved.

    `why` holds the keys that differ; `because` is the child whose own difference brings this one about.
    """

    name: str
    kind: str
    action: Action
    supervisor: str
    why: tuple[Change, ...] = ()
    left: str = ""
    because: str = ""


class PlanDiff(Struct, frozen=True):
    """
    `refused` says why a running daemon cannot go from one to the other; empty when it can.

    `children` are in the order of the new tree, behind them those that are no longer in it. `tables` are the others of
    the file that differ, such as `access`; what becomes of those of sockets is in `sockets`, what differs in the rest
    is in `settings`.
    """

    children: tuple[Difference, ...] = ()
    tables: tuple[str, ...] = ()
    refused: str = ""
    sockets: tuple[SocketDifference, ...] = ()
    settings: tuple[SettingsDifference, ...] = ()

    @property
    def again(self) -> tuple[str, ...]:
        """Workers that are restarted for what is in another table, whatever their own specs say."""
        return tuple(
            child.name
            for child in self.children
            if child.action is Action.RESTART and any(change.field == OTHER for change in child.why)
        )

    def __bool__(self) -> bool:
        return bool(self.children or self.tables or self.refused)


class Place(Struct, frozen=True):
    """Where a child is in a tree: its spec, and who is above it, the nearest last."""

    spec: ChildSpec
    above: tuple[str, ...]

    @property
    def supervisor(self) -> str:
        return self.above[-1] if self.above else ""


def places(root: SupervisorSpec) -> dict[str, Place]:
    """Every child by its name, in start order."""
    found: dict[str, Place] = {}

    def visit(spec: ChildSpec, above: tuple[str, ...]) -> None:
        found[spec.name] = Place(spec, above)
        if isinstance(spec, SupervisorSpec):
            for child in spec.children:
                visit(child, (*above, spec.name))

    visit(root, ())
    return found


def diff(before: Plan, after: Plan) -> PlanDiff:
    """Compare two plans. Equal ones make an empty difference."""
    for key in FIXED:
        if getattr(before.daemon, key) != getattr(after.daemon, key):
            refused = f"cannot change [daemon] {key} of a running daemon: stop it and start it again"
            if key == "name":  # nobody may have written one
                refused += f', or write name = "{before.daemon.name}" there: a file without a name gives it its own'
            return PlanDiff(refused=refused)
    settings = settings_diff(before, after)
    changed = tuple(one.table for one in settings)
    old, new = ({spec.name: spec for spec in plan.sockets} for plan in (before, after))
    sockets = sockets_diff(before.sockets, after.sockets)
    changed += tuple(f"socket.{one.name}" for one in sockets)
    fresh = {
        name: Change(f"socket.{name}", old[name].address, spec.address, OTHER)
        for name, spec in new.items()
        if name in old and old[name].address != spec.address
    }
    children = tuple(tree_diff(before.root, after.root))
    children = _with_sockets(children, after.root, fresh) if fresh else children
    return PlanDiff(children, changed, sockets=sockets, settings=settings)


def _with_sockets(
    children: tuple[Difference, ...], root: SupervisorSpec, fresh: Mapping[str, Change]
) -> tuple[Difference, ...]:
    """Whoever has a socket gets the one at the new address with a new process."""
    found = {child.name: child for child in children}
    told = []
    for name, place in places(root).items():
        child = found.pop(name, None)
        names = place.spec.sockets if isinstance(place.spec, WorkerSpec) else ()
        why = tuple(fresh[socket] for socket in names if socket in fresh)
        if why and child is None:
            child = Difference(name, str(place.spec.kind), Action.RESTART, place.supervisor)
        if child is not None:
            action = Action.RESTART if why and child.action is Action.CHANGE else child.action
            told.append(replace(child, action=action, why=(*child.why, *why)))
    return (*told, *found.values())


def tree_diff(before: SupervisorSpec, after: SupervisorSpec) -> Iterator[Difference]:
    """Every child of two trees that is not the same in both."""
    old, new = places(before), places(after)
    anew: dict[str, str] = {}
    """Supervisors that begin anew, by what makes them: all below them does."""

    for name, place in new.items():
        because = next((anew[above] for above in reversed(place.above) if above in anew), "")
        found = _of_one(name, old.get(name), place, because)
        if found is not None:
            yield found
            if found.action is not Action.CHANGE and isinstance(place.spec, SupervisorSpec):
                anew[name] = because or name
    for name, place in old.items():
        if name not in new:
            gone = next((above for above in place.above if above not in new), "")
            yield Difference(name, str(place.spec.kind), Action.STOP, place.supervisor, because=gone)


def _of_one(name: str, old: Place | None, new: Place, because: str) -> Difference | None:
    kind, above = str(new.spec.kind), new.supervisor
    if old is None:
        return Difference(name, kind, Action.START, above, because=because)
    why = changes(old.spec, new.spec)
    if old.supervisor != above:
        return Difference(name, kind, Action.MOVE, above, why, old.supervisor, because)
    if because or needs_restart(old.spec, new.spec):
        return Difference(name, kind, Action.RESTART, above, why, because=because)
    return Difference(name, kind, Action.CHANGE, above, why) if why else None


def needs_restart(before: ChildSpec, after: ChildSpec) -> bool:
    """Whether the process of the one cannot go on as the other. What is below a supervisor is looked at by itself."""
    if isinstance(before, WorkerSpec) and isinstance(after, WorkerSpec):
        return any(
            getattr(before, field) != getattr(after, field)
            for field in before.__struct_fields__
            if field not in IN_PLACE
        )
    if isinstance(before, SupervisorSpec) and isinstance(after, SupervisorSpec):
        return _modules(before) != _modules(after) or _is_dynamic(before) is not _is_dynamic(after)
    return True


def _modules(spec: SupervisorSpec) -> tuple[str, ...]:
    """What is imported before the children are made, and from where."""
    return (*spec.preload, spec.base_dir) if spec.preload else ()


def _is_dynamic(spec: SupervisorSpec) -> bool:
    return spec.strategy is Strategy.DYNAMIC
