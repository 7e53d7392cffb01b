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
from collections.abc import Callable
from typing import Any

from regrow.config import exits
from regrow.config.diff import diff
from regrow.config.spec import Plan
from regrow.daemon import errand, forked, sharing
from regrow.daemon.additions import Additions
from regrow.daemon.alive import Alive
from regrow.daemon.asking import Asking
from regrow.daemon.books import Books
from regrow.daemon.channel_messages import MatchedDown
from regrow.daemon.control import ControlError, ControlServer
from regrow.daemon.core.effects import Outcome
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
from regrow.daemon.replanning import Replanning
from regrow.daemon.runtime import Runtime
from regrow.daemon.sockets import Sockets
from regrow.daemon.streams import Streams
from regrow.daemon.tell import complain
from regrow.daemon.tree import Tree
from regrow.daemon.verbs import Verbs
from regrow.workers.system.log_protocol import RootEnd


class Root:
    """One daemon from its start to its end. `state` is starting, running or stopping."""

    def __init__(self, on: Footing) -> None:
        plan = on.plan
        self.plan = plan
        self.loop = Loop(self._survive)
        self.state = "starting"
        self.events = EventLog()
        self.tree = Tree(plan.root, on.system)
        self.notify, self.watchdog_s = on.notify, on.watchdog_s
        self.lock_fd = on.lock_fd
        self._alive = Alive(self, self.tell_systemd, on.watchdog_s)
        self.errands = errand.Errands(self.loop)
        self.asking = Asking(self)
        self.additions = Additions(self)
        self.replanning = Replanning(self, on)
        self._interrupted = False
        self._hung_up = False
        self.deploying = Deploying(self)
        books = Books(self)
        self.books = books
        self.streams = Streams(
            self.loop, RootEnd(on.streams_fd), plan.daemon.log_dir, books.printed, books.matched, books.logger_note
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
        self.server.admit_by(plan.access, on.members.agents)
        self.reexec = Reexec(self)

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
            self.replanning.take_over(plan, done)
            self.release_sockets()

        self.deploying.load((), loaded, failed)

    def release_sockets(self) -> None:
        """Close what is in the file no more, and in no table of a worker that runs, is to run, or may come back."""
        if self.sockets.retired and self.deploying.apply is None:
            self.sockets.release(self.tree.sockets_in_use())

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
    """The process that `launch` execs; its only argument is the descriptor of what it is to run."""
    from regrow.daemon import startup

    sys.exit(startup.run(int(sys.argv[1])))
