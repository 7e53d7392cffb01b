"""
The storm: one random death after the other, and several at once; whatever happens comes from one seed.

The kernel's timing is not seeded: the same seed makes the same choices only as far as the same processes live.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from harness import DaemonEnded
from msgspec import Struct
from wire import CallError, Event, Wire

from storm.forest import DYNAMIC
from storm.garden import Garden
from storm.growth import Sample, grown
from storm.violation import Violation
from storm.witness import RUN

BURSTS = (1, 1, 1, 2, 2, 3, 5, 8)
PAUSES_S = (0.0, 0.0, 0.0, 0.002, 0.01, 0.04)
SPARED = frozenset({"app", "ofo", "ofa", "rfo", "par", DYNAMIC, "regrow.system"})
"""Supervisors that live through the second half of a storm, as the root does, so that growth would show."""

WILD = {"worker": 60, "supervisor": 16, "regrow.system": 3, "regrow.logger": 3, "root": 4, "stop worker": 8,
        "stop supervisor": 6, "newborn": 6, "reexec": 6}  # fmt: skip
CALM = {"worker": 70, "supervisor": 8, "regrow.logger": 2, "stop worker": 10, "stop supervisor": 10,
        "newborn": 8}  # fmt: skip
"""What happens how often, in the first half and in the second."""

EVENTS_AHEAD = 10
DEATH_S = 20.0
REEXEC_S = 120.0
STARTUP_KILLS = 0.3
STARTUP_S = 1.5


class Recovery(Struct, frozen=True):
    """How long the tree took to be whole again, and after what."""

    seconds: float
    after: str


class Report(Struct):
    """What came of a storm. `samples` are taken in its last part."""

    kills: Counter[str] = Counter()
    reexecs: int = 0
    stops: Counter[str] = Counter()
    recoveries: list[Recovery] = []
    root_recoveries: list[Recovery] = []
    samples: list[Sample] = []

    @property
    def killed(self) -> int:
        return sum(self.kills.values())


class Storm:
    """Strikes a garden; `reexecs` is the weight of re-executions among the strikes, of 100 or so."""

    def __init__(self, directory: Path, seed: int, *, reexecs: int | None = None) -> None:
        self.garden = Garden(directory, f"{os.getpid()}-{seed}")
        self.seed = seed
        self.report = Report()
        self._random = random.Random(seed)
        self._history: deque[str] = deque(maxlen=40)
        self._held: list[int] = []
        self._killed: list[int] = []
        self._spared: frozenset[str] = frozenset()
        self._weights = WILD
        self._renewing: list[tuple[Wire, int]] = []
        self._reexecs = {} if reexecs is None else {"reexec": reexecs}

    def run(self, kills: int, *, calm: float = 0.5) -> Report:
        """
        Rage until `kills` processes were killed; the last part `calm` of them spares the root and `SPARED`.

        Raises:
            Violation: with the seed, what was done last, and the last events.
        """
        try:
            self.garden.plant()
            self._rage(int(kills * (1 - calm)))
            self._spared, self._weights = SPARED, CALM
            while self.report.killed < kills:
                done = self.report.killed
                self._rage(min(kills, done + max(1, int(kills * calm / 12))))
                self._measure()
            self.garden.down()
            wrong = grown(self.report.samples)
            if wrong and not self._reexecs:  # an exec makes private what was shared with the root, each time anew
                raise Violation("\n".join(wrong))
        except (Violation, TimeoutError, DaemonEnded, EOFError) as error:
            raise Violation(self._story(error)) from error
        finally:
            for pidfd in (*self._held, *self._killed):
                os.close(pidfd)
        return self.report

    def _measure(self) -> None:
        events = sum(self.garden.events.values())
        self.report.samples.append(Sample(self.report.killed, events, self.garden.sizes()))

    def _story(self, error: Exception) -> str:
        keys = ("seq", "event", "name", "incarnation", "pid", "cause", "reason", "text")
        with contextlib.suppress(Violation, EOFError, OSError):
            self.garden.take_events(0)
        events = [str({k: event[k] for k in keys if event.get(k) is not None}) for event in self.garden.recent]
        said = [*self.garden.lives.outputs[-2:], self.garden.lives.said()]
        parts = [f"seed {self.seed}, {self.report.killed} kills:", str(error), "before that:", *self._history]
        return "\n".join([*parts, "events:", *events, "the daemon said:", *said])

    def _rage(self, kills: int) -> None:
        while self.report.killed < kills:
            struck = [self._strike() for _ in range(self._random.choice(BURSTS))]
            self._let_go()
            self._await_reexecs()
            begun_s = time.monotonic()
            self.garden.settle()
            self.report.recoveries.append(Recovery(time.monotonic() - begun_s, ", ".join(struck)))
            self._note(f"whole after {time.monotonic() - begun_s:.3f} s")

    def _note(self, text: str) -> None:
        self._history.append(f"  {time.monotonic():.3f} {text}")

    def _strike(self) -> str:
        """Do one thing to one process. Returns what was done."""
        weights = {**self._weights, **self._reexecs}
        what = self._random.choices(list(weights), list(weights.values()))[0]
        if what == "root":
            done = self._kill_root()
        elif what == "reexec":
            done = self._reexec()
        elif what == "newborn":
            done = self._kill_newborn()
        else:
            done = self._strike_one(what, self.garden.entries())
        self.garden.take_events(self._random.choice(PAUSES_S))
        self.garden.watch()
        return done

    def _strike_one(self, what: str, entries: dict[str, dict[str, Any]]) -> str:
        """One process other than the root."""
        supervisors = self.garden.forest.supervisors
        if what.startswith("regrow."):
            names = [what]
        elif what == "supervisor":
            names = sorted(supervisors - self._spared - {"regrow.system"})
        elif what == "stop supervisor":
            names = sorted(supervisors)
        else:
            names = sorted(entries.keys() - supervisors - {"regrow.logger"})
        name = self._random.choice(names)
        pid = entries[name]["pid"] if name in entries else None
        number = signal.SIGSTOP if what.startswith("stop") else signal.SIGKILL
        pidfd = self._open(pid) if pid else None
        done = f"{number.name} {name} ({pid}, {entries.get(name, {}).get('state')})"
        if pidfd is None:
            return f"no {done}"
        self._note(done)
        if not self._send(pidfd, number):
            os.close(pidfd)
            return f"no {done}"
        if number == signal.SIGKILL:
            self.report.kills[what] += 1
        else:
            self.report.stops[what] += 1
        if what == "stop supervisor":
            os.close(pidfd)
        else:
            (self._held if what == "stop worker" else self._killed).append(pidfd)
        return done

    def _kill_newborn(self) -> str:
        """SIGKILL to a worker, and to what is started next, as soon as that is heard of."""
        self.garden.take_events(0)
        done = self._strike_one("worker", self.garden.entries())
        for event in self._until_starting():
            pidfd = self._open(event["pid"])
            if pidfd is not None:
                done += f", then SIGKILL newborn {event['name']} ({event['pid']})"
                self._note(done)
                self.report.kills["newborn"] += self._send(pidfd, signal.SIGKILL)
                self._killed.append(pidfd)
        return done

    def _until_starting(self) -> list[Event]:
        """The next start, as a list of one; none if there is none soon."""
        for _ in range(EVENTS_AHEAD):
            if starting := [event for event in self.garden.take_events(0.1) if event["event"] == "starting"]:
                return starting[:1]
        return []

    def _let_go(self) -> None:
        """Of the processes that were stopped continue one, kill another; then wait for the deaths of all killed."""
        for pidfd in self._held:
            number = self._random.choice((signal.SIGCONT, signal.SIGKILL))
            if self._send(pidfd, number) and number == signal.SIGKILL:
                self.report.kills["worker, stopped"] += 1
                self._killed.append(pidfd)
            else:
                os.close(pidfd)
        self._held.clear()
        for pidfd in self._killed:
            if not select.select([pidfd], [], [], DEATH_S)[0]:
                raise Violation(f"a killed process is not dead after {DEATH_S} s")
            os.close(pidfd)
        self._killed.clear()

    def _kill_root(self) -> str:
        """SIGKILL, and `up` again; sometimes it is killed while it starts."""
        lives = self.garden.lives
        self._note(f"SIGKILL root ({lives.pid})")
        lives.die()
        self.report.kills["root"] += 1
        while self._random.random() < STARTUP_KILLS:
            lives.launch()
            after_s = self._random.uniform(0, STARTUP_S)
            lives.ended_within(after_s)
            self._note(f"SIGKILL root at start-up after {after_s:.3f} s ({lives.pid})")
            lives.die()
            self.report.kills["root, starting"] += 1
        begun_s = time.monotonic()
        self.garden.rise()
        self.report.root_recoveries.append(Recovery(time.monotonic() - begun_s, "up"))
        self._note(f"up again after {time.monotonic() - begun_s:.3f} s ({lives.pid})")
        return "root"

    def _reexec(self) -> str:
        """Have root and supervisors go on in a new program, while whatever comes next happens to them."""
        self._note("reexec")
        control = self.garden.lives.control
        self._renewing.append((control, control.send("reexec")))
        self.report.reexecs += 1
        return "reexec"

    def _await_reexecs(self) -> None:
        """Until each is over, done or refused; who has asked a root that was killed meanwhile is not answered."""
        for control, number in self._renewing:
            if control is self.garden.lives.control:
                with contextlib.suppress(CallError):
                    control.answer(number, REEXEC_S)
        self._renewing.clear()

    def _open(self, pid: int) -> int | None:
        """A pidfd of a process that is certainly one of this run's."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                ours = f"{RUN}={self.garden.lives.run}".encode() in file.read().split(b"\0")
        except OSError:
            ours = False
        if not ours:
            os.close(pidfd)
            return None
        return pidfd

    def _send(self, pidfd: int, number: int) -> bool:
        """Whether there was still somebody to get the signal; a zombie does not count."""
        if select.select([pidfd], [], [], 0)[0]:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def dispose(self) -> None:
        """Whatever happened: leave nothing behind."""
        self.garden.lives.dispose()
