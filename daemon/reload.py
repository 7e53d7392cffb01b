"""
Reading files again, for a daemon that runs. What reads is called in a process of its own (`errand`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from regrow.config.spec import Plan, SupervisorSpec
from regrow.daemon.core.events import PlanChanged, Request
from regrow.daemon.tree import Tree


def plan(old: Plan) -> bytes:
    """
    Load the files of `old` again.

    Raises:
        regrow.config.errors.ConfigErrors
    """
    from regrow.config.load import load

    return msgspec.msgpack.encode(load(old.files))


def worker(old: Plan, raw: Mapping[str, Any], supervisor: SupervisorSpec) -> bytes:
    """
    Turn the "spec" object of start_child into a worker spec, laid over the template where there is one.

    Raises:
        regrow.config.errors.ConfigErrors
    """
    from regrow.config.load import worker_spec

    return msgspec.msgpack.encode(worker_spec(raw, supervisor=supervisor, daemon=old.daemon, sockets=old.sockets))


def fault(old: Plan, new: Plan) -> str:
    """Why `new` cannot be taken over by the daemon that runs `old`; empty when it can."""
    for key in ("name", "run_dir", "state_dir", "log_dir", "durability", "cgroup"):
        if getattr(old.daemon, key) != getattr(new.daemon, key):
            return f"cannot change [daemon] {key} of a running daemon: stop it and start it again"
    if old.root.name != new.root.name:
        return f"cannot change the root supervisor from {old.root.name} to {new.root.name}: stop the daemon first"
    return ""


def changes(tree: Tree, new: Plan) -> list[tuple[str, Callable[[int], Request]]]:
    """For each supervisor of the file that runs already, the request that gives it its new spec."""
    found: list[tuple[str, Callable[[int], Request]]] = []

    def visit(spec: SupervisorSpec) -> None:
        node = tree.nodes.get(spec.name)
        if node is not None and node.pid is not None and node.spec != spec:
            found.append((spec.name, lambda number: PlanChanged(number, spec)))
        for child in spec.children:
            if isinstance(child, SupervisorSpec):
                visit(child)

    visit(new.root)
    return found
