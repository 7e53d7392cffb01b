"""
The root's books: reports of all supervisors become events, status, and answers.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from regrow.config import internal
from regrow.config.spec import Kind
from regrow.daemon import why
from regrow.daemon.channel_messages import (
    BatchUp,
    DetailUp,
    ForgottenUp,
    LastWordUp,
    NoteUp,
    ReadyUp,
    ReplyUp,
    ReportUp,
    SnapshotUp,
    StandbyUp,
    Up,
)
from regrow.daemon.core.effects import Report
from regrow.daemon.ends import Ends, LastExit
from regrow.daemon.last_exit import exit_object
from regrow.daemon.stock import take_stock
from regrow.daemon.tree import ROOT, Node, Spares

if TYPE_CHECKING:
    from regrow.daemon.root import Root

REMEMBERED_NAMES = 10_000
"""Names of children that have left the tree, whose incarnation numbers go on if they come again."""

OWN_END = frozenset({"stopping", "stopped"})


class Written(Struct, frozen=True):
    """What the books hold besides tree and events, as it goes through an exec."""

    asked_by: dict[str, tuple[str, int | None]]
    left: dict[str, int]
    ends: dict[str, dict[int, LastExit]]
    final_text: str
    failed_first: str
    final_event: int | None


class Books:
    """Where every message that reaches the root is written down."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._asked_by: dict[str, tuple[str, int | None]] = {}
        self._left: OrderedDict[str, int] = OrderedDict()
        root.tree.leaving = self._leaves
        self.ends = Ends()
        root.tree.ending = self.ends.ended
        self.final_text = ""
        self._failed_first = ""
        self._final_event: int | None = None

    def carried(self) -> Written:
        """All of it, to go through an exec."""
        return Written(
            self._asked_by,
            dict(self._left),
            self.ends.carried(),
            self.final_text,
            self._failed_first,
            self._final_event,
        )

    def take_up(self, written: Written) -> None:
        """Go on with what was `carried`."""
        self._asked_by = written.asked_by
        self._left.update(written.left)
        self.ends.take_up(written.ends)
        self.final_text, self._failed_first = written.final_text, written.failed_first
        self._final_event = written.final_event

    def send(self, message: Up) -> None:
        """Take one message of the root's own runtime, or of any supervisor below."""
        match message:
            case BatchUp():
                for report in message.reports:
                    self._report(report)
            case ReplyUp():
                self._root.asking.answered(message)
            case DetailUp():
                self._detail(message)
            case NoteUp():
                self._note(message)
            case ForgottenUp():
                self._forgotten(message)
            case StandbyUp():
                self._standby(message)
            case SnapshotUp():
                self._take_stock(message)
            case ReadyUp():
                self._root.became_ready()
            case LastWordUp():
                self.final_text = self.final_text or message.text

    def _take_stock(self, message: SnapshotUp) -> None:
        for name in take_stock(self._root.tree, message):
            self._root.asking.ended(name)

    def put(self, message: ReportUp) -> None:
        """Take one report of the root's own runtime."""
        self._report(message)

    def flush(self) -> None:
        """Nothing is kept back here."""

    # reports

    def _report(self, message: ReportUp) -> None:
        report, log, tree = message.report, self._root.events, self._root.tree
        if not report.child and self._own_end(message):
            return
        name = report.child or message.supervisor
        cause = log.seq_of(message.supervisor, message.pid, report.cause)
        if cause is None and report.event in ("starting", "stopping"):
            cause = self._asked_by.get(report.child, ("", None))[1]
        if cause is None and report.child:
            cause = self._outer_cause(message.supervisor, report)
        if report.child == internal.SYSTEM and report.event == "stopping":
            self._root.outputs.take_all()
            self._root.streams.hand_on_all()
        if report.child:
            self._forget_numbers(report)
            tree.apply(message.supervisor, report)
        elif report.event == "reloaded":
            cause = None
        node = tree.nodes.get(name)
        made = log.append(
            report.event,
            "" if name == ROOT else name,
            mono_s=message.mono_s,
            path=tree.path(name) if name != ROOT else "",
            incarnation=report.incarnation or (node.incarnation if node else 0),
            pid=report.pid if report.child or node is None else node.pid,
            cause=cause,
            reason=None if report.exit is None else exit_object(report.exit, text=report.exit.text, at=time.time()),
            extra=self._extra(report, name),
        )
        log.remember(message.supervisor, message.pid, report.number, made["seq"])
        self._root.deploying.heard(report, name, made)  # an apply hears who has ended before it is answered for that
        if node is not None:
            self._consequences(report, node, made["seq"])
        self._for_the_end(message.supervisor, report, made["seq"])
        self._root.release_sockets()

    def _forget_numbers(self, report: Report) -> None:
        """No report of a supervisor that is gone, or of one below it, will be named as a cause any more."""
        if report.event in ("exited", "stopped", "start_failed"):
            for node in self._root.tree.subtree(report.child):
                if node.kind is Kind.SUPERVISOR:
                    self._root.events.forget_process(node.name, node.pid)

    def _own_end(self, message: ReportUp) -> bool:
        """A supervisor's word that it is stopping is its parent's event already; causes are led there."""
        if message.report.event not in OWN_END:
            return False
        if message.supervisor == ROOT and message.report.event == "stopping":
            self._root.ends()
        log = self._root.events
        latest = log.latest(message.supervisor if message.supervisor != ROOT else "")
        if latest is not None:
            log.remember(message.supervisor, message.pid, message.report.number, latest)
        return True

    def _outer_cause(self, supervisor: str, report: Report) -> int | None:
        """What no report of the same supervisor led to: an operator, or what happened to the supervisor."""
        if report.child in self._asked_by or report.event not in ("starting", "stopping"):
            return None
        return self._root.events.latest(supervisor if supervisor != ROOT else "")

    def _extra(self, report: Report, name: str) -> dict[str, Any]:
        extra = {key: value for key, value in report.extra.items() if key not in ("for", "kind", "request")}
        if report.event in ("starting", "stopping") and report.cause is None and name in self._asked_by:
            extra["by"] = self._asked_by.pop(name)[0]
        if report.event == "starting" and self._root.tree.stood_by(name, report.pid):
            extra["standby"] = True
        return extra

    def _consequences(self, report: Report, node: Node, seq: int) -> None:
        if node.kind is not Kind.SUPERVISOR or not report.child:
            return
        if report.event in ("exited", "stopped", "start_failed"):
            self._root.asking.ended(node.name)
        if report.event == "exited" and report.exit is not None and report.exit.text and node.parent is not None:
            extra = {"text": f"{node.name} ended: {report.exit.text}"}
            self._root.events.append(
                "escalated",
                node.parent,
                mono_s=self._root.loop.now(),
                path=self._root.tree.path(node.parent),
                cause=seq,
                extra=extra,
            )

    # the end of the daemon

    def _for_the_end(self, supervisor: str, report: Report, seq: int) -> None:
        """Keep what the last words will be made of, should the daemon end now."""
        if report.event == "start_failed" and self._root.state == "starting" and not self._failed_first:
            self._failed_first = report.child
        elif report.event in ("gave_up", "auto_shutdown") and supervisor == self._root.tree.tops[0]:
            self._final_event = seq

    def final_words(self) -> str:
        """Why the daemon ended by itself: the first child that failed, or what ended the user's root supervisor."""
        log, tree = self._root.events, self._root.tree
        event = log.get(self._final_event)
        if event is not None:
            name = tree.tops[0]
            return f"{name} gave up: {event['text']}" if event["event"] == "gave_up" else str(event["text"])
        node = tree.nodes.get(self._failed_first)
        if node is not None and node.last_exit is not None:
            text = str(node.last_exit["text"]).strip()
            # A traceback ends with what went wrong: that is for the line which is read, the rest for who looks further.
            what = text.rpartition("\n")[2] if node.last_exit["reason"] == "exception" else why.words(node.last_exit)
            rest = f"\n{text}" if set(text.splitlines()) != {what} else ""
            return f"{node.name} could not be started: {what or why.words(node.last_exit)}{rest}".strip()
        return self.final_text or "stopped"

    def ended_well(self) -> bool:
        """Whether a significant child that ended normally is behind the end."""
        log = self._root.events
        event = log.get(self._final_event)
        while event is not None and event["event"] == "auto_shutdown":
            ended = log.get(event["cause"])
            if ended is None:
                return False
            node = self._root.tree.nodes.get(ended["name"])
            if node is None or node.kind is not Kind.SUPERVISOR:
                return node is not None and node.state == "stopped"
            event = log.newest(ended["name"], ("auto_shutdown", "gave_up"))
        return False

    # everything else

    def asked(self, name: str, by: str, cause: int | None = None) -> None:
        """Somebody has asked for something to be done to `name`; its next event tells by whom, and what it comes of."""
        self._asked_by[name] = by, cause
        if len(self._asked_by) > REMEMBERED_NAMES:
            self._asked_by.pop(next(iter(self._asked_by)))

    def not_done(self, name: str) -> None:
        """What was asked was refused: whatever happens to `name` next is nobody's wish."""
        self._asked_by.pop(name, None)

    def wanted(self, name: str, want: str) -> None:
        node = self._root.tree.nodes.get(name)
        if node is not None:
            node.want = want
            self._root.release_sockets()

    def printed(self, child: str, incarnation: int, tail: str) -> None:
        self._root.tree.printed(child, incarnation, tail)

    def matched(self, supervisor: str, child: str, incarnation: int) -> None:
        self._root.matched(supervisor, child, incarnation)

    def logger_note(self, event: str, child: str, text: str) -> None:
        name = child or internal.LOGGER
        self._append(event, name, text)

    def daemon_event(self, event: str, text: str = "") -> None:
        self._append(event, "", text)

    def apply_event(self, event: str, text: str, cause: int | None = None) -> int:
        """A step of an apply; returns its number, for what comes of it."""
        made = self._root.events.append(event, "", mono_s=self._root.loop.now(), cause=cause, extra={"text": text})
        return int(made["seq"])

    def _note(self, message: NoteUp) -> None:
        self._append(message.event, message.child or message.supervisor, message.text)
        node = self._root.tree.nodes.get(message.child)
        if node is not None and message.event in ("fault", "leftovers"):
            node.detail = message.text
        elif node is not None and message.event == "fault_cleared":
            node.detail = ""

    def _append(self, event: str, name: str, text: str) -> None:
        node = self._root.tree.nodes.get(name)
        self._root.events.append(
            event,
            name,
            mono_s=self._root.loop.now(),
            path=self._root.tree.path(name) if node else "",
            incarnation=node.incarnation if node else 0,
            pid=node.pid if node else None,
            extra={"text": text} if text else None,
        )

    def _detail(self, message: DetailUp) -> None:
        node = self._root.tree.nodes.get(message.child)
        if node is not None and node.incarnation == message.incarnation:
            node.detail = message.text[:1000]

    def _standby(self, message: StandbyUp) -> None:
        """The spares of a group; that one more stands by is an event."""
        known, stands = self._root.tree.spares.get(message.group), Spares(message.supervisor, message.pids)
        self._root.tree.spares[message.group] = replace(stands, failure=message.failure)
        for pid in message.pids:
            if known is None or pid not in known.pids:
                members = self._root.tree.find(message.group)
                text = f"a spare of {message.group} stands by (pid {pid})"
                self._append("standby_ready", members[0] if members else message.group, text)

    def _forgotten(self, message: ForgottenUp) -> None:
        node = self._root.tree.nodes.get(message.child)
        if node is None or node.parent != message.supervisor:
            return
        self._root.tree.forgotten(message.supervisor, message.child)
        self._root.release_sockets()

    def _leaves(self, node: Node) -> None:
        """Remember its last incarnation: the name may come again, also after a death of its supervisor."""
        self._left[node.name] = node.incarnation
        if len(self._left) > REMEMBERED_NAMES:
            self._root.events.forget_name(self._left.popitem(last=False)[0])

    def incarnation_of(self, name: str) -> int:
        """The newest incarnation ever used under `name`."""
        node = self._root.tree.nodes.get(name)
        return max(self._left.get(name, 0), node.incarnation if node is not None else 0)

    def status_line(self) -> str:
        nodes = list(self._root.tree.subtree(self._root.tree.tops[0]))
        return f"STATUS={sum(node.ready for node in nodes)} of {len(nodes)} ready"
