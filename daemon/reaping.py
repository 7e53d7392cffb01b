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
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from regrow.daemon.linux import procfs
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.leftovers import Known, Leftovers
from regrow.daemon.linux.owners import Key
from regrow.daemon.process import Process
from regrow.daemon.signalling import kill_group, send

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime


ABANDON_S = 5


class Reaper:
    """
    The only place that reaps; hence a pid in `_by_pid` cannot mean anybody else.

    Children from before its first moment are strangers, of whoever became the root by exec; `known` is what is known
    of them, and of others, where it has been this supervisor before.
    """

    def __init__(self, runtime: Runtime, own: Marker, known: Known | None = None) -> None:
        self._runtime = runtime
        self._by_pid: dict[int, Process] = {}
        self._supervisors: dict[int, Process] = {}
        self._lingering: dict[Key, Process] = {}
        self._finished: Callable[[], None] | None = None
        self._leftovers = Leftovers(
            own,
            guarded=os.getpid() == 1,
            strangers=procfs.children_of_self() if known is None else (),
            watcher=runtime.loop,
            changed=self.sweep,
        )
        if known is not None:
            self._leftovers.take_up(known)

    @property
    def lingering(self) -> str:
        """A child that is dead, but not all that it left behind; empty when there is none."""
        return next((process.name for process in self._lingering.values()), "")

    def carried(self) -> Known:
        """See `Leftovers.carried`."""
        return self._leftovers.carried()

    def aliases(self) -> tuple[tuple[Key, Key], ...]:
        """Names that processes had before, as spares, and those that they have."""
        return tuple(self._leftovers.aliases.items())

    def take_up_aliases(self, aliases: Iterable[tuple[Key, Key]]) -> None:
        """See `Leftovers.aliases`."""
        self._leftovers.take_up_aliases(aliases)

    def born(self, process: Process) -> None:
        """Know `process` from now until nothing of it is left."""
        self._by_pid[process.pid] = process
        if process.supervises:
            self._supervisors[process.pid] = process
        self._leftovers.started(
            process.name, process.incarnation, process.pid, supervises=process.supervises, group=process.group
        )

    def rename(self, process: Process, name: str, incarnation: int) -> None:
        """It goes by another name from now on, and all that it has forked with it."""
        self._leftovers.renamed((process.name, process.incarnation), (name, incarnation))
        process.name, process.incarnation = name, incarnation

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
        dead: dict[Key, Process] = {}
        while (info := _next_dead()) is not None:
            if info.si_pid in self._by_pid:
                self._runtime.hearing.drain()  # what it said last counts, and is its own only as long as it is known
            process = self._by_pid.pop(info.si_pid, None)
            if process is not None:
                self._supervisors.pop(info.si_pid, None)
                self._listen(process)
                process.ended = process.exit(info)
                if process.health is not None:
                    process.health.killed()
                    process.health.cancel()
                dead[process.name, process.incarnation] = process
            self._reap(info.si_pid)
        for process in self._supervisors.values():
            self._continue(process)
        self._settle(dead)
        if self._finished is not None:
            self.finish(self._finished)

    def _reap(self, pid: int) -> None:
        """The zombie still holds the number of its group, so what is killed with it can be nobody else's."""
        self._leftovers.before_reap(pid)
        _, status = os.waitpid(pid, os.WNOHANG)
        self._runtime.probes.reaped(pid, status)
        self._leftovers.reaped(pid)

    def _settle(self, dead: dict[Key, Process]) -> None:
        """Tell of those of whom nothing is left; the others linger until a later sweep."""
        gone = [self._lingering.pop(key) for key in self._leftovers.sweep()] if self._lingering else []
        if dead:
            left = self._leftovers.dead(dead)
            for key in left:
                self._linger(key, dead.pop(key))
        ended = (*gone, *dead.values())
        with self._runtime.pipes.several(len(ended)):
            for process in ended:
                assert process.ended is not None
                self._runtime.exited(process, process.ended)

    def _linger(self, key: Key, process: Process) -> None:
        self._lingering[key] = process
        pids = self._leftovers.remains(key)
        if pids:
            shown = ", ".join(map(str, pids[:8])) + (", …" if len(pids) > 8 else "")
            text = f"killing what it left behind: {len(pids)} processes ({shown})"
            self._runtime.note("leftovers", process.name, process.incarnation, text)

    def _listen(self, process: Process) -> None:
        """Take what the dead process said last."""
        self._runtime.hearing.status(process)
        if process.channel is not None:
            process.channel.drain()
        if process.stacks is not None:
            process.stacks.close()

    def _continue(self, process: Process) -> None:
        try:
            stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return
        if stopped is not None:
            send(process.pid, signal.SIGCONT)
            text = "the supervisor had been stopped by a signal"
            self._runtime.note("continued", process.name, process.incarnation, text)

    def below(self, pid: int, *, gone: bool) -> None:
        """A main process below a child supervisor has come or gone; should that die, its session tells its own."""
        self._leftovers.below(pid, gone=gone)

    def finish(self, finished: Callable[[], None]) -> None:
        """Call `finished` once no descendant is left; what is left is killed until then."""
        self._finished = finished
        if self._leftovers.everything():
            self._finished = None
            self._leftovers.close()
            finished()

    def kill_everything(self) -> None:
        """Without asking, all that is below us, and wait for it; for a supervisor whose parent is gone."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ABANDON_S)  # what cannot be killed by then is for the next root to find
        for pid in self._by_pid:
            kill_group(pid, signal.SIGKILL)
        while not self._leftovers.everything():
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is not None:
                self._reap(info.si_pid)


def _next_dead() -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
