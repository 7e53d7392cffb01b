"""
The root on its way into a new program: asked first whether that can take over, then it, then all supervisors below it.

Nothing has changed until the new program has read what every supervisor would carry. The root goes first, so that a
supervisor that dies meanwhile is made anew by the new program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from regrow.config.version import VERSION
from regrow.daemon import errand
from regrow.daemon.channel_messages import ReexecDown, ReplyUp
from regrow.daemon.control import Connection, ControlError
from regrow.daemon.core.effects import Code
from regrow.daemon.reexec import asking, carried, carried_root, execute, supervisor
from regrow.daemon.reexec.carried_root import Progress
from regrow.daemon.tell import complain
from regrow.daemon.tree import ROOT

if TYPE_CHECKING:
    from regrow.daemon.root import Root

ASK_S = 15.0
"""How long supervisors may take to say what they would carry; one that is busy says so sooner (`renewal.QUIET_S`)."""

QUIET_S = 5.0
AGAIN_S = 0.01

FOLLOW_S = 30.0
"""How long a supervisor may take to say that it goes on in the new program."""

GONE = frozenset({Code.NOPROC, Code.SHUTDOWN})
"""The supervisor has ended; whoever makes it anew does so with the program that he has himself."""


class Reexec:
    """Of one root; one re-execution at a time. `python` is the interpreter whose regrow this is."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.python = sys.executable
        self._progress: Progress | None = None
        self._asked_by: Connection | None = None
        self._refused: dict[str, str] = {}
        self._deaf_s: dict[str, float] = {}
        self._applies = False

    @property
    def under_way(self) -> bool:
        return self._progress is not None

    def begin(self, python: str, connection: Connection | None = None, id: Any = None) -> None:
        """
        Go on in the regrow of that interpreter; the answer comes over `connection`, when all is done or was refused.

        Raises:
            ControlError: not now.
        """
        if self.under_way:
            raise ControlError("busy", "the daemon is re-executing itself already")
        if self._root.state != "running":
            raise ControlError("busy", f"the daemon is {self._root.state}")
        if self._root.deploying.busy:
            raise ControlError("busy", f"cannot re-execute now: {self._root.deploying.busy}")
        names = tuple(self._root.tree.supervisors())
        self._asked_by = connection
        program = execute.program(python)
        self._progress = Progress(program, VERSION, self._root.loop.now(), names, id=id)
        self._ask_all(self._progress)

    def renew(self) -> None:
        """
        Apply the files; first go on in the regrow that is installed now, where that is another than this.

        They are applied whatever comes of that.
        """

        def answered(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                self._fault(f"cannot tell which regrow is installed: {result}")
            elif result.decode(errors="replace") != VERSION and not self.under_way:
                try:
                    self.begin(self.python)
                except ControlError as error:
                    self._fault(str(error))
            if self.under_way:
                self._applies = True
            else:
                self._root.apply_files()

        self._root.errands.run(lambda: asking.version(self.python), answered)

    # before

    def _ask_all(self, progress: Progress) -> None:
        """Have every supervisor say what it would carry."""
        waiting, values = set(progress.left), []

        def answered(name: str) -> Callable[[ReplyUp], None]:
            def answer(reply: ReplyUp) -> None:
                waiting.discard(name)
                if self._progress is not progress:
                    return
                if reply.code is None:
                    values.append(reply.ok)
                elif reply.code not in GONE:
                    self._fail(ControlError("busy", f"cannot re-execute now: {reply.message}"))
                    return
                if not waiting:
                    late.cancel()
                    self._check(progress, values)

            return answer

        def is_late() -> None:
            if self._progress is progress:
                text = f"{', '.join(sorted(waiting))} has not answered within {ASK_S:g} s"
                self._fail(ControlError("busy", f"cannot re-execute now: {text}"))

        late = self._root.loop.call_later(ASK_S, is_late)
        for name in progress.left:
            self._root.asking.send_down(name, ReexecDown, answered(name))

    def _check(self, progress: Progress, values: list[bytes]) -> None:
        try:
            values.append(_encoded(*gather(self._root, progress)))
        except carried.Incompatible as error:
            self._fail(ControlError("start_failed", f"nothing has changed: {error}"))
            return

        def checked(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                self._fail(ControlError("start_failed", f"nothing has changed: {result}"))
            else:
                self._exec_when_quiet(self._root.loop.now() + QUIET_S)

        self._root.errands.run(lambda: asking.check(progress.program[0], values), checked)

    def _exec_when_quiet(self, until_s: float) -> None:
        root = self._root
        if root.state != "running":
            self._fail(ControlError("shutdown", "the daemon is stopping"))
        elif not (reason := _busy(root)):
            root.loop.call_soon(lambda: self._exec(until_s))
        elif root.loop.now() < until_s:
            root.loop.call_later(AGAIN_S, lambda: self._exec_when_quiet(until_s))
        else:
            self._fail(ControlError("busy", f"cannot re-execute now: {reason}"))

    def _exec(self, until_s: float) -> None:
        root, progress = self._root, self._progress
        assert progress is not None
        if root.state != "running" or _busy(root):
            self._exec_when_quiet(until_s)
            return
        asked_by = self._asked_by
        left = tuple(self._root.tree.supervisors())
        fd = asked_by.fd if asked_by is not None and not asked_by.closed else -1
        root.books.daemon_event("reexecuting", f"regrow {VERSION} goes on as {progress.program[0]}")
        root.tell_systemd(f"RELOADING=1\nMONOTONIC_USEC={int(root.loop.now() * 1e6)}")
        own, above = gather(root, replace(progress, fd=fd, left=left, applies=self._applies))
        try:
            data = _encoded(own, above)
        except carried.Incompatible as error:
            text = str(error)
        else:
            keep = carried.descriptors(own) | carried_root.descriptors(above)
            supervisor.unwatch(root.runtime)
            failure = execute.become(progress.program, data, keep, root.loop.unheard)
            supervisor.watch(root.runtime)
            text = f"cannot exec {progress.program[0]}: {failure.strerror}"
        if not self._applies:
            root.tell_systemd(f"READY=1\n{root.books.status_line()}")
        self._fail(ControlError("start_failed", text))

    def _fail(self, error: ControlError) -> None:
        progress, self._progress = self._progress, None
        assert progress is not None
        asked_by, self._asked_by = self._asked_by, None
        if asked_by is not None:
            asked_by.refuse(progress.id, error)
        if self._root.state == "running":
            self._fault(str(error), aloud=asked_by is None)
        self._apply()

    def _fault(self, text: str, *, aloud: bool = True) -> None:
        self._root.books.daemon_event("fault", text)
        if aloud:
            complain(text)

    # after

    def go_on(self, progress: Progress, deaf_s: float) -> None:
        """The root has gone on, and heard nothing for so long; have the supervisors follow, one after the other."""
        self._progress, self._applies = progress, progress.applies
        self.python = progress.program[0]
        self._deaf_s[ROOT] = deaf_s
        connections = self._root.server.connections
        self._asked_by = next((found for found in connections if found.fd == progress.fd), None)
        self._next()

    def _next(self) -> None:
        progress = self._progress
        assert progress is not None
        if self._root.state != "running":
            self._fail(ControlError("shutdown", "the daemon is stopping"))
            return
        if not progress.left:
            self._finish(progress)
            return
        name, *left = progress.left
        self._progress = replace(progress, left=tuple(left))
        node = self._root.tree.nodes.get(name)
        if node is None or node.pid is None:
            self._root.loop.call_soon(self._next)
            return
        over = False

        def answer(reply: ReplyUp) -> None:
            nonlocal over
            if not over:
                over = True
                late.cancel()
                self._followed(name, reply)

        text = f"it has not answered within {FOLLOW_S:g} s"
        late = self._root.loop.call_later(FOLLOW_S, lambda: answer(ReplyUp(0, code=Code.BUSY, message=text)))
        program = progress.program
        self._root.asking.send_down(name, lambda route, number: ReexecDown(route, number, program), answer)

    def _followed(self, name: str, reply: ReplyUp) -> None:
        assert self._progress is not None
        if reply.code is None:
            self._progress = replace(self._progress, done=(*self._progress.done, name))
            self._deaf_s[name] = reply.ok
        elif reply.code not in GONE:
            self._refused[name] = reply.message
        self._next()

    def _finish(self, progress: Progress) -> None:
        root, asked_by = self._root, self._asked_by
        self._progress = self._asked_by = None
        refused, self._refused = self._refused, {}
        deaf_s, self._deaf_s = self._deaf_s, {}
        took_s = root.loop.now() - progress.began_s
        text = f"regrow {VERSION}, before {progress.version}: root and {len(progress.done)} supervisors, {took_s:.2f} s"
        root.books.daemon_event("reexecuted", text)
        for name, message in refused.items():
            self._fault(f"{name} has not followed: {message}", aloud=asked_by is None)
        if asked_by is not None:
            answer = {
                "version": VERSION,
                "before": progress.version,
                "pid": os.getpid(),
                "supervisors": list(progress.done),
                "refused": [{"name": name, "message": message} for name, message in refused.items()],
                "took_s": round(took_s, 3),
                "deaf_ms": {name: round(seconds * 1000, 1) for name, seconds in deaf_s.items()},
            }
            asked_by.answer(progress.id, answer)
        if not self._applies:
            root.tell_systemd(f"READY=1\n{root.books.status_line()}")
        self._apply()

    def _apply(self) -> None:
        """What a SIGHUP has asked for."""
        applies, self._applies = self._applies, False
        if applies:
            self._root.apply_files()


def _busy(root: Root) -> str:
    """Why the root cannot exec itself at this moment; empty when it can."""
    if root.deploying.busy:
        return root.deploying.busy
    if len(root.asking):
        return "a request is not answered yet"
    if root.errands.busy:
        return "files are being read"
    if not root.streams.settled:
        return "log files are being reopened"
    return supervisor.busy(root.runtime)


def gather(root: Root, progress: Progress) -> tuple[carried.Supervisor, carried_root.Root]:
    """All that `root` is."""
    return supervisor.gather(root.runtime), carried_root.Root(
        plan=root.plan,
        lock_fd=root.lock_fd,
        members=root.replanning.members,
        wanted=root.replanning.wanted,
        system=root.replanning.own,
        top=root.replanning.top,
        tree=root.tree.carried(),
        log=root.events.carried(),
        written=root.books.carried(),
        streams=root.streams.carried(),
        streams_fd=root.streams.fd,
        arriving_fd=root.outputs.fd,
        listener_fd=root.server.fd,
        clients=tuple(connection.carried() for connection in root.server.connections),
        awaited=root.verbs.exit_reason.carried(),
        listening=root.sockets.carried(),
        deployed=root.deploying.carried(),
        requests=root.asking.newest,
        notify=root.notify,
        watchdog_s=root.watchdog_s,
        progress=progress,
    )


def _encoded(own: carried.Supervisor, above: carried_root.Root) -> bytes:
    return carried.encode(own, carried_root.encode(above))


def take_up(root: Root, found: carried_root.Root) -> None:
    """Go on with what was gathered; clients notice nothing."""
    root.state = "running"
    root.tree.take_up(found.tree)
    root.events.take_up(found.log)
    root.books.take_up(found.written)
    root.streams.take_up(found.streams)
    root.deploying.take_up(found.deployed)
    root.asking.newest = found.requests
    connections = {client.fd: root.server.take_up(client) for client in found.clients}
    for client in found.clients:
        if connections[client.fd].closed:
            continue  # it was sent what it still had to get, and is gone
        for follow in client.follows:
            root.verbs.follow(connections[client.fd], follow)
    for awaited in found.awaited:
        if not connections[awaited.fd].closed:
            root.verbs.exit_reason.take_up(awaited, connections[awaited.fd])


def python_of(request: object, own: str) -> str:
    """
    The interpreter that a request names; `own` when it names none.

    Raises:
        ControlError: it is no absolute path.
    """
    if request is None:
        return own
    if not isinstance(request, str) or not os.path.isabs(request):
        raise ControlError("bad_request", '"python" is the absolute path of an interpreter')
    return request
