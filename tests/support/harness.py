"""
A real daemon under test: `regrow up FILE` in a directory of its own, and proof that it leaves nothing.

Readiness comes over the daemon's own sd_notify socket and ends over pidfds: nothing polls, nothing sleeps.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import processes
import procs
from wire import TIMEOUT_S, Event, Wire

REGROW = str(Path(sys.executable).with_name("regrow"))


class DaemonEnded(Exception):
    """The daemon ended instead of becoming ready: its exit `status` and what it said."""

    def __init__(self, status: int, output: str) -> None:
        super().__init__(f"regrow up ended with status {status}:\n{output}")
        self.status = status
        self.output = output


class Daemon:
    """
    `regrow up` on `directory/regrow.toml`. run, state and log directories are inside `directory`.

    `wrapper` is an argv that ends by executing what follows it, and `passed` the descriptors that it has; `notices`
    are what the daemon has said until it was ready.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "regrow.toml"
        self.run_dir = directory / "run"
        self.output = directory / "output"
        self.control: Wire
        self.stream: Wire
        self.wrapper: list[str] = []
        self.passed: list[int] = []
        self.notices: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wires: list[Wire] = []
        self._others = frozenset(processes.children())

    def launch(self) -> None:
        """Start the process; it is not ready yet."""
        address = str(self.directory / "notify")
        self._notify.bind(address)
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [*self.wrapper, REGROW, "up", str(self.file)],
                pass_fds=self.passed,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "NOTIFY_SOCKET": address},
                cwd=self.directory,
            )
        self._pidfd = procs.pidfd(self._process.pid)

    def start(self, timeout_s: float = TIMEOUT_S) -> None:
        """Launch and wait until the whole tree is ready. Raises DaemonEnded, TimeoutError."""
        self.launch()
        self.until_ready(timeout_s)

    def until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait for the daemon's READY=1, then connect to it. Raises DaemonEnded, TimeoutError."""
        deadline = time.monotonic() + timeout_s
        waiting: list[socket.socket | int] = [self._notify, self._pidfd]
        while True:
            readable = select.select(waiting, [], [], max(0, deadline - time.monotonic()))[0]
            if self._notify in readable:
                self.notices.append(self._notify.recv(1 << 16).decode())
                if "READY=1" in self.notices[-1].split("\n"):
                    break
            elif readable:
                raise DaemonEnded(self.wait_exit(), self.said())
            else:
                raise TimeoutError(f"regrow up not ready within {timeout_s} s:\n{self.said()}")
        self.attach()

    def heard(self, until: str = "") -> list[str]:
        """What the daemon has told its service manager since this was last asked; waits for `until` in it."""
        found: list[str] = []
        while select.select([self._notify], [], [], TIMEOUT_S if until and until not in "".join(found) else 0)[0]:
            found.append(self._notify.recv(1 << 16).decode())
        return found

    @property
    def ready(self) -> bool:
        return hasattr(self, "stream")

    def attach(self) -> None:
        """Connect to the control socket: one connection for requests, one for the event stream."""
        self.control = self.connect()
        self.stream = self.connect()
        self.stream.follow()

    def connect(self) -> Wire:
        wire = Wire(self.run_dir / "control.sock")
        self._wires.append(wire)
        return wire

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def wait_exit(self, timeout_s: float = TIMEOUT_S) -> int:
        """The exit status of `regrow up`, waiting for it."""
        assert self._process is not None
        if not select.select([self._pidfd], [], [], timeout_s)[0]:
            raise TimeoutError(f"regrow up did not end within {timeout_s} s:\n{self.said()}")
        return self._process.wait()

    def down(self, timeout_s: float = TIMEOUT_S) -> int:
        """Ask for an orderly stop through the control socket, wait for the end, give the exit status."""
        self.control.call("down")
        return self.wait_exit(timeout_s)

    def events(self) -> list[Event]:
        """What came over the event stream so far; nothing if the daemon was never ready."""
        return self.stream.events if self.ready else []

    def leftovers(self) -> list[str]:
        """Processes of this run that still exist, zombies among them included; to be empty after the end."""
        alive = procs.carrying(str(self.directory))
        known = {int(event["pid"]) for event in self.events() if event.get("pid")}
        zombies = [f"{pid} is a zombie" for pid in sorted(known) if procs.state(pid) == "Z"]
        return [f"{pid}: {arguments}" for pid, arguments in sorted(alive.items())] + zombies

    def dispose(self) -> None:
        """Whatever the test did: end what is left of this run, close what is open."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._pidfd)
        while alive := procs.carrying(str(self.directory)):
            for pid in alive:
                try:
                    procs.kill(pid)
                    procs.wait_dead(pid, TIMEOUT_S)
                except ProcessLookupError:
                    pass  # it ended meanwhile, with its parent
        processes.await_no_children(keep=self._others)
        for wire in self._wires:
            wire.close()
        self._notify.close()
