"""
Processes of probes: checks that run a program, or that touch a file system which may not answer.

Each is killed with its group when its time is up. A process that cannot even be killed (uninterruptible in a dead
file server) is waited for without end but never piled upon.

Source: pidfd_send_signal(2), waitid(2), setsid(2).
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable

from regrow.daemon.linux.probe_attempt import PASSED, Attempt, seconds
from regrow.daemon.linux.probe_fork import fork_check, read_said
from regrow.daemon.loop import Loop

MAX_ABANDONED = 64
"""Killed but not gone: beyond that nothing new is started until some of them are."""

_PIDFD_SIGNAL_PROCESS_GROUP = 4  # Linux 6.9


class ProbeProcess:
    """One forked check. `on_exit` is `None` once nobody wants to know; `pidfd` is -1 once it has been reaped."""

    __slots__ = ("on_exit", "pid", "pidfd", "said_fd")

    def __init__(self, pid: int, said_fd: int, on_exit: Callable[[int, str], None]) -> None:
        self.pid = pid
        self.pidfd = -1
        self.said_fd = said_fd
        self.on_exit: Callable[[int, str], None] | None = on_exit


class ProbeProcesses:
    """
    All processes of probes of this supervisor, until they are reaped.

    They are reaped here, through their pidfd, or by a sweep of the runtime that hands its find to `reaped`; whichever
    comes first. One per process: after a fork, the child makes its own.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_pid: dict[int, ProbeProcess] = {}

    def owned_pids(self) -> set[int]:
        return set(self._by_pid)

    def start(self, job: Callable[[], None], on_exit: Callable[[int, str], None]) -> ProbeProcess:
        """
        Run `job` in a fork that ends with it: 0 when it returns, 1 when it raises, what it says being the error.

        `on_exit(code, said)` comes from the loop; `code` is negative for a signal.

        Raises:
            OSError: no process or no descriptors; EBUSY while `MAX_ABANDONED` cannot be killed.
        """
        if sum(process.on_exit is None for process in self._by_pid.values()) >= MAX_ABANDONED:
            raise OSError(errno.EBUSY, "too many earlier checks cannot be killed")
        self._reap_unwatched()
        pid, said_fd = fork_check(job)
        process = self._by_pid[pid] = ProbeProcess(pid, said_fd, on_exit)
        try:
            process.pidfd = os.pidfd_open(pid)
            self._loop.watch(process.pidfd, select.EPOLLIN, lambda _events: self._ended(process))
        except OSError:
            self._give_up(process)
            raise
        return process

    def kill(self, process: ProbeProcess) -> None:
        """End it with its group and hear no more of it; idempotent."""
        process.on_exit = None
        if process.pidfd >= 0:
            _kill_with_group(process)

    def kill_all(self) -> None:
        for process in list(self._by_pid.values()):
            self.kill(process)

    def reaped(self, pid: int, wait_status: int) -> bool:
        """Take what a sweep has reaped (`wait_status` as of os.waitpid); False when `pid` is not of a probe."""
        process = self._by_pid.get(pid)
        if process is None:
            return False
        self._settle(process, os.waitstatus_to_exitcode(wait_status))
        return True

    def _ended(self, process: ProbeProcess) -> None:
        if process.pidfd < 0:
            return
        try:
            info = os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is None:
                return  # a stale event
            _kill_with_group(process)  # while its pid, and so the number of its group, is still taken
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            self._settle(process, -signal.SIGKILL)  # reaped by somebody who did not say so
            return
        self._settle(process, info.si_status if info.si_code == os.CLD_EXITED else -info.si_status)

    def _settle(self, process: ProbeProcess, code: int) -> None:
        del self._by_pid[process.pid]
        if process.pidfd >= 0:
            _kill_group(process)
            self._loop.unwatch(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1
        said = read_said(process.said_fd)
        on_exit, process.on_exit = process.on_exit, None
        if on_exit is not None:
            on_exit(code, said)

    def _give_up(self, process: ProbeProcess) -> None:
        """No pidfd, or no watch on it: kill the child, which is certainly ours while nobody has reaped it."""
        os.kill(process.pid, signal.SIGKILL)
        process.on_exit = None
        if process.pidfd >= 0:
            os.close(process.pidfd)
            process.pidfd = -1

    def _reap_unwatched(self) -> None:
        """What `_give_up` left has no pidfd to announce its end."""
        for process in [process for process in self._by_pid.values() if process.pidfd < 0]:
            try:
                pid, status = os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = process.pid, signal.SIGKILL
            if pid:
                self.reaped(pid, status)


class ProcessAttempt(Attempt):
    """Pass when `job`, in a process of its own, comes to its end, or the program it becomes exits 0."""

    def __init__(
        self,
        loop: Loop,
        timeout_s: float,
        on_done: Callable[[str], None],
        processes: ProbeProcesses,
        name: str,
        job: Callable[[], None],
    ) -> None:
        super().__init__(loop, timeout_s, on_done)
        self._processes = processes
        self._name = name
        self._job = job
        self._process: ProbeProcess | None = None
        self._old: ProbeProcess | None = None

    def lingers(self) -> bool:
        return self._old is not None and self._old.pidfd >= 0

    def _start(self) -> str | None:
        self._process = self._processes.start(self._job, self._exited)
        return None

    def _release(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._old = process
            self._processes.kill(process)

    def _late(self) -> str:
        return f"{self._name} did not end within {seconds(self._timeout_s)}"

    def _exited(self, code: int, said: str) -> None:
        if code == 0:
            self._finish(PASSED)
        elif said:
            self._finish(said)
        elif code > 0:
            self._finish(f"{self._name} exited with status {code}")
        else:
            self._finish(f"{self._name} was killed by {_signal_name(-code)}")


def _kill_with_group(process: ProbeProcess) -> None:
    """Leader first: once it is dying it forks no more. Only while it has not been reaped."""
    try:
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # dead already, or not yet a leader and so without a group
    except PermissionError:
        pass  # a set-user-ID program


def _kill_group(process: ProbeProcess) -> None:
    """The same for a leader that a sweep has reaped; its number may be a stranger's, its pidfd may not."""
    try:
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except OSError:
        pass  # nobody left, or before Linux 6.9: what is left then carries the child's marker


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
