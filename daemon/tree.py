"""
The whole tree as the root knows it: kept from the reports of all supervisors, asked by nobody, answers at once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.spec import ChildSpec, Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import Report
from regrow.daemon.core.events import Exit, ExitReason
from regrow.daemon.core.restart import ExitClass, exit_class
from regrow.daemon.last_exit import MAX_TEXT, exit_object, story

ROOT = "regrow"
"""The root's own supervisor: in nobody's file, and above every other."""

MAX_EARLY = 100
"""Last words of children that nobody has told of yet: pipes come by a shorter way than reports."""

_STATE_AFTER = {
    "starting": "starting",
    "ready": "running",
    "restarting": "restarting",
    "waiting": "waiting",
    "stopping": "stopping",
    "stopped": "stopped",
    "ignored": "stopped",
    "start_failed": "failed",
    "child_added": "stopped",
}


class Node(Struct):
    """
    One name in the tree. `spec` is None for children that came at run time; `added` says that they did;
    `automatic` that nobody asked for the present incarnation; `ended` is the incarnation of `last_exit`.
    """

    name: str
    kind: Kind
    parent: str | None
    spec: ChildSpec | None
    path: str
    added: bool = False
    children: list[str] = []
    state: str = "stopped"
    want: str = "up"
    ready: bool = False
    pid: int | None = None
    incarnation: int = 0
    restarts: int = 0
    automatic: bool = False
    ended: int = 0
    since: float = 0.0
    last_exit: dict[str, Any] | None = None
    detail: str = ""
    outputs: dict[int, str] = {}


class Spares(Struct, frozen=True):
    """The processes of a group that stand by, and why there are not more."""

    supervisor: str
    pids: tuple[int, ...] = ()
    failure: str = ""


class Grown(Struct, frozen=True):
    """The tree as it goes through an exec."""

    nodes: tuple[Node, ...]
    tops: tuple[str, str]
    printed_early: dict[str, dict[int, str]]
    spares: dict[str, Spares] = {}


class Tree:
    """
    Nodes by name; `tops` are the subtrees below the root, the user's first.

    `leaving` is called with each node that leaves the tree, `ending` with name, incarnation and `last_exit` of each
    process that ends.
    """

    def __init__(self, user: SupervisorSpec, system: SupervisorSpec) -> None:
        self.nodes: dict[str, Node] = {}
        self.announced: dict[int, WorkerSpec] = {}
        self.spares: dict[str, Spares] = {}
        self._printed_early: dict[str, dict[int, str]] = {}
        self.tops = (user.name, system.name)
        self.leaving: Callable[[Node], None] = lambda _node: None
        self.ending: Callable[[str, int, dict[str, Any]], None] = lambda *_: None
        self._add(user, None)
        self._add(system, None)

    def carried(self) -> Grown:
        """All of it, to go through an exec."""
        return Grown(tuple(self.nodes.values()), self.tops, self._printed_early, self.spares)

    def take_up(self, grown: Grown) -> None:
        """Go on with what was `carried`."""
        self.nodes = {node.name: node for node in grown.nodes}
        self.tops = grown.tops
        self._printed_early = grown.printed_early
        self.spares = dict(grown.spares)

    def _add(self, spec: ChildSpec, parent: str | None) -> None:
        known = self.nodes.get(spec.name)
        if known is None:
            path = self._path_below(parent, spec.name)
            self.nodes[spec.name] = Node(spec.name, spec.kind, parent, spec, path, since=time.time())
        else:
            known.spec, known.kind, known.parent, known.added = spec, spec.kind, parent, False
            known.path = self._path_below(parent, spec.name)
        if isinstance(spec, SupervisorSpec):
            for child in spec.children:
                self._add(child, spec.name)
            self.nodes[spec.name].children = [child.name for child in spec.children]

    # reading

    def path(self, name: str) -> str:
        """The names from the root down, joined by "/"."""
        node = self.nodes.get(name)
        return name if node is None else node.path

    def _path_below(self, parent: str | None, name: str) -> str:
        return f"{self.path(parent)}/{name}" if parent else name

    def route(self, name: str) -> tuple[str, ...]:
        """The supervisors to pass, from the root down, to reach supervisor `name` (itself last)."""
        node = self.nodes[name]
        return (*self.route(node.parent), name) if node.parent else (name,)

    def subtree(self, name: str) -> Iterator[Node]:
        """The node and everything below it, in tree order."""
        node = self.nodes.get(name)
        if node is not None:
            yield node
            for child in node.children:
                yield from self.subtree(child)

    def find(self, name: str) -> list[str]:
        """The names that `name` stands for: itself, or all replicas of a group; empty when unknown."""
        if name in self.nodes:
            return [name]
        return [
            node.name
            for node in self.nodes.values()
            if (isinstance(node.spec, WorkerSpec) and node.spec.group == name and node.spec.index is not None)
        ]

    def workers(self) -> list[WorkerSpec]:
        """The specs of all workers, also of those that came at run time."""
        return [node.spec for node in self.nodes.values() if isinstance(node.spec, WorkerSpec)]

    def supervisors(self) -> list[str]:
        """All that run, parents first; regrow's own before the user's."""
        nodes = [node for top in reversed(self.tops) for node in self.subtree(top)]
        return [node.name for node in nodes if node.kind is Kind.SUPERVISOR and node.pid is not None]

    def sockets_in_use(self) -> frozenset[str]:
        """The names of the sockets that workers have, or will have when they are started again by themselves."""
        alive = (node.spec for node in self.nodes.values() if node.pid is not None or node.want == "up")
        return frozenset(name for spec in alive if isinstance(spec, WorkerSpec) for name in spec.sockets)

    def entries(self, names: Iterable[str] = (), *, everything: bool = False) -> list[dict[str, Any]]:
        """`status` of the named subtrees (each once), or of the user's tree, in tree order."""
        chosen = list(names) or (list(self.tops) if everything else [self.tops[0]])
        seen: dict[str, Node] = {}
        for name in chosen:
            for node in self.subtree(name):
                seen.setdefault(node.name, node)
        return [self.entry(node) for node in seen.values()]

    def entry(self, node: Node) -> dict[str, Any]:
        """One line of `status`, with the keys of the contract."""
        entry = {
            "name": node.name,
            "path": self.path(node.name),
            "kind": str(node.kind),
            "state": node.state,
            "want": node.want,
            "ready": node.ready,
            "pid": node.pid,
            "incarnation": node.incarnation,
            "restarts": node.restarts,
            "since": round(node.since, 3),
            "last_exit": node.last_exit,
            "detail": node.detail,
            "supervisor": node.parent,
        }
        if isinstance(node.spec, SupervisorSpec):
            entry["strategy"] = str(node.spec.strategy)
        elif isinstance(node.spec, WorkerSpec) and node.spec.standby:
            entry["standby"] = self._standby(node.spec)
        return entry

    def _standby(self, spec: WorkerSpec) -> dict[str, Any]:
        """The spares of its whole group."""
        spares = self.spares.get(spec.group) or Spares("")
        return {"wanted": spec.standby, "ready": len(spares.pids), "pids": list(spares.pids), "failure": spares.failure}

    def stood_by(self, name: str, pid: int | None) -> bool:
        """Whether the new process of `name` was a spare before; from now on it is none."""
        node = self.nodes.get(name)
        spec = node.spec if node is not None else None
        spares = self.spares.get(spec.group) if isinstance(spec, WorkerSpec) else None
        if spares is None or not isinstance(spec, WorkerSpec) or pid not in spares.pids:
            return False
        self.spares[spec.group] = replace(spares, pids=tuple(other for other in spares.pids if other != pid))
        return True

    # changing

    def apply(self, supervisor: str, report: Report) -> None:
        """Take over what `supervisor` reports about one of its children."""
        node = self.nodes.get(report.child)
        if node is None or (node.parent or ROOT) != supervisor:
            node = self._come(supervisor, report)
            if node is None:
                return
        if report.event == "starting":
            self._starting(node, report)
        elif report.event in ("exited", "stopped", "start_failed", "ignored"):
            self._ended(node, report)
        elif report.event == "child_deleted":
            self._leave(node)
            return
        state = _STATE_AFTER.get(report.event)
        if state is not None and state != node.state:
            node.state, node.since = state, time.time()
        node.ready = report.event == "ready" or (node.ready and report.event not in _UNREADY)
        if report.event in ("waiting", "restarting"):
            delay_s = report.extra.get("delay_s", 0)
            node.detail = f"starts again after {delay_s:.2g} s" if delay_s else ""
        elif report.event in ("stopped", "exited"):
            node.detail = ""

    def _starting(self, node: Node, report: Report) -> None:
        parent = self.nodes.get(node.parent or "")
        again = report.extra.get("for") == "init" and parent is not None and parent.automatic
        node.automatic = report.extra.get("for") == "restart" or (again and node.incarnation > 0)
        node.restarts += node.automatic
        node.pid, node.incarnation, node.detail, node.want = report.pid, report.incarnation, "", "up"
        if node.kind is Kind.SUPERVISOR:
            self._reset(node)

    def _ended(self, node: Node, report: Report) -> None:
        node.pid, node.ready = None, False
        if report.exit is not None:
            node.last_exit = self._last_exit(node, report.exit, report.incarnation)
            self.ending(node.name, report.incarnation, node.last_exit)
        elif report.event == "ignored":
            self.ending(node.name, report.incarnation, exit_object(_NOT_NEEDED, text="", at=time.time()))
        if report.event == "exited":
            normal = report.exit is not None and self._normal(node, report.exit)
            node.state, node.since = ("stopped" if normal else "failed"), time.time()
        if node.kind is Kind.SUPERVISOR:
            gone = list(self.subtree(node.name))
            for below in gone[1:]:
                self._lost(below, node)
            names = {each.name for each in gone}
            self.spares = {group: spares for group, spares in self.spares.items() if spares.supervisor not in names}

    def _normal(self, node: Node, exit: Exit) -> bool:
        if exit.reason is ExitReason.STOPPED:
            return True
        spec = node.spec or WorkerSpec(node.name, node.kind)
        return exit_class(exit, spec) is not ExitClass.ABNORMAL

    def _last_exit(self, node: Node, exit: Exit, incarnation: int) -> dict[str, Any]:
        node.ended = incarnation
        printed = node.outputs.get(incarnation, "") if exit.reason is not ExitReason.STOPPED else ""
        return exit_object(exit, text=story(exit.reason, exit.text, printed), at=time.time())

    def printed(self, name: str, incarnation: int, tail: str) -> None:
        """What an incarnation had printed last: part of its `last_exit`, whichever of the two comes first."""
        node = self.nodes.get(name)
        if not tail.strip():
            return
        tail = tail.strip("\n")
        if node is None:
            self._printed_early[name] = {incarnation: tail}
            if len(self._printed_early) > MAX_EARLY:
                del self._printed_early[next(iter(self._printed_early))]
            return
        last = node.last_exit
        if last is None or node.ended != incarnation:
            node.outputs = {incarnation: tail}
        elif last["reason"] != ExitReason.STOPPED:
            last["text"] = story(last["reason"], last["text"], tail)[-MAX_TEXT:]

    def _lost(self, node: Node, supervisor: Node) -> None:
        """The supervisor above is gone, and so is all below it; nobody was left to report it."""
        if node.pid is not None:
            exit = Exit(ExitReason.SIGNAL, signal=signal.SIGKILL, text=f"its supervisor {supervisor.name} ended")
            node.last_exit = exit_object(exit, text=exit.text, at=time.time())
            node.ended = node.incarnation
            self.ending(node.name, node.incarnation, node.last_exit)
        if node.pid is not None or node.state not in ("stopped", "failed"):
            node.state, node.since = "stopped", time.time()
        node.pid, node.ready, node.detail = None, False, ""

    def _reset(self, node: Node) -> None:
        """A supervisor begins anew with its static list (S111)."""
        for below in list(self.subtree(node.name)):
            if below.added and below.name in self.nodes:
                self._leave(below)
        if isinstance(node.spec, SupervisorSpec):
            self._add(node.spec, node.parent)

    def _come(self, supervisor: str, report: Report) -> Node | None:
        parent = self.nodes.get(supervisor)
        if parent is None or report.event != "child_added":
            return None
        kind = Kind(report.extra.get("kind", Kind.COMMAND))
        spec = self.announced.pop(report.extra.get("request", 0), None)
        path = self._path_below(supervisor, report.child)
        node = Node(report.child, kind, supervisor, spec, path, added=True, since=time.time())
        node.incarnation = report.incarnation
        node.outputs = self._printed_early.pop(node.name, {})
        self.nodes[node.name] = node
        parent.children.append(node.name)
        return node

    def replan(self, user: SupervisorSpec, system: SupervisorSpec) -> None:
        """
        Take over a new file, and what of regrow's own goes with it.

        Known names keep their state, what is missing stays until it is deleted (S178).
        """
        self.tops = (user.name, system.name)
        before = {node.name: list(node.children) for node in self.nodes.values()}
        known = set(self.nodes)
        self._add(user, None)
        self._add(system, None)
        for name, children in before.items():
            node = self.nodes[name]
            node.children += [child for child in children if child not in node.children]
        for name in set(self.nodes) - known:
            self.nodes[name].want = "down"

    def forgotten(self, supervisor: str, name: str) -> bool:
        """The supervisor has dropped the child's spec; what came at run time leaves the tree. True if it did."""
        node = self.nodes.get(name)
        if node is not None and node.parent == supervisor and node.added:
            self._leave(node)
            return True
        return False

    def leave(self, supervisor: str | None, name: str) -> None:
        """A child that has no process leaves the tree, whether its supervisor could say so or not."""
        node = self.nodes.get(name)
        if node is not None and node.parent == supervisor and node.pid is None:
            self._leave(node)

    def _leave(self, node: Node) -> None:
        parent = self.nodes.get(node.parent or "")
        if parent is not None and node.name in parent.children:
            parent.children.remove(node.name)
        for below in list(self.subtree(node.name)):
            self.nodes.pop(below.name, None)
            self.leaving(below)


_NOT_NEEDED = Exit(ExitReason.EXIT, 0)
"""How a child ends that has said that it is not needed."""

_UNREADY = frozenset({"starting", "exited", "stopped", "start_failed", "ignored", "stopping"})
