"""
What clients may ask of the daemon, verb by verb.

Status, events and explanations are answered from the root's own books, at once. Management calls go to the
supervisor concerned, and their answer comes when it has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from regrow.config.spec import ChildSpec, Kind, ShutdownKind, SupervisorSpec, WorkerSpec
from regrow.config.version import VERSION
from regrow.daemon import why
from regrow.daemon.channel_messages import ReplyUp
from regrow.daemon.control import MAX_FOLLOWS, Connection, ControlError, Follow
from regrow.daemon.core.events import (
    CountChildren,
    DeleteChild,
    GetChildspec,
    Request,
    RestartChild,
    TerminateChild,
    WhichChildren,
)
from regrow.daemon.deploying.plans import MAX_FILES
from regrow.daemon.exit_reason import ExitReason
from regrow.daemon.loop import Timer
from regrow.daemon.reexec.root import python_of

if TYPE_CHECKING:
    from regrow.daemon.root import Root

Answer = Callable[[ReplyUp], None]


class Job(Struct):
    """One client's request over several children: what is still out, and what came of the rest."""

    waiting: set[str]
    results: dict[str, dict[str, Any]]
    timer: Timer | None = None
    over: bool = False


class Verbs:
    """`serve` dispatches one request; it may raise ControlError."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.exit_reason = ExitReason(root, root.books.ends)
        self._table: dict[str, Callable[[Connection, Any, Mapping[str, Any]], None]] = {
            "ping": self._ping,
            "status": self._status,
            "events": self._events,
            "why": self._why,
            "exit_reason": self.exit_reason.serve,
            "start": lambda *call: self._many("start", *call),
            "stop": self._stop,
            "restart": lambda *call: self._many("restart", *call),
            "down": self._down,
            "reload": self._reload,
            "plan": self._plan,
            "reexec": self._reexec,
            "apply": self._apply,
            "cancel_apply": self._cancel_apply,
            "applies": self._applies,
            "rollback": self._rollback,
            "start_child": self._start_child,
            "restart_child": lambda *call: self._manage(RestartChild, *call),
            "terminate_child": lambda *call: self._manage(TerminateChild, *call),
            "delete_child": lambda *call: self._manage(DeleteChild, *call),
            "get_childspec": lambda *call: self._manage(GetChildspec, *call),
            "which_children": lambda *call: self._look_into(WhichChildren, *call),
            "count_children": lambda *call: self._look_into(CountChildren, *call),
        }

    def serve(self, connection: Connection, id: Any, verb: str, request: dict[str, Any]) -> None:
        handler = self._table.get(verb)
        if handler is None:
            raise ControlError("bad_request", f"no such verb: {verb}; there are {', '.join(sorted(self._table))}")
        handler(connection, id, request)

    # looking

    def _ping(self, connection: Connection, id: Any, _request: Mapping[str, Any]) -> None:
        daemon = self._root.plan.daemon
        answer = {
            "pid": os.getpid(),
            "name": daemon.name,
            "version": VERSION,
            "state": self._root.state,
            "run_dir": daemon.run_dir,
            "log_dir": daemon.log_dir,
            "files": list(self._root.plan.files),
        }
        connection.answer(id, answer)

    def _status(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        names = [found for name in _names(request) for found in self._find(name)]
        connection.answer(id, self._root.tree.entries(names, everything=bool(request.get("all"))))

    def _events(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        since, limit = _int(request, "since", 0), _int(request, "limit", None)
        if request.get("follow") and len(connection.follows) >= MAX_FOLLOWS:
            raise ControlError("bad_request", f"this connection follows {MAX_FOLLOWS} times already")
        wanted = set(_names(request))
        for name in list(wanted):
            wanted.update(node.name for found in self._root.tree.find(name) for node in self._root.tree.subtree(found))
        connection.answer(id, self._root.events.since(since or 0, wanted, limit))
        if request.get("follow"):
            self.follow(connection, Follow(id, frozenset(wanted)))

    def follow(self, connection: Connection, follow: Follow) -> None:
        """Send every event from now on, until the connection is closed."""
        log, key = self._root.events, object()

        def tell(event: dict[str, Any]) -> None:
            if not follow.names or event["name"] in follow.names:
                connection.send({"id": follow.id, "event": event})

        connection.follows.append(follow)
        log.subscribe(key, tell)
        connection.on_close.append(lambda: log.unsubscribe(key))

    def _why(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        tree, log = self._root.tree, self._root.events
        name = _text(request, "name")
        left = not tree.find(name) and log.get(log.latest(name)) is not None
        name = name if left else self._find(name)[0]
        chain = why.chain_of(log.get(log.latest(name)), log.get)
        entry = None if left else tree.entry(tree.nodes[name])
        if entry is None:
            text = why.explain_left(name, chain, log.newest(name, ("exited", "start_failed", "stopped")))
        else:
            text = why.explain(entry, chain)
        connection.answer(id, {"name": name, "status": entry, "text": text, "chain": chain})

    # acting on many

    def _stop(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        if request.get("names"):
            self._many("stop", connection, id, request)
        else:
            self._down(connection, id, request)

    def _down(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        connection.answer(id, {"pid": os.getpid()})
        self._root.stop(now=bool(request.get("now")), text=f"asked by {connection.identity}")

    def _reload(self, connection: Connection, id: Any, _request: Mapping[str, Any]) -> None:
        self._root.reload(*_either(connection, id))

    def _plan(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        self._root.deploying.plan(_files(request), *_either(connection, id))

    def _reexec(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        reexec = self._root.reexec
        reexec.begin(python_of(request.get("python"), reexec.python), connection, id)

    def _apply(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        self._root.deploying.start(_files(request), connection.identity, *_either(connection, id))

    def _cancel_apply(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        wait = request.get("wait") is not False
        self._root.deploying.cancel(connection.identity, *_either(connection, id), wait=wait)

    def _applies(self, connection: Connection, id: Any, _request: Mapping[str, Any]) -> None:
        self._root.deploying.list(*_either(connection, id))

    def _rollback(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        self._root.deploying.go_back(_int(request, "apply", None), connection.identity, *_either(connection, id))

    def _many(self, verb: str, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        names = list(dict.fromkeys(found for name in _names(request) for found in self._find(name)))
        if not names:
            raise ControlError("bad_request", f'{verb} needs "names"')
        timeout_s = _number(request, "timeout_s")
        job = Job(waiting=set(names), results={})

        def finish() -> None:
            if not job.over and not job.waiting:
                job.over = True
                if job.timer is not None:
                    job.timer.cancel()
                connection.answer(id, [job.results[name] for name in names])

        def late() -> None:
            job.over = True
            text = f"still waiting for {', '.join(sorted(job.waiting))} after {timeout_s:g} s; it goes on"
            connection.refuse(id, ControlError("timeout", text, waiting=sorted(job.waiting)))

        if timeout_s is not None:
            job.timer = self._root.loop.call_later(timeout_s, late)
        for name in names:
            self._one(verb, name, connection.identity, self._concluded(job, name, finish))

    @staticmethod
    def _concluded(job: Job, name: str, finish: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
        def done(result: dict[str, Any]) -> None:
            job.results[name] = {"name": name, **result}
            job.waiting.discard(name)
            finish()

        return done

    def _one(self, verb: str, name: str, by: str, done: Callable[[dict[str, Any]], None]) -> None:
        if verb == "start":
            self._start(name, by, done, "started")
        elif verb == "stop":
            self._terminate(name, by, done)
        else:
            self._terminate(name, by, lambda result: self._restarted(name, by, result, done))

    def _restarted(self, name: str, by: str, stopped: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        if "error" in stopped:
            done(stopped)
        else:
            self._start(name, by, done, "restarted")

    def _start(self, name: str, by: str, done: Callable[[dict[str, Any]], None], word: str) -> None:
        def answered(reply: ReplyUp) -> None:
            if reply.code is None:
                done({"result": word, "pid": reply.ok["pid"]})
            elif reply.code == "running":
                done({"result": "already_running", "pid": reply.pid})
            else:
                done({"result": "refused", "pid": None, "error": _error(reply)})

        parent = self._parent(name)
        self._root.deploying.wished(name, up=True)
        self._root.asking.ask(parent, lambda number: RestartChild(number, name), answered, by=by, about=name)

    def _terminate(self, name: str, by: str, done: Callable[[dict[str, Any]], None]) -> None:
        node = self._root.tree.nodes.get(name)
        was_down = node is None or (node.pid is None and node.state not in ("restarting", "waiting", "starting"))

        def answered(reply: ReplyUp) -> None:
            if reply.code is None:
                self._root.books.wanted(name, "down")
                done({"result": "already_stopped" if was_down else "stopped", "pid": None})
            else:
                done({"result": "refused", "pid": None, "error": _error(reply)})

        parent = self._parent(name)
        self._root.deploying.wished(name, up=False)
        self._root.asking.ask(parent, lambda number: TerminateChild(number, name), answered, by=by, about=name)

    def _parent(self, name: str) -> str | None:
        node = self._root.tree.nodes.get(name)
        return node.parent if node is not None else None

    # OTP's calls

    def _manage(
        self, kind: Callable[[int, Any], Request], connection: Connection, id: Any, request: Mapping[str, Any]
    ) -> None:
        supervisor = self._supervisor(request)
        child = request.get("child")
        if not isinstance(child, str | int) or isinstance(child, bool) or (isinstance(child, int) and child >> 31):
            raise ControlError("bad_request", '"child" is the name of a child')
        if isinstance(child, int) and kind is not TerminateChild:
            child = str(child)
        about = child if isinstance(child, str) and kind in (RestartChild, TerminateChild) else ""
        answer = _to(connection, id)

        def answered(reply: ReplyUp) -> None:
            if reply.code is None and kind is TerminateChild:
                self._root.books.wanted(about, "down")
            answer(reply)

        by = connection.identity
        if about:
            self._root.deploying.wished(about, up=kind is RestartChild)
        self._root.asking.ask(supervisor, lambda number: kind(number, child), answered, by=by, about=about)

    def _look_into(
        self, kind: Callable[[int], Request], connection: Connection, id: Any, request: Mapping[str, Any]
    ) -> None:
        self._root.asking.ask(self._supervisor(request), kind, _to(connection, id))

    def _start_child(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        supervisor = self._supervisor(request)
        raw = request.get("spec")
        if not isinstance(raw, dict):
            raise ControlError("bad_request", '"spec" is an object with "id" and the keys of a [worker.X] table')
        self._root.additions.start_child(supervisor, raw, connection.identity, _to(connection, id))

    def _supervisor(self, request: Mapping[str, Any]) -> str:
        name = _text(request, "supervisor")
        node = self._root.tree.nodes.get(name)
        if node is None or node.kind is not Kind.SUPERVISOR:
            raise ControlError("noproc", f"there is no supervisor {name}")
        if node.pid is None:
            raise ControlError("noproc", f"{name} is not running")
        return name

    def _find(self, name: str) -> list[str]:
        found = self._root.tree.find(name)
        if not found:
            left = self._root.events.latest(name) is not None
            remedy = f" any more; see `regrow why {name}`" if left else ""
            raise ControlError("not_found", f"there is no {name} in this tree{remedy}")
        return found


def _either(connection: Connection, id: Any) -> tuple[Callable[[Any], None], Callable[[ControlError], None]]:
    """What answers a request, and what refuses it."""
    return partial(connection.answer, id), partial(connection.refuse, id)


def _to(connection: Connection, id: Any) -> Answer:
    """Hand a supervisor's answer to the client."""

    def answered(reply: ReplyUp) -> None:
        if reply.code is None:
            connection.answer(id, plain(reply.ok))
        else:
            error = _error(reply)
            details = {} if reply.pid is None else {"pid": reply.pid}
            connection.refuse(id, ControlError(error["code"], error["message"], **details))

    return answered


