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

import msgspec
from msgspec.structs import replace

from regrow.config import exits
from regrow.config.spec import Kind
from regrow.config.version import VERSION
from regrow.daemon import errand
from regrow.daemon.channel import ReexecDown, ReplyUp
from regrow.daemon.control import Connection, ControlError
from regrow.daemon.core.effects import Code
from regrow.daemon.reexec import carried, carried_root, execute, supervisor
from regrow.daemon.reexec.carried_root import Progress
from regrow.daemon.tell import complain

if TYPE_CHECKING:
    from regrow.daemon.loop import Timer
    from regrow.daemon.root import Root

CHECK_S = 15.0
QUIET_S = 5.0
AGAIN_S = 0.01

FOLLOW_S = 30.0
"""How long a supervisor may take to say that it goes on in the new program."""

GONE = frozenset({Code.NOPROC, Code.SHUTDOWN})
"""The supervisor has ended; whoever makes it anew does so with the program that he has himself."""


class Reexec:
    """Of one root; one re-execution at a time."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._progress: Progress | None = None
        self._refused: dict[str, str] = {}
        self._late: Timer | None = None
        self._done: Callable[[], None] = lambda: None

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
        names = tuple(self._supervisors())
        fd = connection.fd if connection is not None else -1
        self._progress = Progress(execute.program(python), VERSION, self._root.loop.now(), names, fd=fd, id=id)
        self._ask_all(names)

    def _supervisors(self) -> list[str]:
        """All that run, parents first."""
        tree = self._root.tree
        nodes = [node for top in reversed(tree.tops) for node in tree.subtree(top)]
        return [node.name for node in nodes if node.kind is Kind.SUPERVISOR and node.pid is not None]

    # before

    def _ask_all(self, names: tuple[str, ...]) -> None:
        """Have every supervisor say what it would carry."""
        waiting, values = set(names), []

        def answered(name: str) -> Callable[[ReplyUp], None]:
            def answer(reply: ReplyUp) -> None:
                waiting.discard(name)
                if reply.code is None:
                    values.append(reply.ok)
                elif reply.code not in GONE:
                    self._fail(ControlError("busy", f"cannot re-execute now: {reply.message}"))
                if not waiting and self.under_way:
                    self._check(values)

            return answer

        for name in names:
            self._root.send_down(name, ReexecDown, answered(name))

    def _check(self, values: list[bytes]) -> None:
        assert self._progress is not None
        program = self._progress.program
        values.append(_encoded(*gather(self._root, self._progress)))
        argv = execute.program(program[0], execute.CHECK)

        def checked(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                self._fail(ControlError("start_failed", f"nothing has changed: {result}"))
            else:
                self._exec_when_quiet(self._root.loop.now() + QUIET_S)

        self._root.errands.run(lambda: _run_check(argv, values), checked)

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
        if progress is None or _busy(root):
            self._exec_when_quiet(until_s)
            return
        root.books.daemon_event("reexecuting", f"regrow {VERSION} goes on as {progress.program[0]}")
        root.tell_systemd(f"RELOADING=1\nMONOTONIC_USEC={int(root.loop.now() * 1e6)}")
        own, above = gather(root, self._still_asked(progress))
        keep = carried.descriptors(own) | carried_root.descriptors(above)
        supervisor.unwatch(root.runtime)
        error = execute.become(progress.program, _encoded(own, above), keep)
        supervisor.watch(root.runtime)
        root.tell_systemd(f"READY=1\n{root.books.status_line()}")
        self._fail(ControlError("start_failed", f"cannot exec {progress.program[0]}: {error.strerror}"))

    def _still_asked(self, progress: Progress) -> Progress:
        """Whoever has asked may have gone, and its descriptor be somebody else's."""
        fds = {connection.fd for connection in self._root.server.connections}
        return progress if progress.fd in fds else replace(progress, fd=-1)

    def _fail(self, error: ControlError) -> None:
        if self._progress is not None:
            progress, self._progress = self._progress, None
            self._root.books.daemon_event("fault", str(error))
            connection = self._connection(progress)
            if connection is not None:
                connection.refuse(progress.id, error)
            else:
                complain(str(error))
            self._over()

    # after

    def go_on(self, progress: Progress) -> None:
        """The root has gone on; have the supervisors follow, one after the other."""
        self._progress = progress
        self._next()

    def _next(self) -> None:
        progress = self._progress
        assert progress is not None
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

        text = f"{name} has not answered within {FOLLOW_S:g} s"
        late = self._root.loop.call_later(FOLLOW_S, lambda: answer(ReplyUp(0, code=Code.BUSY, message=text)))
        program = progress.program
        self._root.send_down(name, lambda route, number: ReexecDown(route, number, program), answer)

    def _followed(self, name: str, reply: ReplyUp) -> None:
        assert self._progress is not None
        if reply.code is None:
            self._progress = replace(self._progress, done=(*self._progress.done, name))
        elif reply.code not in GONE:
            self._refused[name] = reply.message
        self._next()

    def _finish(self, progress: Progress) -> None:
        root = self._root
        self._progress = None
        took_s = root.loop.now() - progress.began_s
        text = f"regrow {VERSION}, before {progress.version}: root and {len(progress.done)} supervisors, {took_s:.2f} s"
        root.books.daemon_event("reexecuted", text)
        for name, message in self._refused.items():
            root.books.daemon_event("fault", f"{name} goes on in the old program: {message}")
        root.tell_systemd(f"READY=1\n{root.books.status_line()}")
        refused = [{"name": name, "message": message} for name, message in self._refused.items()]
        self._refused = {}
        answer = {
            "version": VERSION,
            "before": progress.version,
            "pid": os.getpid(),
            "supervisors": list(progress.done),
            "refused": refused,
            "took_s": round(took_s, 3),
        }
        connection = self._connection(progress)
        if connection is not None:
            connection.answer(progress.id, answer)
        self._over()

    def _connection(self, progress: Progress) -> Connection | None:
        return next((found for found in self._root.server.connections if found.fd == progress.fd), None)

    def _over(self) -> None:
        done, self._done = self._done, lambda: None
        done()


