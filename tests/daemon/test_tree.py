"""The root's view of the tree, kept from reports."""

from __future__ import annotations

from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import Report
from regrow.daemon.tree import Tree


def test_added_children_keep_their_own_specs() -> None:
    """Two are added under one id before either is reported: each report names the request that it answers."""
    tree = Tree(SupervisorSpec("sup"), SupervisorSpec("regrow.system"))
    first, second, dotted = (WorkerSpec("k", Kind.COMMAND, normal_exit=(code,)) for code in (1, 2, 3))
    tree.announced.update({1: first, 2: second, 3: dotted})
    for number, (name, request) in enumerate((("k", 1), ("k.2", 2), ("other.name", 3)), start=1):
        extra = {"kind": "command", "request": request}
        tree.apply("sup", Report(number, "child_added", name, extra=extra))
    assert [tree.nodes[name].spec for name in ("k", "k.2", "other.name")] == [first, second, dotted]
    assert not tree.announced
