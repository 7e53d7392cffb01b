"""
Correcting the root's view of the tree, where reports were lost: the snapshot of a supervisor, taken over as the reports
that would have led to it.

How a process ended that is not there any more nobody can say: its `last_exit` stays what it was before.
"""

from __future__ import annotations

from regrow.config.spec import Kind
from regrow.daemon.channel_messages import ChildNow, SnapshotUp
from regrow.daemon.core.effects import Report
from regrow.daemon.core.state import SlotState
from regrow.daemon.tree import Node, Tree

_EVENT = {SlotState.RUNNING: "ready", SlotState.STOPPING: "stopping", SlotState.WAITING: "waiting"}


def take_stock(tree: Tree, snapshot: SnapshotUp) -> list[str]:
    """
    Make the nodes below a supervisor what it says that they are.

    Returns:
        The child supervisors that are not the process any more that they were known as.
    """
    above = tree.nodes.get(snapshot.supervisor)
    if above is None:
        return []
    ended = []
    names = {child.name for child in snapshot.children}
    for node in [tree.nodes[name] for name in above.children if name not in names]:
        if node.pid is not None and node.kind is Kind.SUPERVISOR:
            ended.append(node.name)
        if not tree.forgotten(above.name, node.name):
            _correct(tree, above.name, node, ChildNow(node.name, node.kind, SlotState.UNDEFINED, 0, None, 0))
    for child in snapshot.children:
        extra = {"kind": str(child.kind)}
        if child.name not in above.children:
            tree.apply(above.name, Report(0, "child_added", child.name, child.incarnation, extra=extra))
        node = tree.nodes[child.name]
        if node.pid is not None and node.pid != child.pid and node.kind is Kind.SUPERVISOR:
            ended.append(node.name)
        _correct(tree, above.name, node, child)
    return ended


def _correct(tree: Tree, supervisor: str, node: Node, child: ChildNow) -> None:
    def apply(event: str, incarnation: int) -> None:
        tree.apply(supervisor, Report(0, event, node.name, incarnation, child.pid, extra={"for": "restart"}))

    restarts = node.restarts
    if node.pid is not None and node.pid != child.pid:
        apply("exited", node.incarnation)
    if child.pid is not None and node.pid != child.pid:
        apply("starting", child.incarnation)
    node.incarnation = max(node.incarnation, child.incarnation)
    node.restarts = max(restarts, child.restarts)
    if (event := _EVENT.get(child.state)) is not None and (event != "ready" or not node.ready):
        apply(event, child.incarnation)
    elif child.state is SlotState.UNDEFINED and node.state not in ("stopped", "failed"):
        apply("stopped", node.incarnation)
