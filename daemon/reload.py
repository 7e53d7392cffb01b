"""
Reading files again, for a daemon that runs. What reads is called in a process of its own (`errand`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from regrow.config.spec import Plan, SupervisorSpec
from regrow.daemon.core.anew import as_told
from regrow.daemon.core.events import PlanChanged, Request
from regrow.daemon.tree import Tree


def worker(old: Plan, raw: Mapping[str, Any], supervisor: SupervisorSpec) -> bytes:
    """
    Turn the "spec" object of start_child into a worker spec, laid over the template where there is one.

    Raises:
        regrow.config.errors.ConfigErrors
    """
    from regrow.config.load import worker_spec

    return msgspec.msgpack.encode(worker_spec(raw, supervisor=supervisor, daemon=old.daemon, sockets=old.sockets))


def changes(
    tree: Tree,
    root: SupervisorSpec,
    used: Callable[[str], int],
    *,
    forced: Collection[str] = (),
    applied: bool = False,
    begins: Mapping[str, SupervisorSpec] = {},
) -> list[tuple[str | None, Callable[[int], Request]]]:
    """
    For each supervisor of the file that runs already, the request that gives it its new spec.

    `forced` are told although nothing is new for them; `used` says the newest incarnation ever used under a name;
    `begins` has those that would not begin anew with what `root` says.
    """
    found: list[tuple[str | None, Callable[[int], Request]]] = []

    def visit(spec: SupervisorSpec) -> None:
        node = tree.nodes.get(spec.name)
        if node is not None and node.pid is not None and (node.spec != spec or spec.name in forced):
            known, told = numbers(tree, spec, used), as_told(spec, begins)
            found.append((spec.name, lambda number: PlanChanged(number, told, known, applied)))
        for child in spec.children:
            if isinstance(child, SupervisorSpec):
                visit(child)

    visit(root)
    return found


def numbers(tree: Tree, spec: SupervisorSpec, used: Callable[[str], int]) -> dict[str, int]:
    """The newest incarnations of those below a supervisor that are new there: their names may have been others'."""
    found: dict[str, int] = {}
    for child in spec.children:
        node = tree.nodes.get(child.name)
        if (node is None or node.parent != spec.name) and (number := used(child.name)):
            found[child.name] = number
        if isinstance(child, SupervisorSpec):
            found.update(numbers(tree, child, used))
    return found
