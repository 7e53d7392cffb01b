"""
Agents in processes of their own, without a daemon: a run_dir with a names table, a supervisor's notify socket, and a
node to talk to them.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from regrow.ipc.delivery import Awaits, Pending
from regrow.ipc.names import FOLDER
from regrow.ipc.node import Node
from regrow.workers import runtime

PROGRAMS = Path(__file__).parents[1] / "programs"
TIMEOUT_S = 10.0


class Running:
    """One agent. What it said to its supervisor is in `said`, in its order; what it printed in `printed()`."""

    def __init__(self, name: str, pid: int, notify: socket.socket, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.said: list[dict[str, str]] = []
        self._pidfd = os.pidfd_open(pid)
        self._notify = notify
        self._log = log
        self.status: int | None = None

    def printed(self) -> str:
        return self._log.read_text()

    def await_said(self, field: str, timeout_s: float = TIMEOUT_S) -> str:
        """Wait until the agent says this to its supervisor; the first that was not awaited yet. Fails at its death."""
        end_s = time.monotonic() + timeout_s
        while True:
            for index, fields in enumerate(self.said):
                if field in fields:
                    return self.said.pop(index)[field]
            if not self._may_hear(end_s - time.monotonic()):
                raise AssertionError(f"{self.name} did not say {field}; it printed:\n{self.printed()}")
            self._hear()

    def hear_all(self) -> None:
        """Take in what it has said so far."""
        while select.select([self._notify], [], [], 0)[0]:
            self._hear()

    def _may_hear(self, timeout_s: float) -> bool:
        """Wait for a word or for the death; whether there is a word."""
        poll = select.poll()
        poll.register(self._notify, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        return self._notify.fileno() in dict(poll.poll(max(0.0, timeout_s) * 1000))

    def _hear(self) -> None:
        text = self._notify.recv(1 << 16).decode()
        self.said.append(dict(line.split("=", 1) for line in text.split("\n")))

    def signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for its end; the exit status, or the negative number of the signal."""
        if self.status is None:
            ready, _, _ = select.select([self._pidfd], [], [], timeout_s)
            assert ready, f"{self.name} goes on; it printed:\n{self.printed()}"
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.hear_all()
        return self.status

    def stop(self) -> int:
        """Stop it as a supervisor would."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.wait()
        if self._notify.fileno() >= 0:
            os.close(self._pidfd)
            self._notify.close()


class House:
    """A run_dir, the agents in it, and `node`, which asks them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        (self.run_dir / "mbox").mkdir(parents=True)
        lmdb.open(str(self.run_dir / FOLDER)).close()
        self.agents: list[Running] = []
        self._node: Node | None = None
        self._incarnations: dict[str, int] = {}

    @property
    def node(self) -> Node:
        if self._node is None:
            self._node = Node(str(self.run_dir))
        return self._node

    def start(self, target: str, name: str = "agent", *, await_ready: bool = True, **options: Any) -> Running:
        """
        Start `target` of the test programs; `args` are those of the file, `environ` is added.

        Nothing may be under way meanwhile: `node` begins anew, since LMDB cannot be open where a fork is made.
        """
        self._close_node()
        self._incarnations[name] = self._incarnations.get(name, 0) + 1
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notify.bind("")
        log = self.folder / f"{name}.{self._incarnations[name]}.log"
        environ = {
            "REGROW_RUN_DIR": str(self.run_dir),
            "REGROW_NAME": name,
            "REGROW_INCARNATION": str(self._incarnations[name]),
            "NOTIFY_SOCKET": "@" + notify.getsockname()[1:].decode(),
            **options.pop("environ", {}),
        }
        args_json = msgspec.json.encode(options.pop("args", {})).decode()
        import_path = str(options.pop("import_path", PROGRAMS))
        assert not options
        pid = os.fork()
        if pid == 0:
            _be_agent(name, target, args_json, import_path, environ, log)
        running = Running(name, pid, notify, log)
        self.agents.append(running)
        if await_ready:
            running.await_said("READY")
        return running

    def submit(self, to: str, handler: str, *args: Any, **kwargs: Any) -> Pending:
        """A call under way."""
        return self.node.submit(Awaits.REPLY, to, handler, args, kwargs)

    def call(self, to: str, handler: str, *args: Any, **kwargs: Any) -> Any:
        """The reply, or the error that came in its place, raised."""
        return self.outcome(self.submit(to, handler, *args, **kwargs))

    def send(self, to: str, handler: str, *args: Any, **kwargs: Any) -> None:
        """Return when it is accepted."""
        self.outcome(self.node.submit(Awaits.ACCEPTANCE, to, handler, args, kwargs))

    def outcome(self, pending: Pending, timeout_s: float = TIMEOUT_S) -> Any:
        """What a message came to."""
        assert self.node.wait(pending, time.monotonic() + timeout_s), f"no outcome of {pending.handler}"
        if pending.error is not None:
            raise pending.error
        return None if pending.value is None else msgspec.msgpack.decode(pending.value)

    def close(self) -> None:
        for agent in self.agents:
            agent.close()
        self._close_node()

    def _close_node(self) -> None:
        if self._node is not None:
            self._node.close()
            self._node = None


def _be_agent(name: str, target: str, args_json: str, import_path: str, environ: dict[str, str], log: Path) -> None:
    status = 70
    try:
        os.environ.update(environ)
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        open_python_streams()
        status = runtime.run(name, target, args_json, import_path, lambda: None)
    except BaseException:  # noqa: BLE001 - a fork must never return into the test runner's frames
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def open_python_streams() -> None:
    """What is printed goes to descriptors 1 and 2, whatever pytest has put in their place."""
    import sys

    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """A house that is left empty."""
    made = House(folder)
    try:
        yield made
    finally:
        made.close()
