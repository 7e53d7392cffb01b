"""The root's view of the tree, kept from reports."""

from __future__ import annotations

from regrow.config.spec import ChildSpec, Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.channel_messages import ChildNow, SnapshotUp
from regrow.daemon.core.effects import Report
from regrow.daemon.core.events import Exit, ExitReason
from regrow.daemon.core.state import SlotState
from regrow.daemon.stock import take_stock
from regrow.daemon.tree import MAX_EARLY, Tree


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


def test_last_words_may_come_before_any_report() -> None:
    """A child that came at run time has printed and ended; its pipe came by a shorter way than the reports."""
    tree = Tree(SupervisorSpec("sup"), SupervisorSpec("regrow.system"))
    tree.printed("k", 1, "last words\n")
    for number in range(MAX_EARLY - 1):
        tree.printed(f"never-told-of-{number}", 1, "lost")
    tree.apply("sup", Report(1, "child_added", "k", extra={"kind": "command"}))
    tree.apply("sup", Report(2, "starting", "k", 1, 9))
    tree.apply("sup", Report(3, "exited", "k", 1, exit=Exit(ExitReason.EXIT, 1)))
    last = tree.nodes["k"].last_exit
    assert last is not None
    assert last["text"] == "last words"
    for number in range(MAX_EARLY):
        tree.printed(f"told-of-too-late-{number}", 1, "lost")
    tree.apply("sup", Report(4, "child_added", "never-told-of-0", extra={"kind": "command"}))
    assert not tree.nodes["never-told-of-0"].outputs


def test_snapshot_puts_right_what_lost_reports_left_wrong() -> None:
    """What died, came, went and was made anew unseen is shown as it is; what was right stays."""
    names = ("same", "again", "down", "late", "ended")
    below = SupervisorSpec("below", children=(WorkerSpec("leaf", Kind.COMMAND),))
    children: tuple[ChildSpec, ...] = (*(WorkerSpec(name, Kind.COMMAND) for name in names), below)
    tree = Tree(SupervisorSpec("sup", children=children), SupervisorSpec("regrow.system"))
    for pid, name in enumerate(("same", "again", "down", "ended", "below"), start=1):
        tree.apply("sup", Report(0, "starting", name, 1, pid))
        tree.apply("sup", Report(0, "ready", name, 1, pid))
    tree.apply("sup", Report(0, "exited", "ended", 1, exit=Exit(ExitReason.EXIT, 1)))
    tree.apply("below", Report(0, "starting", "leaf", 1, 9))
    tree.apply("sup", Report(0, "child_added", "gone", extra={"kind": "command"}))
    before = tree.entry(tree.nodes["same"])

    command, running = Kind.COMMAND, SlotState.RUNNING
    stock = (
        ChildNow("same", command, running, 1, 1, 0),
        ChildNow("again", command, running, 5, 12, 4),
        ChildNow("down", command, SlotState.WAITING, 2, None, 1),
        ChildNow("late", command, SlotState.STARTING, 1, 14, 0),
        ChildNow("ended", command, SlotState.UNDEFINED, 1, None, 0),
        ChildNow("below", Kind.SUPERVISOR, running, 2, 15, 1),
        ChildNow("new", command, SlotState.STOPPING, 1, 16, 0),
    )
    assert take_stock(tree, SnapshotUp("sup", stock)) == ["below"]
    nodes = [*tree.subtree("sup")][1:]
    shown = {node.name: (node.state, node.ready, node.pid, node.incarnation, node.restarts) for node in nodes}
    assert shown == {
        "same": ("running", True, 1, 1, 0),
        "again": ("running", True, 12, 5, 4),
        "down": ("waiting", False, None, 2, 1),
        "late": ("starting", False, 14, 1, 0),
        "ended": ("failed", False, None, 1, 0),
        "below": ("running", True, 15, 2, 1),
        "leaf": ("stopped", False, None, 1, 0),
        "new": ("stopping", False, 16, 1, 0),
    }
    assert tree.entry(tree.nodes["same"]) == before
    assert take_stock(tree, SnapshotUp("sup", stock)) == []