def _error(reply: ReplyUp) -> dict[str, Any]:
    return {"code": str(reply.code), "message": reply.message}


def plain(ok: Any) -> Any:
    """An answer as JSON objects; a child spec is shown with the words of the file."""
    if isinstance(ok, dict) and ok.get("type") in ("worker", "supervisor"):
        ok = msgspec.convert(ok, ChildSpec)
    if isinstance(ok, WorkerSpec | SupervisorSpec):
        return childspec(ok)
    return msgspec.to_builtins(ok) if isinstance(ok, Struct) else ok


def childspec(spec: ChildSpec) -> dict[str, Any]:
    """A child spec as `get_childspec` shows it: all keys filled in (S147)."""
    start = {key: value for key in ("command", "target", "args_json") if (value := getattr(spec, key, None))}
    return {
        "id": spec.name,
        "kind": spec.kind,
        "type": "worker" if isinstance(spec, WorkerSpec) else "supervisor",
        "restart": spec.restart,
        "shutdown": spec.shutdown.timeout_s if spec.shutdown.kind is ShutdownKind.TIMEOUT else spec.shutdown.kind,
        "significant": spec.significant,
        "start": start,
    }


def _names(request: Mapping[str, Any]) -> list[str]:
    names = request.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ControlError("bad_request", '"names" is a list of names')
    return names


def _files(request: Mapping[str, Any]) -> list[str]:
    files = request.get("files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) and file.startswith("/") for file in files):
        raise ControlError("bad_request", '"files" is a list of absolute paths')
    if len(files) > MAX_FILES:
        raise ControlError("bad_request", f'"files" names more than {MAX_FILES}')
    return files


def _text(request: Mapping[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise ControlError("bad_request", f'"{key}" is a name')
    return value


def _int(request: Mapping[str, Any], key: str, default: int | None) -> int | None:
    value = request.get(key, default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ControlError("bad_request", f'"{key}" is a number, 0 or more')
    return value


def _number(request: Mapping[str, Any], key: str) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise ControlError("bad_request", f'"{key}" is a number of seconds')
    return float(value)
