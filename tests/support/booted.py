"""
A real systemd as PID 1 of namespaces of its own, for the tests of the units. Needs root; see tests/programs/boot.sh.

Everything waits for events: systemd's own READY=1, `systemctl` without --no-block, and lines that the services write
into a FIFO (the bell).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from regrow.daemon.linux import cgroup_subtree
from regrow.daemon.linux.cgroup import Group

TIMEOUT_S = float(os.environ.get("REGROW_TEST_TIMEOUT_S", "30"))
"""A slow machine, such as an emulated one, is given more: see tests/systemd/guest."""

BOOT = Path(__file__).parents[1] / "programs" / "boot.sh"
PYTHON = "/opt/under-test/bin/python"
REGROW = (PYTHON, "-m", "regrow.daemon.cli.main")
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
SHARE = "/srv/share"
"""Where the services see the directory `share`."""


def why_not() -> str:
    """Why no systemd can be booted here; empty if there is no reason known."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("/lib/systemd/systemd", "nsenter", "unshare", "setpriv", "systemctl"):
        if shutil.which(program) is None:
            return f"there is no {program} (apt-get install systemd util-linux)"
    own, reason = cgroup_subtree.own_group()
    return reason or ("" if os.access(own, os.W_OK) else f"{own} is not writable")


class Machine:
    """The booted systemd. `share` is a directory that both sides see, with the FIFO `bell` in it."""

    def __init__(self, directory: Path) -> None:
        self.share = directory / "share"
        self.base = directory / "base"
        for made in (self.share, self.base):
            made.mkdir()
        self.share.chmod(0o777)
        for name in ("bell", "hold"):
            os.mkfifo(self.share / name)
            (self.share / name).chmod(0o666)
        self._bell = os.open(self.share / "bell", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._hold = os.open(self.share / "hold", os.O_RDWR | os.O_CLOEXEC)
        self._heard = b""
        own, _ = cgroup_subtree.own_group()
        self.group = Group(f"{own}/regrow-systemd-{os.getpid()}")
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def boot(self) -> None:
        """
        Until multi-user.target is reached.

        Raises:
            RuntimeError: this machine cannot; the text says what happened.
        """
        if reason := self.group.create():
            raise RuntimeError(reason)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as booted, (self.base.parent / "said").open("wb") as said:
            booted.bind(str(self.share / "booted"))
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",  # nothing else ends it when we are killed
                 # Whoever waits for systemd stays outside: a group with a process of its own hands no controller down.
                 "unshare", "--pid", "--fork", "--kill-child",
                 "sh", "-c", 'echo 0 > "$0" && exec "$@"', f"{self.group.path}/cgroup.procs",
                 "unshare", "--mount", "--cgroup", "--uts", "--ipc",
                 "sh", str(BOOT), str(self.base), str(self.share), sys.prefix, sys.base_prefix],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
            pidfd = os.pidfd_open(self._process.pid)
            try:
                self._await_boot(booted, pidfd)
            finally:
                os.close(pidfd)
        (self._pid,) = (pid for pid in self.group.pids() if inner_pid(pid) == 1)

    def _await_boot(self, booted: socket.socket, pidfd: int) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            waiting: list[socket.socket | int] = [booted, pidfd]
            ready = select.select(waiting, [], [], max(0.0, deadline_s - time.monotonic()))[0]
            if booted in ready and b"READY=1" in booted.recv(4096).split(b"\n"):
                return
            if pidfd in ready or not ready:
                raise RuntimeError(f"systemd did not boot: {(self.base.parent / 'said').read_text()[-500:]}")

    def close(self) -> None:
        """End everything at once; nothing is left of it."""
        if self._process is not None:
            self.group.kill()
            self._process.wait()
            self.wait_empty(self.group)
        self.group.remove()
        os.close(self._bell)
        os.close(self._hold)

    def run(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in there, to its end."""
        return subprocess.run(
            [*self._inside, *argv], env={**ENVIRON, **(env or {})},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip

    def await_line(self, wanted: str, *argv: str) -> None:
        """Run a program in there until it prints a line with `wanted`; then it is ended."""
        # --no-fork: `timeout` is our own child, ends with our SIGTERM, and hands it on to the program.
        argv = (*self._inside[:-1], "--no-fork", "--", "timeout", f"{TIMEOUT_S}", *argv)
        with subprocess.Popen(
            argv, env=ENVIRON, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    if wanted in line:
                        return
                raise AssertionError(f"no {wanted} in {''.join(lines)}")
            finally:
                process.terminate()

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "-t", str(self._pid), "-a", "--"]

    def do(self, *argv: str, env: dict[str, str] | None = None) -> str:
        """The same, of what must succeed; returns what it printed."""
        done = self.run(*argv, env=env)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def systemctl(self, *words: str) -> str:
        return self.do("systemctl", *words)

    def regrow(self, *words: str) -> str:
        return self.do(*REGROW, *words)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", f"--property={name}", "--value", unit).strip()

    def journal(self, unit: str) -> str:
        self.do("journalctl", "--sync")
        return self.do("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def unit_group(self, unit: str) -> Group:
        """The control group of a unit, as seen from outside."""
        return Group(self.group.path + self.show(unit, "ControlGroup"))

    def outside(self, pid: int) -> int:
        """The pid that we see, of one that they see."""
        (found,) = (seen for seen in self.group.pids() if inner_pid(seen) == pid)
        return found

    def main_pid(self, unit: str) -> int:
        """Of a unit, as we see it."""
        return self.outside(int(self.show(unit, "MainPID")))

    def await_bell(self, wanted: str) -> None:
        """
        Wait for the line `wanted`; the ones before it are dropped.

        Raises:
            AssertionError: it does not come.
        """
        deadline_s = time.monotonic() + TIMEOUT_S
        dropped = []
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                if line.decode() == wanted:
                    return
                dropped.append(line.decode())
            elif select.select([self._bell], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                self._heard += os.read(self._bell, 4096)
            else:
                raise AssertionError(f"{wanted!r} was not heard, only {dropped}")

    def heard(self) -> list[str]:
        """What has been said since, without waiting."""
        if select.select([self._bell], [], [], 0)[0]:
            self._heard += os.read(self._bell, 65536)
        lines, self._heard = self._heard.decode().splitlines(), b""
        return lines

    @staticmethod
    def wait_empty(group: Group) -> None:
        """Until no process is left in there."""
        fd = group.events_fd()
        if fd < 0:
            return
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        try:
            while group.populated():
                assert poll.poll(TIMEOUT_S * 1000), f"still in {group.path}: {group.pids()}"
                os.pread(fd, 256, 0)
        finally:
            os.close(fd)


class Watched:
    """Processes that are to end: `await_end` waits for all of them."""

    def __init__(self, pids: list[int]) -> None:
        self._fds = [os.pidfd_open(pid) for pid in pids]

    def await_end(self) -> None:
        for fd in self._fds:
            assert select.select([fd], [], [], TIMEOUT_S)[0], "it lives on"

    def are_alive(self) -> bool:
        return not select.select(self._fds, [], [], 0)[0]

    def send(self, number: signal.Signals) -> None:
        for fd in self._fds:
            signal.pidfd_send_signal(fd, number)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)


def inner_pid(pid: int) -> int:
    """The number that a process has in its own namespace; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[-1]) for line in status.splitlines() if line.startswith("NSpid:"))

