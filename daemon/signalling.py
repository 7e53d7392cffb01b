"""
Signals to children that have not been reaped.

An unreaped child keeps its pid, and only its supervisor reaps it: while it is held, the number can mean nobody
else, and a plain kill is as exact as one through a pidfd.

Source: kill(2), wait(2).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from regrow.config.spec import WorkerSpec
from regrow.daemon.core.effects import SignalKind
from regrow.daemon.loop import Loop

if TYPE_CHECKING:
    from regrow.daemon.process import Process

WAKE_S = 0.1
"""Most programs are gone this soon after their stop signal; the others are sent SIGCONT too."""


class Signaller:
    """Ends children; `processes` are those that there are."""

    def __init__(self, loop: Loop, processes: Mapping[str, Process]) -> None:
        self._loop = loop
        self._processes = processes
        self._asked: list[Process] = []

    def signal(self, process: Process, kind: SignalKind) -> None:
        """Ask `process` to stop, or kill it; a worker with its whole process group."""
        if process.ended is not None:
            return  # its number is free for others; what it left behind is being killed already
        if kind is SignalKind.KILL:
            if process.health is not None:
                process.health.killed()
            kill_group(process.pid, signal.SIGKILL)
        elif process.supervises:
            send(process.pid, signal.SIGTERM)
        else:
            assert isinstance(process.spec, WorkerSpec)
            kill_group(process.pid, process.spec.stop_signal)
            process.told_to_stop = True
            self.wake_soon(process)

    def wake_soon(self, process: Process) -> None:
        """Make sure that one who was asked to stop can see it."""
        self._asked.append(process)
        if len(self._asked) == 1:
            self._loop.call_later(WAKE_S, self._wake)

    def _wake(self) -> None:
        """Who has been asked to stop and is still there may have been stopped by a signal, and not have seen it."""
        asked, self._asked = self._asked, []
        for process in asked:
            if self._processes.get(process.name) is process and process.ended is None:
                kill_group(process.pid, signal.SIGCONT)


def kill_group(pid: int, number: int) -> None:
    """Signal the process group that the child leads, or the child alone before it has one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        send(pid, number)
    except PermissionError:
        pass  # every member runs a setuid program: the kernel has the last word


def send(pid: int, number: int) -> None:
    """Signal the child itself; that it is dead already is no error."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
