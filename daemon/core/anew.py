"""
With what a supervisor begins anew while an apply is under way: with what was before, as long as what is new is not
proven. So the new version is never what a restart brings, and cannot use up the limits of those above.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from regrow.config.diff import Place, places
from regrow.config.spec import SupervisorSpec


def anew(
    tree: SupervisorSpec, before: SupervisorSpec, new: Collection[str], *, back: bool = False
) -> dict[str, SupervisorSpec]:
    """
    The specs with which supervisors of `tree` would begin anew, of those for which they are others than in `tree`.

    `new` are those whose process is a new one: what is above them begins as `before` has it, but for who has left it
    meanwhile. On the way `back` so does everybody. Who is new is only started, and never begins anew.
    """
    now, was = places(tree), places(before)
    above = {name for child in new if child in now for name in now[child].above}
    found = {}
    for name, place in now.items():
        old = was[name].spec if name in was and was[name].supervisor == place.supervisor else None
        if not isinstance(old, SupervisorSpec) or not isinstance(place.spec, SupervisorSpec) or name in new:
            continue
        if back or name in above:
            found[name] = _as_before(old, now)
    return found


def _as_before(spec: SupervisorSpec, now: Mapping[str, Place]) -> SupervisorSpec:
    """The same without those that are elsewhere now, or nowhere: no name is to run twice."""
    children = (child for child in spec.children if child.name in now and now[child.name].supervisor == spec.name)
    left = (_as_before(child, now) if isinstance(child, SupervisorSpec) else child for child in children)
    return replace(spec, children=tuple(left))


def as_told(spec: SupervisorSpec, anew: Mapping[str, SupervisorSpec]) -> SupervisorSpec:
    """A supervisor's spec as its process gets it: with those below it as they would begin anew."""
    return replace(spec, children=tuple(anew.get(child.name, child) for child in spec.children))
