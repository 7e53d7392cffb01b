"""
What keeps a crowd of processes from standing before everybody else who is woken: one of them runs, the others wait.

Source: signal(7), SIGSTOP and SIGCONT; pidfd_open(2); proc_pid_stat(5), the state.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from regrow.workers.system import commands_below as procs


class Crowd:
    """Of the command whose runner this is; `proc` is /proc as the daemon sees it. `held` are those that wait."""

    def __init__(self, proc: int) -> None:
        self._proc = proc
        self._turns: dict[int, int] = {}
        self._turn = 0
        self._going: list[int] = []
        self.held: set[int] = set()

    def take_turns(self, pids: Sequence[int]) -> int:
        """
        Of those among these who want a processor, let the one run until the next turn who has waited longest, and stop
        the others. Who sleeps is nobody's burden, and who was stopped by somebody else is not ours to wake.

        Returns:
            How many were stopped: one, whose turn is over, when nobody has come.
        """
        self._turn += 1
        self._turns = {pid: self._turns.get(pid, 0) for pid in pids}
        for overlooked in self.held - self._turns.keys():  # /proc may leave out who is there, while others come and go
            self._let_go(overlooked)
        wanting = [pid for pid in pids if pid in self.held or procs.wants_to_run(pid, self._proc)]
        if not wanting:
            return 0
        self._going = []
        first = self._go_on(wanting)
        more = [pid for pid in wanting if pid != first and pid not in self.held]
        stopped = [pid for pid in more if self._signal(pid, signal.SIGSTOP)]
        self.held.update(stopped)
        return len(stopped)

    def pass_on(self) -> None:
        """Give the turn to the next if nobody who has had it since the last look wants to run: it would be nobody's."""
        waiting = [pid for pid in self._turns if pid in self.held]
        if waiting and not any(procs.wants_to_run(pid, self._proc) for pid in self._going):
            self._go_on(waiting)

    def _go_on(self, wanting: Sequence[int]) -> int:
        """Have the one run that has waited longest."""
        first = min(wanting, key=self._turns.__getitem__)
        self._turns[first] = self._turn
        self._going.append(first)
        self._let_go(first)
        return first

    def disperse(self) -> None:
        """It is a crowd no more: all run again."""
        for pid in list(self.held):
            self._let_go(pid)

    def _let_go(self, pid: int) -> None:
        """It is held until it is known to run again, or to be gone."""
        if pid in self.held and (self._signal(pid, signal.SIGCONT) or not procs.parent_of(pid, self._proc)):
            self.held.discard(pid)

    def _signal(self, pid: int, number: signal.Signals) -> bool:
        """To that process, and to no other that may have its number by now: it is looked at when it is held fast."""
        try:
            fd = os.pidfd_open(procs.pid_here(pid, self._proc))
        except OSError:
            return False
        try:
            if not procs.is_below(pid, self._proc):
                return False
            signal.pidfd_send_signal(fd, number)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