def _busy(root: Root) -> str:
    """Why the root cannot exec itself at this moment; empty when it can."""
    if root.deploying.busy:
        return root.deploying.busy
    if root.asking:
        return "a request is not answered yet"
    if root.errands.busy:
        return "files are being read"
    if not root.streams.settled:
        return "log files are being reopened"
    return supervisor.busy(root.runtime)


def _run_check(argv: tuple[str, ...], values: list[bytes]) -> bytes:
    """
    Have the new program look at everything. Called in a process of its own.

    Raises:
        RuntimeError: it cannot be run, or will not.
    """
    import subprocess

    try:
        data = msgspec.msgpack.encode(values)
        ran = subprocess.run(argv, input=data, capture_output=True, timeout=CHECK_S, check=False)
    except OSError as error:
        raise RuntimeError(f"cannot run {argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{argv[0]} has not answered within {CHECK_S:g} s") from None
    if ran.returncode != exits.DONE:
        said = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"{argv[0]} cannot take over: {said or f'it ended with status {ran.returncode}'}")
    return ran.stdout


def gather(root: Root, progress: Progress) -> tuple[carried.Supervisor, carried_root.Root]:
    """All that `root` is."""
    own, top = root.specs
    return supervisor.gather(root.runtime), carried_root.Root(
        plan=root.plan,
        lock_fd=root.lock_fd,
        members=root.members,
        wanted=root.wanted,
        system=own,
        top=top,
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
        requests=root.requests,
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
    root.requests = found.requests
    connections = {client.fd: root.server.take_up(client) for client in found.clients}
    for client in found.clients:
        for follow in client.follows:
            root.verbs.follow(connections[client.fd], follow)
    for awaited in found.awaited:
        root.verbs.exit_reason.take_up(awaited, connections[awaited.fd])


def python_of(request: object) -> str:
    """
    The interpreter that a request names; this one's own when it names none.

    Raises:
        ControlError: it is no absolute path.
    """
    if request is None:
        return sys.executable
    if not isinstance(request, str) or not os.path.isabs(request):
        raise ControlError("bad_request", '"python" is the absolute path of an interpreter')
    return request
