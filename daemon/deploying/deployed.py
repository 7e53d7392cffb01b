"""
What holds between two applies: the plan that the processes were made by, whatever supervisors have been told since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.diff import places
from regrow.config.spec import ChildSpec, Plan, SupervisorSpec
from regrow.daemon.tree import Tree


class Deployed(Struct, frozen=True):
    """
    `base` is what was started, or applied last; `present` the number of that apply, and `back_to` the earlier one that
    it brought again. `newest` is the highest number that was given.

    `failed` is the number of the last apply if it failed, and `lost` are those who ran before it and not after it.

    `reloaded`: supervisors have been told of other files since; `made` are the specs of those who were started then.
    """

    base: Plan
    started_at: float
    present: int | None = None
    back_to: int | None = None
    newest: int = 0
    reloaded: bool = False
    made: Mapping[str, ChildSpec] = {}
    failed: int | None = None
    lost: tuple[str, ...] = ()

    def started(self, tree: Tree, name: str) -> Deployed:
        """The same, after a start of `name` that no apply has asked for."""
        node = tree.nodes.get(name)
        if not self.reloaded or node is None or node.added or node.spec is None:
            return self
        return replace(self, made={**self.made, name: node.spec})

    def told_others(self) -> Deployed:
        """The same, after supervisors were told of other files."""
        return replace(self, reloaded=True)

    def stayed(self, files: tuple[str, ...]) -> Deployed:
        """The same, after an apply of files that have nothing new."""
        return replace(self, base=replace(self.base, files=files), reloaded=False, made={})

    def knowing(self, number: int) -> Deployed:
        """The same, where a number was given."""
        return replace(self, newest=max(self.newest, number))

    def numbered(self, present: int) -> Deployed:
        """The same, where what runs has got a number."""
        return replace(self, present=present)

    def applied(self, plan: Plan, id: int, back_to: int | None) -> Deployed:
        """The same, after an apply."""
        return replace(self, base=plan, present=id, back_to=back_to, reloaded=False, made={}, failed=None, lost=())

    def losing(self, id: int, lost: Sequence[str]) -> Deployed:
        """The same, after an apply that could not bring back all of what was before."""
        return replace(self, failed=id, lost=(*lost, *(name for name in self.lost if name not in lost)))

    def runs(self, tree: Tree) -> Plan:
        """The plan that the processes were made by."""
        if not self.made:
            return self.base
        known = places(self.base.root)
        added: dict[str, list[ChildSpec]] = {}
        for name, spec in self.made.items():
            if name not in known and name in tree.nodes:
                added.setdefault(tree.nodes[name].parent or "", []).append(spec)
        return replace(self.base, root=_as_made(self.base.root, self.made, added))


def _as_made(
    spec: SupervisorSpec, made: Mapping[str, ChildSpec], added: Mapping[str, list[ChildSpec]]
) -> SupervisorSpec:
    children: list[ChildSpec] = []
    for child in (*spec.children, *added.get(spec.name, ())):
        if isinstance(child, SupervisorSpec):
            children.append(_as_made(child, made, added))
        else:
            its = made.get(child.name, child)
            children.append(child if isinstance(its, SupervisorSpec) else its)
    return replace(spec, children=tuple(children))
