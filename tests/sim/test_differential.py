"""
The core against a naive model of OTP: the same life, the same decisions, in the same order.

Static supervisors, no backoff, starts that conclude at once. Groups also meet several things at the same
moment; independent children meet them one by one, because there the core does not block as OTP does.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from bench import CRASH, KILLED, NORMAL, SHUTDOWN, Bench, supervisor, worker
from otp import Child, Otp

from regrow.config.spec import AutoShutdown, Restart, Strategy, WorkerSpec
from regrow.daemon.core import events as ev

STRATEGIES = (Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)
REASONS = ((NORMAL, "normal"), (SHUTDOWN, "shutdown"), (CRASH, "abnormal"), (CRASH, "abnormal"), (KILLED, "abnormal"))
REQUESTS: dict[str, type[Any]] = {
    "terminate": ev.TerminateChild,
    "restart": ev.RestartChild,
    "delete": ev.DeleteChild,
    "start": ev.StartChild,
}
LIVES = 400


class Fates:
    """How each start goes, drawn ahead of time per child, so that both sides see the same."""

    def __init__(self, seed: str, failing: float) -> None:
        self.seed = seed
        self.failing = failing
        self.calm = True
        self.starts: dict[str, int] = {}

    def __call__(self, child: str) -> str:
        number = self.starts[child] = self.starts.get(child, 0) + 1
        chance = Random(f"{self.seed}/{child}/{number}").random()
        if self.calm or chance >= self.failing:
            return "ready"
        return "fail" if chance < self.failing * 0.8 else "ignore"


class Life:
    """One random life, lived by both."""

    def __init__(self, seed: str) -> None:
        self.random = random = Random(seed)
        self.strategy = random.choice(STRATEGIES)
        rule = random.choice((AutoShutdown.NEVER, AutoShutdown.NEVER, *AutoShutdown))
        specs = [self.child(f"c{number}", rule) for number in range(random.randint(1, 5))]
        intensity, period_s = random.choice((0, 1, 2, 4, 8)), float(random.choice((1, 3, 10)))
        self.rule = rule
        self.bench = Bench(supervisor(specs, self.strategy, intensity, period_s, auto_shutdown=rule))
        failing = random.choice((0.0, 0.1, 0.4))
        self.fates = Fates(seed, failing), Fates(seed, failing)
        self.bench.kernel.fate = self.fates[0]  # type: ignore[method-assign]
        children = [self.otp_child(spec) for spec in specs]
        self.otp = Otp(str(self.strategy), intensity, period_s, str(rule), children, self.fates[1])
        self.number = 0
        if random.random() < 0.2:
            self.be_wild()

    def be_wild(self) -> None:
        """From now on starts may fail."""
        for fates in self.fates:
            fates.calm = False

    def child(self, name: str, rule: AutoShutdown) -> WorkerSpec:
        restart = self.random.choice(tuple(Restart))
        allowed = rule is not AutoShutdown.NEVER and restart is not Restart.PERMANENT
        return worker(name, restart, significant=allowed and self.random.random() < 0.6)

    def otp_child(self, spec: WorkerSpec) -> Child:
        return Child(spec.name, str(spec.restart), spec.significant)

    def happen(self) -> None:
        """Let one thing happen to both, or several at the same moment to a group."""
        random = self.random
        several = 1 if self.strategy is Strategy.ONE_FOR_ONE else random.choice((1, 1, 2, 4))
        events: list[ev.Event] = []
        dying: set[str] = set()
        for _ in range(several):
            up = [child for child in self.bench.live if child not in dying]
            if up and random.random() < 0.6:
                name = random.choice(up)
                dying.add(name)
                exit, reason = random.choice(REASONS)
                events.append(self.bench.exited(name, exit))
                pid = next(child.pid for child in self.otp.children if child.name == name)
                self.otp.mailbox.append(("exit", name, pid, reason))
            else:
                events.append(self.request())
        self.bench.dying.update((name, self.bench.live[name][0]) for name in dying)
        self.bench.feed(*events)
        self.otp.receive()

    def request(self) -> ev.Event:
        self.number += 1
        verb = self.random.choice(tuple(REQUESTS))
        name = self.random.choice([child.name for child in self.otp.children] + ["new", "newer"])
        new = self.child(name, self.rule)
        self.otp.mailbox.append(("call", self.number, verb, name, self.otp_child(new)))
        event: ev.Event = REQUESTS[verb](self.number, new if verb == "start" else name)
        return event

    def advance(self) -> None:
        """Let whole seconds pass, so that the edge of the window is met."""
        seconds = self.random.choice((0, 0, 1, 1, 2, 10))
        self.bench.advance(seconds)
        self.otp.now += seconds

    def ended(self) -> str:
        return str(self.bench.end.outcome) if self.bench.end else ""

    def compare(self) -> None:
        """Both did the same, said the same, and stand alike."""
        assert self.bench.kernel.log == self.otp.log
        assert self.ended() == self.otp.ended
        answered = {number: "ok" if (answer := self.bench.answer(number)) is not None and not isinstance(answer, str)
                    else answer for number in self.bench.answers}  # fmt: skip
        assert answered == self.otp.answers
        if not self.otp.ended:
            slots = self.bench.state.slots
            standing = [(name, str(slots[name].state)) for name in reversed(self.bench.state.order)]
            words = {"waiting": "restarting"}
            assert [(name, words.get(state, state)) for name, state in standing] == self.otp.which_children()
            assert list(self.bench.state.restarts_s) == self.otp.stamps


@pytest.mark.parametrize("portion", range(4))
def test_core_decides_like_otp(portion: int) -> None:
    """Which children run, in which order they were stopped and started, every answer, and when it gives up."""
    ends: set[str] = set()
    for number in range(LIVES):
        life = Life(f"otp/{portion}/{number}")
        life.bench.start()
        life.otp.init()
        life.compare()
        life.be_wild()
        for _ in range(30):
            if life.otp.ended:
                break
            life.advance()
            life.happen()
            life.compare()
        if not life.otp.ended:
            life.bench.stop()
            life.otp.terminate_all()
            assert life.bench.kernel.log == life.otp.log
        ends.add(life.ended())
    assert ends == {"stopped", "gave_up", "auto_shutdown", "start_failed"}
