"""
Hearing of deaths, and making sure that a death is complete.

A sweep follows each SIGCHLD: it reaps every dead child, ours or adopted. A child counts as gone only when
nothing that it left behind lives any more. A nested supervisor that somebody stopped (SIGSTOP) is continued
at once, for nothing would be supervised below it.

Source: waitid(2), PR_SET_CHILD_SUBREAPER(2const), otp-rules S108, T2.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from regrow.daemon.core.events import Exit
from regrow.daemon.process import Process
from regrow.daemon.signalling import kill_group, send

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime


class Reaper:
    """The only place that reaps; hence a pid in `_by_pid` cannot mean anybody else."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._by_pid: dict[int, Process] = {}
        self._supervisors: dict[int, Process] = {}
        self._finished: Callable[[], None] | None = None

    def born(self, process: Process) -> None:
        self._by_pid[process.pid] = process
        if process.supervises:
            self._supervisors[process.pid] = process

    def owner(self, pid: int) -> Process | None:
        """The child that `pid` is the main process of, or in whose session it is."""
        process = self._by_pid.get(pid)
        if process is None:
            try:
                process = self._by_pid.get(os.getsid(pid))
            except OSError:
                return None
        return process

    def sweep(self) -> None:
        """Reap everything that is dead; deaths of one sweep are one batch, in the kernel's order."""
        self._runtime.drain_notices()
        dead: list[tuple[Process, Exit]] = []
        while (info := _next_dead()) is not None:
            process = self._by_pid.pop(info.si_pid, None)
            if process is not None:
                self._supervisors.pop(info.si_pid, None)
                self._listen(process)
                # The zombie still holds the group's number, so the signal can reach nobody else.
                kill_group(process.pid, signal.SIGKILL)
                dead.append((process, process.exit(info)))
            _, status = os.waitpid(info.si_pid, os.WNOHANG)
            if process is None:
                self._runtime.probes.reaped(info.si_pid, status)
        for process in self._supervisors.values():
            self._continue(process)
        for process, exit in dead:
            self._runtime.exited(process, exit)
        if self._finished is not None:
            self.finish(self._finished)

    def _listen(self, process: Process) -> None:
        """Take what the dead process said last."""
        self._runtime.status(process)
        if process.channel is not None:
            process.channel.drain()

    def _continue(self, process: Process) -> None:
        try:
            stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return
        if stopped is not None:
            send(process.pid, signal.SIGCONT)
            text = "the supervisor had been stopped by a signal"
            self._runtime.note("continued", process.name, process.incarnation, text)

    def finish(self, finished: Callable[[], None]) -> None:
        """Call `finished` once no descendant is left."""
        finished()

    def kill_everything(self) -> None:
        """Without asking, every child and its group; for a supervisor whose parent is gone."""
        for pid in self._by_pid:
            kill_group(pid, signal.SIGKILL)


def _next_dead() -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
