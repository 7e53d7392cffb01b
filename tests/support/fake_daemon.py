"""
A daemon of straw for tests of clients: the control protocol on a real socket, with facts that the test sets.

Run as a program (`python fake_daemon.py DIR`) it is a process of its own, for what is about the root's life: it says
"listening" on stdout, and after `down` it stays until its stdin is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0
AT = 1_790_000_000.0

Fact = dict[str, Any]


class Refusal(Exception):
    """What a handler raises to answer with an error."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **details}


def entry(name: str, supervisor: str | None = "app", **facts: object) -> Fact:
    """One entry of `status`: a running command unless `facts` say otherwise."""
    made: Fact = {
        "name": name, "path": name if supervisor is None else f"{supervisor}/{name}", "kind": "command",
        "state": "running", "want": "up", "ready": True, "pid": 4000, "incarnation": 1, "restarts": 0, "since": AT,
        "last_exit": None, "detail": "", "supervisor": supervisor, "strategy": None, "uptime_s": 10931.0,
    }  # fmt: skip
    return {**made, **facts}


def supervisor(name: str, parent: str | None = None, strategy: str = "one_for_one", **facts: object) -> Fact:
    """One entry of a supervisor."""
    return entry(name, parent, kind="supervisor", strategy=strategy, **facts)


def last_exit(reason: str = "exit", code: int | None = 1, signal: str | None = None, text: str = "") -> Fact:
    """How an incarnation ended."""
    return {"reason": reason, "code": code, "signal": signal, "at": AT, "text": text}


def event(seq: int, kind: str, name: str, **facts: object) -> Fact:
    """One event, a minute of history long ago."""
    made: Fact = {
        "seq": seq, "at": AT, "mono": 1.0, "event": kind, "name": name, "path": f"app/{name}", "incarnation": 1,
        "pid": 4000, "cause": None, "reason": None,
    }  # fmt: skip
    return {**made, **facts}


class FakeDaemon:
    """
    Serves until `close`. Change `entries`, `events` and `handlers` at will; `requests` gets every request as it comes.

    A verb in `gates` is answered only once its gate is set.
    """

    def __init__(self, run_dir: Path, name: str = "shop") -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.run_dir = run_dir
        self.name = name
        self.log_dir = run_dir / "log"
        self.entries: list[Fact] = []
        self.events: list[Fact] = []
        self.gates: dict[str, threading.Event] = {}
        self.requests: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self.handlers: dict[str, Callable[[Fact], Any]] = {
            "ping": self._ping, "status": self._status, "why": self._why,
            "start": lambda request: self._done(request, "started"),
            "stop": lambda request: self._done(request, "stopped"),
            "restart": lambda request: self._done(request, "restarted"),
            "down": lambda _request: {"pid": os.getpid()},
            "reload": lambda _request: {"added": [], "removed": [], "changed": []},
        }  # fmt: skip
        self._followers: list[tuple[Any, Connection]] = []
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # By a short name: the test's directory may be too long for an address.
        folder = os.open(run_dir, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody and leave the socket's file behind, as a killed root does."""
        for gate in self.gates.values():
            gate.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def hold(self, verb: str) -> threading.Event:
        """From now on `verb` is answered only after the returned gate is set."""
        self.gates[verb] = threading.Event()
        return self.gates[verb]

    def await_request(self, verb: str) -> Fact:
        """The next request of this verb, those before it being dropped."""
        while True:
            request = self.requests.get(timeout=TIMEOUT_S)
            if request["verb"] == verb:
                return request

    def emit(self, one: Fact) -> None:
        """Something happens: remember it and tell every follower."""
        with self._lock:
            self.events.append(one)
            for number, connection in self._followers:
                connection.send({"id": number, "event": one})

    def answer(self, request: Fact, connection: Connection) -> None:
        """Answer one request, waiting for its gate."""
        self.requests.put(request)
        gate = self.gates.get(request["verb"])
        if gate is not None:
            gate.wait(TIMEOUT_S)
        try:
            if request["verb"] == "events":
                self._events(request, connection)
                return
            if request["verb"] not in self.handlers:
                raise Refusal("bad_request", f"unknown verb {request['verb']!r}")
            connection.send({"id": request["id"], "ok": self.handlers[request["verb"]](request)})
        except Refusal as refusal:
            connection.send({"id": request["id"], "error": refusal.error})

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(Connection(self, accepted))

    def _ping(self, request: Fact) -> Fact:
        return {
            "pid": os.getpid(), "name": self.name, "version": "0", "state": "running", "run_dir": str(self.run_dir),
            "log_dir": str(self.log_dir), "files": [],
        }  # fmt: skip

    def _chosen(self, names: list[str]) -> list[Fact]:
        wanted = set(names)
        chosen = [
            one for one in self.entries
            if not wanted or wanted & {one["name"], one["name"].partition(".")[0], *one["path"].split("/")}
        ]  # fmt: skip
        for name in names:
            if not any(name in (one["name"], one["name"].partition(".")[0]) for one in chosen):
                raise Refusal("not_found", f"cannot find {name!r}: no child has this name")
        return chosen

    def _status(self, request: Fact) -> list[Fact]:
        return [
            one for one in self._chosen(request.get("names") or [])
            if request.get("all") or not one["name"].startswith("regrow.")
        ]  # fmt: skip

    def _why(self, request: Fact) -> Fact:
        one = self._chosen([request["name"]])[0]
        return {"name": request["name"], "status": one, "text": ["it runs", "because"], "chain": self.events}

    def _done(self, request: Fact, result: str) -> list[Fact]:
        return [{"name": one["name"], "result": result, "pid": 5000} for one in self._chosen(request["names"])]

    def _events(self, request: Fact, connection: Connection) -> None:
        names = request.get("names")
        with self._lock:
            past = [one for one in self.events if not names or one["name"] in names]
            past = [one for one in past if one["seq"] > request.get("since", 0)]
            limit = request.get("limit")
            if limit is not None:
                past = past[len(past) - min(limit, len(past)) :]
            connection.send({"id": request["id"], "ok": past})
            if request.get("follow"):
                self._followers.append((request["id"], connection))


class Connection:
    """One client. Requests are answered on threads of their own, so that a held one delays no other."""

    def __init__(self, daemon: FakeDaemon, accepted: socket.socket) -> None:
        self._daemon = daemon
        self._socket = accepted
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: Fact) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in [self._reader, *self._workers]:
            thread.join(TIMEOUT_S)
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                request = json.loads(line)
                if request["verb"] not in self._daemon.gates:
                    self._daemon.answer(request, self)
                    continue
                worker = threading.Thread(target=self._daemon.answer, args=(request, self), daemon=True)
                self._workers.append(worker)
                worker.start()
        # The client has hung up; whoever still has an answer for it finds a closed pipe.


def main() -> None:
    """Be a root process: one child, which is stopping from `down` until stdin ends."""
    daemon = FakeDaemon(Path(sys.argv[1]))
    daemon.entries = [supervisor("app"), entry("redis")]
    asked = threading.Event()

    def down(request: Fact) -> Fact:
        asked.set()
        return {"pid": os.getpid()}

    daemon.handlers["down"] = down
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    asked.wait()
    daemon.emit(event(1, "stopping", "redis"))
    sys.stdin.read()
    daemon.close()
    shutil.rmtree(sys.argv[1])


if __name__ == "__main__":
    main()
