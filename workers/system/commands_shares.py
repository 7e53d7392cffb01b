"""
What keeps a command from having more of the processors the more sessions it makes.

Linux shares processors between sessions (autogroups), each as much as any other: who makes four hundred would leave
everybody else one part in four hundred. So the sessions of a command are given less the more there are of them, that
together they count as one. A session of the least weight, 15, still counts: four hundred of them as six. And whoever is
woken may wait for a slice of each that is before him, whatever it weighs: so those of a crowd run one at a time.

Source: sched(7), "The autogroup feature"; the kernel's sched_prio_to_weight: a step of nice is a factor of 1.25.
"""

from __future__ import annotations

import math
import os
import time
from itertools import islice

from regrow.workers.system import commands_below as procs
from regrow.workers.system.commands_crowd import Crowd

SOON_S, LATER_S, TURN_S = 0.05, 0.5, 2.0
"""When they are looked at: soon after it has begun or made more of them, and then less and less often; a crowd that
grows no more, which takes tens of milliseconds to look at, least often."""

COMMAND = 5
"""The level of a command, and of the runner that makes it ready and clears it away."""

FIRST = -20
"""The level of a runner that holds back others."""

MOST_CARRIED = 0.25
"""Of a processor: what a runner may use to carry output, and be first."""

LEAST = 19
STEP = 1.25
CROWD = 64
"""So many sessions are nobody's work: a browser has three, a test runner of many processes one."""

MOST_LOOKED_AT = 5_000


def be_last(proc: int) -> None:
    """Have our own session, which is to be small, served after those of agents, as commands are."""
    _weigh("self/autogroup", COMMAND, proc)


def _weigh(path: str, level: int, folder: int | None = None) -> bool:
    """Give a session that nice value; False when it is over, or not for us to say, or there are no autogroups."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        os.write(fd, b"%d" % level)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def level_of(sessions: int) -> int:
    """The nice value at which so many sessions weigh as much as one of a command, or the highest there is."""
    return min(LEAST, COMMAND + math.ceil(math.log(max(sessions, 1), STEP)))


def carries_much(cpu_s: float, elapsed_s: float) -> bool:
    """Whether that much of a processor is more than a runner needs who only looks after its command."""
    return cpu_s > MOST_CARRIED * elapsed_s


class Shares:
    """
    Of the command whose runner this is; `proc` is /proc as the daemon sees it: our own may be read-only. `due_s` is
    when to look (monotonic).

    While the command runs the runner is served before all others: it holds back others, and must not wait in their
    queue. Not so while it carries much output, which is work as any other; only root may be first at all.
    """

    def __init__(self, proc: int) -> None:
        self._proc = proc
        self._is_first = False
        self._tended_s = 0.0
        self._since_s, self._carried_s = time.monotonic(), time.process_time()
        self._pause_s = SOON_S
        self._look_s = self.due_s = time.monotonic() + SOON_S if os.path.exists("/proc/self/autogroup") else math.inf
        self._levels: dict[int, int] = {}
        self._crowd = Crowd(proc)

    def begin(self, pid: int) -> None:
        """The program runs, as this process in a session of its own."""
        self._be_first(True)
        _weigh(f"{pid}/autogroup", COMMAND, self._proc)

    def end(self) -> None:
        """It is to be cleared away: that is the command's own work."""
        self._be_first(False)

    def attend(self) -> None:
        """Do what is due: look, or, while processes wait for their turn, see that somebody has it."""
        began_s = time.process_time()
        is_look = time.monotonic() >= self._look_s
        if is_look:
            self.look()
        else:
            self._crowd.pass_on()
            self._await()
        self._tended_s += time.process_time() - began_s
        if is_look:
            self._take_place()

    def _take_place(self) -> None:
        """First or last, by what has been carried since the last look."""
        now_s, carried_s = time.monotonic(), time.process_time() - self._tended_s
        self._be_first(not carries_much(carried_s - self._carried_s, now_s - self._since_s))
        self._since_s, self._carried_s = now_s, carried_s

    def _be_first(self, is_first: bool) -> None:
        if is_first != self._is_first:
            self._is_first = is_first
            _weigh("self/autogroup", FIRST if is_first else COMMAND, self._proc)

    def look(self) -> None:
        """Lower the sessions below us if there are more than before; let those of a crowd take turns."""
        pids = list(islice(procs.below(self._proc), MOST_LOOKED_AT))
        sessions = {procs.session_of(pid, self._proc): pid for pid in pids}
        sessions.pop(0, None)
        level = level_of(len(sessions))
        is_more = level > max(self._levels.values(), default=COMMAND)
        self._levels = {session: self._levels.get(session, 0) for session in sessions}
        for session, pid in sessions.items():
            if self._levels[session] < level and _weigh(f"{pid}/autogroup", level, self._proc):
                self._levels[session] = level
        is_crowd = len(sessions) >= CROWD
        if is_crowd:
            is_more = self._crowd.take_turns(pids) > 1 or is_more
        else:
            self._crowd.disperse()
        self._pause_s = SOON_S if is_more else min(2 * self._pause_s, TURN_S if is_crowd else LATER_S)
        self._look_s = time.monotonic() + self._pause_s
        self._await()

    def _await(self) -> None:
        self.due_s = min(self._look_s, time.monotonic() + SOON_S) if self._crowd.held else self._look_s
