"""
One daemon from life to life: its root may be killed at any moment, and `regrow up` is run again in the same place.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from pathlib import Path
from typing import Any

import processes
import procs
from harness import REGROW, Daemon
from wire import TIMEOUT_S, Event, Wire

from storm.witness import RUN


class Follower(Wire):
    """A connection that hands out the events of its stream as they come."""

    def take(self, timeout_s: float) -> list[Event]:
        """
        New events: those that are here, or else the first to come; none when the time is up.

        Raises:
            EOFError: the stream has ended and all of it was taken.
        """
        waited_s = 0.0 if self.events else timeout_s
        while not self.ended and self._readable(waited_s):
            self._read()
            waited_s = 0.0
        taken, self.events = self.events, []
        if not taken and self.ended:
            raise EOFError("the daemon has closed the event stream")
        return taken


class Lives(Daemon):
    """
    A daemon that may die. `run` marks all its processes; `pid` is that of the root (or of the `regrow up` that
    becomes it by exec). What is orphaned meanwhile falls to this process, which has to be a subreaper.
    """

    def __init__(self, directory: Path, run: str) -> None:
        super().__init__(directory)
        self.run = run
        self.count = 0
        self.outputs: list[str] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start the next life, after the previous one has ended in whatever way."""
        self._bury()
        address = self.directory / "notify"
        address.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(address))
        self.count += 1
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [REGROW, "up", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "NOTIFY_SOCKET": str(address), RUN: self.run},
                cwd=self.directory,
            )
        self._pidfd = procs.pidfd(self._process.pid)

    def attach(self) -> None:
        """Connect: one connection for requests, a follower for the events."""
        self.control = self.connect()
        self.stream = self.follower = Follower(self.run_dir / "control.sock")
        self._wires.append(self.follower)
        self.follower.follow()

    def ended_within(self, timeout_s: float) -> bool:
        """Let time pass, but not beyond the end of the root."""
        return bool(select.select([self._pidfd], [], [], timeout_s)[0])

    def status(self) -> list[dict[str, Any]]:
        """Every entry, regrow's own included. Raises EOFError, ConnectionError when there is no root any more."""
        answer: list[dict[str, Any]] = self.control.call("status", all=True)
        return answer

    def die(self) -> None:
        """SIGKILL to the root, wherever it stands; returns when it is dead."""
        with contextlib.suppress(ProcessLookupError):
            procs.kill(self.pid)
        self.wait_exit()

    def reap(self) -> None:
        """Reap the dead among what fell to us."""
        own = self._process.pid if self._process is not None else 0
        for pid in processes.children() - self._others - {own}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def await_orphans(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until nothing is left of what fell to us; for after an orderly end."""
        processes.await_no_children(timeout_s, keep=self._others)

    def _bury(self) -> None:
        if self._process is None:
            self._notify.close()
            return
        self.wait_exit()
        self.outputs.append(self.said())
        os.close(self._pidfd)
        self._notify.close()
        for wire in self._wires:
            wire.close()
        self._wires.clear()
        self._process = None
        self.reap()

