"""
The two that are compared: a bare loop (`Floor`) and a daemon (`Daemon`), started and ended as context managers.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from regrow.ipc.control import ControlClient

TIMEOUT_S = 120.0
HERE = Path(__file__).parent

FLOOR = "import sys; from benchmarks.floors import main; main(*sys.argv[1:])"
UNLIMITED = 'intensity = 100000\nperiod = "1s"'
"""For supervisors whose children are killed over and over."""

STANDBY = "standby = 1\n"
"""Behind a worker's table."""


@contextmanager
def workspace() -> Iterator[Path]:
    """A directory of its own, with the modules `worker` and `agents` in it; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="regrow-bench.") as directory:
        for module in ("worker.py", "agents.py"):
            shutil.copy(HERE / module, directory)
        yield Path(directory)


def command_line() -> str:
    """
    The installed `regrow`, of the interpreter that runs the benchmarks.

    Raises:
        SystemExit: regrow is not installed.
    """
    beside = Path(sys.executable).parent / "regrow"
    found = str(beside) if beside.exists() else shutil.which("regrow")
    if found is None:
        sys.exit("cannot find the command regrow: install it first (pip install .)")
    return found


def clean_environ() -> dict[str, str]:
    """The environment without what would slow Python down or lead it elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REGROW"))}


class Floor:
    """One mode of floors.py as a process of its own; see there."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", FLOOR, *map(str, arguments)],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environ(),
            text=True,
        )

    def ask(self, line: str) -> str:
        """Say a line (none if empty), and hear one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=TIMEOUT_S)


class Daemon:
    """
    `regrow up` of a file in `directory`, in the foreground; constructed when all is ready. `keys`: more of its table.

    Raises:
        RuntimeError: it is not ready within `TIMEOUT_S`, or has ended.
    """

    def __init__(self, directory: Path, tables: str, *keys: str) -> None:
        self.run_dir = directory / "run"
        file = directory / "bench.toml"
        file.write_text(_daemon_table(directory) + "".join(f"{key}\n" for key in keys) + tables)
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = directory / "ready.sock"
        ready.bind(str(address))
        self._log = directory / "daemon.out"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [command_line(), "up", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environ(), "NOTIFY_SOCKET": str(address)},
            )
        try:
            self._await_ready(ready)
        except BaseException:
            self.close()
            raise
        finally:
            ready.close()
            address.unlink()
        self._client = ControlClient(self.run_dir, timeout_s=TIMEOUT_S)
        self.pid = self._process.pid

    def _await_ready(self, ready: socket.socket) -> None:
        pidfd = os.pidfd_open(self._process.pid)
        try:
            while True:
                found, _, _ = select.select([ready.fileno(), pidfd], [], [], TIMEOUT_S)
                if pidfd in found or not found:
                    raise RuntimeError(f"the daemon is not ready: {self._log.read_text()}")
                if b"READY=1" in ready.recv(65536):
                    return
        finally:
            os.close(pidfd)

    def call(self, verb: str, **fields: Any) -> Any:
        """Ask through the control socket. Raises as `ControlClient.request`."""
        return self._client.request(verb, **fields)

    def pids(self, kind: str) -> dict[str, int]:
        """The processes of one kind, regrow's own workers included, by name."""
        return {entry["name"]: entry["pid"] for entry in self.call("status", all=True) if entry["kind"] == kind}

    def own_pids(self) -> dict[str, int]:
        """The processes that run nothing but regrow: root, supervisors, its own workers."""
        workers = {name: pid for name, pid in self.pids("function").items() if name.startswith("regrow.")}
        return {"root": self.pid, **self.pids("supervisor"), **workers}

    def close(self) -> None:
        """Stop everything and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self.close()


def await_spare(daemon: Daemon, name: str) -> None:
    """
    Return when the worker runs and a spare of it is ready.

    Raises:
        RuntimeError: there is none within `TIMEOUT_S`.
    """
    deadline_s, entry = time.monotonic() + TIMEOUT_S, {}
    while time.monotonic() < deadline_s:
        entry = daemon.call("status", names=[name])[0]
        if entry["ready"] and entry["standby"]["ready"]:
            return
        time.sleep(0.01)
    raise RuntimeError(f"{name} has no spare: {entry}")


def _daemon_table(directory: Path) -> str:
    return (
        '[daemon]\nname = "bench"\nroot = "app"\n'
        f'run_dir = "{directory}/run"\nstate_dir = "{directory}/state"\nlog_dir = "{directory}/log"\n'
    )


def supervisor(name: str, children: list[str], *keys: str) -> str:
    """A supervisor's table."""
    listed = ", ".join(f'"{child}"' for child in children)
    return f"[supervisor.{name}]\nchildren = [{listed}]\n" + "".join(f"{key}\n" for key in keys)


def command(name: str, program: Path, fifo: Path, replicas: int = 1) -> str:
    """The table of a command that announces itself in `fifo`."""
    return f'[worker.{name}]\ncommand = ["{program}", "{fifo}"]\n' + _replicas(replicas)


def function(name: str, fifo: Path | None = None, replicas: int = 1) -> str:
    """The table of a function that announces itself in `fifo`, or only waits."""
    what = f'function = "worker:announce"\nargs = {{ fifo = "{fifo}" }}\n' if fifo else 'function = "worker:wait"\n'
    return f"[worker.{name}]\n{what}" + _replicas(replicas)


def agent(name: str, target: str, replicas: int = 1, *, args: str = "{}") -> str:
    """The table of an agent; `args` as the file has them."""
    return f'[worker.{name}]\nagent = "{target}"\nargs = {args}\n' + _replicas(replicas)


def _replicas(count: int) -> str:
    return f"replicas = {count}\n" if count > 1 else ""
