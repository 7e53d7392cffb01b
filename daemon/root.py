"""
The root daemon: the top supervisor, and the books of the whole tree.

It supervises regrow's own workers and the user's root supervisor (one_for_one; the user's is transient and
significant, so the daemon ends when that gives up), keeps events and status, and serves the control socket.

Source: daemon(7), sd_notify(3); architecture sections 3 and 9.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec.structs import replace

from regrow.config import exits
from regrow.config.diff import diff
from regrow.config.diff_settings import settings_diff
from regrow.config.spec import Plan, SupervisorSpec, WorkerSpec
from regrow.daemon import commons, errand, forked, nested, reload, sharing, system
from regrow.daemon.additions import Additions
from regrow.daemon.alive import Alive
from regrow.daemon.asking import Asking
from regrow.daemon.books import Books
from regrow.daemon.channel import AdmitDown, MatchedDown
from regrow.daemon.control import ControlError, ControlServer
from regrow.daemon.core.effects import Outcome
from regrow.daemon.core.events import CountChildren, PlanChanged, RestartChild, TerminateChild
from regrow.daemon.deploying.deploying import Deploying
from regrow.daemon.deploying.plans import Loaded
from regrow.daemon.events import EventLog
from regrow.daemon.footing import Footing
from regrow.daemon.linux import kernel
from regrow.daemon.linux.notify import notify
from regrow.daemon.linux.takeover import Taken
from regrow.daemon.loop import Loop
from regrow.daemon.pipes import Arrivals
from regrow.daemon.reexec.root import Reexec
from regrow.daemon.runtime import Runtime
from regrow.daemon.sockets import Sockets, differing
from regrow.daemon.streams import Streams
from regrow.daemon.tell import complain
from regrow.daemon.tree import Tree
from regrow.daemon.verbs import Verbs
from regrow.workers.system.log_protocol import root_end


class Root:
    """One daemon from its start to its end. `state` is starting, running or stopping."""

    def __init__(self, on: Footing) -> None:
        plan = on.plan
        self.plan = plan
        self.loop = Loop(self._survive)
        self.state = "starting"
        self.events = EventLog()
        self.wanted, self._own, self._top = on.wanted, on.system, on.top
        self.tree = Tree(plan.root, on.system)
        self.notify, self.watchdog_s = on.notify, on.watchdog_s
        self.lock_fd = on.lock_fd
        self._alive = Alive(self, self.tell_systemd, on.watchdog_s)
        self.errands = errand.Errands(self.loop)
        self.asking = Asking(self)
        self.additions = Additions(self)
        self._begins: Mapping[str, SupervisorSpec] = {}
        self._interrupted = False
        self._hung_up = False
        self.deploying = Deploying(self)
        self.members = on.members
        books = Books(self)
        self.books = books
        self.streams = Streams(
            self.loop, root_end(on.streams_fd), plan.daemon.log_dir, books.printed, books.matched, books.logger_note
        )
        self.outputs = Arrivals(self.loop, socket.socket(fileno=on.arriving_fd), self.streams.take)
        self.runtime = Runtime(
            on.context,
            self.loop,
            on.top,
            "",
            books,
            on.inherited,
            on.own,
            on.group,
            notify_fd=on.notify_fd,
            known=on.known,
        )
        self.sockets = Sockets(self, on.listening)
        self.verbs = Verbs(self)
        path = os.path.join(plan.daemon.run_dir, "control.sock")
        self.server = ControlServer(self.loop, path, plan.access, self.verbs.serve, on.listener_fd)
        self.server.admit_by(plan.access, self.members.agents)
        self.reexec = Reexec(self)

    @property
    def specs(self) -> tuple[SupervisorSpec, SupervisorSpec]:
        """Regrow's own part of the tree, and the root's own supervisor."""
        return self._own, self._top

    def tell(self, taken: Taken, unshared: str) -> None:
        """Write down what the start of the daemon has found."""
        if taken.killed:
            text = f"{taken.killed} processes that an earlier daemon had left were ended"
            self.books.daemon_event("leftovers", text)
        for report in (*taken.reports, *([unshared] if unshared else [])):
            self.books.daemon_event("fault", report)

    def run(self, begin: Callable[[], None]) -> int:
        """`begin`, and serve until everything is stopped. Returns the exit status of the daemon."""
        kernel.set_child_subreaper()
        self.loop.on_signals(
            {
                signal.SIGCHLD: self.runtime.reaper.sweep,
                signal.SIGTERM: lambda: self.stop(text="SIGTERM"),
                signal.SIGINT: self._interrupt,
                signal.SIGHUP: self._hangup,
                signal.SIGUSR2: lambda: None,
            }
        )
        forked.load(forked.kinds_in(self.plan.root))  # here once, for all supervisors to share
        sharing.settle()
        self._alive.begin()
        begin()
        self.loop.run()
        self.server.close()
        return self._status()

    def _status(self) -> int:
        """0 after an orderly stop, also when a significant child that ended normally brought it about."""
        end = self.runtime.end
        if end is not None and end.outcome is Outcome.STOPPED:
            return exits.DONE
        verb = "could not start" if end is not None and end.outcome is Outcome.START_FAILED else "ended"
        complain(f"{self.plan.daemon.name} {verb}: {self.books.final_words()}")
        return exits.DONE if self.books.ended_well() else exits.REFUSED

    # from the runtime, through the books

    def became_ready(self) -> None:
        """The whole tree has started."""
        self.state = "running"
        self.books.daemon_event("daemon_ready")
        self.tell_systemd("READY=1\n" + self.books.status_line())
        self.hang_up_again()

    def hang_up_again(self) -> None:
        """What was in the way of a SIGHUP is over: it has its turn."""
        if self._hung_up:
            self._hung_up = False
            self._hangup()

    def forget_hang_up(self) -> None:
        """A SIGHUP that waits for its turn is to have none."""
        self._hung_up = False

    def tell_systemd(self, text: str, fd: int = -1) -> None:
        if self.notify:
            notify(self.notify, text, fd)

    def matched(self, supervisor: str, child: str, incarnation: int) -> None:
        if supervisor in self.tree.nodes:
            self.runtime.relay.from_parent(MatchedDown(self.tree.route(supervisor), child, incarnation))

    def reload(self, done: Callable[[Any], None], failed: Callable[[ControlError], None]) -> None:
        """Read the files again; known children keep their processes (S175-S182). Refused by who stops already."""
        if self.state == "stopping":
            failed(ControlError("shutdown", "the daemon is stopping"))
            return
        if self.deploying.busy:
            failed(ControlError("busy", f"cannot reload now: {self.deploying.busy}"))
            return

        def loaded(found: Loaded) -> None:
            name, new = self.plan.root.name, found.plan.root.name
            fault = diff(self.plan, found.plan).refused
            if not fault and name != new:
                fault = f"cannot change the root supervisor from {name} to {new}: `regrow apply` does that"
            if fault:
                failed(ControlError("bad_request", fault))
            elif self.deploying.busy:
                failed(ControlError("busy", f"cannot reload now: {self.deploying.busy}"))
            else:
                self.sockets.take_over(found.plan.sockets, lambda fault: listening(found.plan, fault))

        def listening(plan: Plan, fault: str) -> None:
            if fault:
                failed(ControlError("bad_request", fault))
                return
            self._take_over(plan, done)
            self.release_sockets()

        self.deploying.load((), loaded, failed)

    def release_sockets(self) -> None:
        """Close what is in the file no more, and in no table of a worker that runs, is to run, or may come back."""
        if self.sockets.retired and self.deploying.apply is None:
            self.sockets.release(self.tree.sockets_in_use())

    def _take_over(self, plan: Plan, done: Callable[[Any], None]) -> None:
        changes = reload.changes(self.tree, plan.root, self.books.incarnation_of)
        told: dict[str, list[str]] = {"supervisors": [name for name, _ in changes if name]}
        if sockets := differing(self.plan.sockets, plan.sockets):
            told["sockets"] = sockets
        if settings := [one.table for one in settings_diff(self.plan, plan)]:
            told["tables"] = settings
        self.deploying.reloaded()
        before = self.members
        self.hold_to(plan, plan)

        def answered(refused: list[str]) -> None:
            if refused:
                told["refused"] = refused
            self.asking.all_of(heard, lambda _refused: done(told))

        # Whom agents admit is told without an answer; what is asked behind it is answered when that was heard.
        heard = [] if self.members == before else [(name, CountChildren) for name in self.tree.supervisors()]
        self.asking.all_of(changes, answered)

    def hold_to(self, plan: Plan, wanted: Plan, *, on_the_way: bool = False) -> None:
        """From now on this is the plan; regrow's own workers, and who may talk, are those of `wanted`, or will be."""
        self.plan = plan
        if not on_the_way:
            self._begins = {}
        workers = [*commons.workers_in(wanted.root), *self.tree.workers()]
        now = system.wanted(wanted)
        if on_the_way:
            now = system.between(self.wanted, now)
        self._provide(system.kept(now, self.wanted), commons.members(plan.access, workers))

    def tell_tree(
        self,
        tree: SupervisorSpec,
        forced: Collection[str],
        done: Callable[[], None],
        begins: Mapping[str, SupervisorSpec] = {},
    ) -> None:
        """
        Give every supervisor what `tree` has for it: the next step of an apply. `forced` are told in any case; `begins`
        has those that would not begin anew with what `tree` says.
        """
        used = self.books.incarnation_of
        changes = reload.changes(self.tree, tree, used, forced=forced, applied=True, begins=begins)
        self.plan, self._begins = replace(self.plan, root=tree), begins
        top = system.top_spec(begins.get(tree.name, tree), self._own)
        if top != self._top or "" in forced:
            self._top = top
            numbers = reload.numbers(self.tree, top, used)
            changes.insert(0, (None, lambda number: PlanChanged(number, top, numbers, applied=True)))
        self.tree.replan(tree, self._own)
        away = frozenset(node.name for node in self.tree.nodes.values() if node.pid is None)
        self.asking.all_of(changes, lambda _refused: self._tell_late(tree, away, done))

    def _tell_late(self, tree: SupervisorSpec, away: frozenset[str], done: Callable[[], None]) -> None:
        """Who was away and is back may have begun before the one above was told."""
        if tree is not self.plan.root:  # the way back has begun meanwhile
            done()
            return
        back = frozenset(name for name in away if name in self.tree.nodes and self.tree.nodes[name].pid is not None)
        used, begins = self.books.incarnation_of, self._begins
        changes = reload.changes(self.tree, tree, used, forced=back, applied=True, begins=begins) if back else []
        if changes:
            self.asking.all_of(changes, lambda _refused: self._tell_late(tree, away - back, done))
        else:
            done()

    def _provide(self, wanted: system.Wanted, members: commons.Members) -> None:
        """Have what is wanted now, and let those in who may talk; agents that run do not change their minds."""
        admitted = self._admit(members)
        own = system.system_spec(self.plan.daemon, wanted)
        before, self._own, self.wanted = self._own, own, wanted
        top = system.top_spec(self._begins.get(self.plan.root.name, self.plan.root), own)
        if top != self._top:  # what a crash of a subtree would bring back
            self._top = top
            self.tree.replan(self.plan.root, own)
            self.asking.tell(None, lambda number: PlanChanged(number, top))
        if own != before:
            self.asking.tell(nested.SYSTEM, lambda number: PlanChanged(number, own))
        for name, known in system.to_restart(before, own, admitted=admitted):
            self._start_anew(name, known)

    def _start_anew(self, name: str, known: bool) -> None:
        """Have one of regrow's own workers begin with what holds now."""
        if known:
            self.asking.tell(nested.SYSTEM, lambda number: TerminateChild(number, name))
        self.asking.tell(nested.SYSTEM, lambda number: RestartChild(number, name))

    def provide_for(self, agent: WorkerSpec) -> None:
        """The first agent of a tree, or of its user, may be one that comes at run time."""
        wanted, members = system.with_agents(self.wanted), self.members.with_agent(agent)
        if wanted != self.wanted or members != self.members:
            self._provide(wanted, members)

    def _admit(self, members: commons.Members) -> bool:
        """Whether others than before may use the names, the mailboxes and the hub from now on."""
        self.server.admit_by(self.plan.access, members.agents)
        if members == self.members:
            return False
        self.members = members
        if fault := commons.admit(self.plan.daemon.run_dir, members):
            self.books.daemon_event("fault", fault)
        self.runtime.relay.from_parent(AdmitDown(members.listed()))
        return True

    # ending

    def ends(self) -> None:
        """The root's own supervisor has begun to stop: asked to, or because the tree has given up."""
        if self.state != "stopping":
            self.deploying.abandon("the daemon ends by itself")

    def stop(self, *, now: bool = False, text: str = "") -> None:
        """Stop everything in order, then end; `now`: without asking anybody."""
        if self.state != "stopping":
            self.deploying.abandon(f"the daemon was stopped{f' ({text})' if text else ''}")
            self.state = "stopping"
            self.books.daemon_event("daemon_stopping", text)
            self.tell_systemd("STOPPING=1\nSTATUS=stopping" + (f": {text}" if text else ""))
            self._alive.ending()
        self.runtime.stop(now=now, text=text)

    def _survive(self, error: Exception) -> None:
        """A mistake of ours in one event is told, and is no reason to take the whole tree down."""
        import traceback

        self.loop.call_soon(self.runtime.reaper.sweep)  # in case it was a death that was being handled
        complain(f"internal error, the daemon goes on:\n{''.join(traceback.format_exception(error))}")
        self.books.daemon_event("fault", f"internal error: {type(error).__name__}: {error}")

    def _interrupt(self) -> None:
        """The first SIGINT stops in order, the second at once."""
        self.stop(now=self._interrupted, text="SIGINT")
        self._interrupted = True

    def _hangup(self) -> None:
        """SIGHUP: new files, at once or when it is ready and no apply is under way; by a new regrow if there is one."""
        self.streams.reopen()
        if self.state == "starting" or self.deploying.busy:
            self._hung_up = True
        elif self.state == "running":
            self.reexec.renew()

    def apply_files(self) -> None:
        """Apply the daemon's files; the service manager is told of it."""
        if self.state != "running":
            return
        if self.deploying.busy:  # it may have read its files before these were written
            self._hung_up = True
            return

        def over(status: str) -> None:
            if self.state == "running":
                self.tell_systemd(f"READY=1\n{status}")

        def done(told: dict[str, Any]) -> None:
            if told["outcome"] in ("done", "unchanged"):
                over(self.books.status_line())
            else:
                over(f"STATUS=apply {told['id']}: {told['outcome'].replace('_', ' ')}: {one_line(told['reason'])}")
            if told["outcome"] == "unchanged":
                self.books.daemon_event("apply_done", "nothing has changed")

        def failed(error: ControlError) -> None:
            over(f"STATUS=nothing was applied: {one_line(str(error))}")
            complain(f"nothing was applied: {error}")
            self.books.daemon_event("fault", f"nothing was applied: {error}")

        self.tell_systemd(f"RELOADING=1\nMONOTONIC_USEC={int(self.loop.now() * 1e6)}")
        self.deploying.start((), "SIGHUP", done, failed)


def one_line(text: str) -> str:
    """A text as the service manager takes it."""
    return " ".join(text.split())


def main() -> None:
    """The process that `launch.up` execs; its only argument is the descriptor of what it is to run."""
    from regrow.daemon import startup

    sys.exit(startup.run(int(sys.argv[1])))
