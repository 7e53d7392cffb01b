"""Random supervision trees: every combination that a file may hold, small enough to explain a failure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from regrow.config.spec import (
    BRUTAL_KILL,
    WAIT_FOREVER,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Kind,
    Probe,
    Ready,
    ReadyKind,
    Restart,
    Shutdown,
    ShutdownKind,
    Start,
    Strategy,
    SupervisorSpec,
    WorkerSpec,
)

GROUPS = (Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)
STATIC = (Strategy.ONE_FOR_ONE, *GROUPS)
SHUTDOWNS = (
    BRUTAL_KILL,
    WAIT_FOREVER,
    Shutdown(ShutdownKind.TIMEOUT, 0.0),
    Shutdown(ShutdownKind.TIMEOUT, 1.0),
    Shutdown(ShutdownKind.TIMEOUT, 5.0),
)
STARTED = Probe(ReadyKind.STARTED)


@dataclass(frozen=True)
class Size:
    """How large a tree may be: levels of supervisors, children of each."""

    depth: int = 3
    children: int = 5


class Grower:
    """Makes trees from one source of randomness; every name in a tree is unique."""

    def __init__(self, random: Random, size: Size) -> None:
        self.random = random
        self.size = size
        self._count = 0

    def name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def tree(self) -> SupervisorSpec:
        """Grow a whole tree; its top forgives much, so that most trees live long."""
        top = self.supervisor(self.size.depth, AutoShutdown.NEVER)
        while len(top.children) < min(2, self.size.children):
            top = self.supervisor(self.size.depth, AutoShutdown.NEVER)
        return replace(top, name="top", intensity=self.random.choice((3, 30, 300, 300)), period_s=5.0)

    def supervisor(self, levels: int, above: AutoShutdown) -> SupervisorSpec:
        """Grow one supervisor and `levels - 1` levels below it, to stand under one whose auto_shutdown is `above`."""
        random = self.random
        strategy = random.choice((*STATIC, *STATIC, Strategy.DYNAMIC))
        rule = AutoShutdown.NEVER
        if strategy is not Strategy.DYNAMIC and random.random() < 0.3:
            rule = random.choice((AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT))
        children: tuple[ChildSpec, ...] = ()
        if strategy is not Strategy.DYNAMIC:
            children = tuple(self.child(levels - 1, rule) for _ in range(random.randint(0, self.size.children)))
        restart = self.restart()
        return SupervisorSpec(
            name=self.name("s"),
            strategy=strategy,
            intensity=random.choice((0, 1, 2, 3, 5, 20)),
            period_s=random.choice((1.0, 5.0, 60.0)),
            auto_shutdown=rule,
            children=children,
            restart=restart,
            significant=self.significant(restart, above),
            backoff=self.backoff(),
            start=Start.PARALLEL if strategy is Strategy.ONE_FOR_ONE and random.random() < 0.3 else Start.SEQUENTIAL,
            max_children=random.choice((None, None, 3)) if strategy is Strategy.DYNAMIC else None,
        )

    def child(self, levels: int, rule: AutoShutdown) -> ChildSpec:
        """Grow a worker, or a supervisor where there are levels left."""
        if levels > 0 and self.random.random() < 0.4:
            return self.supervisor(levels, rule)
        return self.worker(self.name("w"), rule)

    def worker(self, name: str, rule: AutoShutdown) -> WorkerSpec:
        restart = self.restart()
        return WorkerSpec(
            name=name,
            kind=Kind.COMMAND,
            restart=restart,
            shutdown=self.random.choice(SHUTDOWNS),
            significant=self.significant(restart, rule),
            ready=Ready(STARTED, self.random.choice((1.0, 30.0))),
        )

    def restart(self) -> Restart:
        return self.random.choice((Restart.PERMANENT, Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY))

    def significant(self, restart: Restart, rule: AutoShutdown) -> bool:
        """Say yes at random, where it is allowed (S12, S13)."""
        return rule is not AutoShutdown.NEVER and restart is not Restart.PERMANENT and self.random.random() < 0.5

    def backoff(self) -> Backoff | None:
        if self.random.random() < 0.5:
            return None
        return Backoff(
            first_s=self.random.choice((0.1, 1.0)), max_s=self.random.choice((2.0, 30.0)), reset_s=10.0, jitter=0.1
        )

    def reloaded(self, spec: SupervisorSpec, children: list[ChildSpec]) -> SupervisorSpec:
        """Change flags, child specs and order as a reload might; the kinds of children stay as they are."""
        random = self.random
        strategy, rule = spec.strategy, spec.auto_shutdown
        if strategy is not Strategy.DYNAMIC:
            strategy = random.choice((strategy, strategy, *STATIC))
            rule = random.choice(tuple(AutoShutdown))
        kept = [self._changed(child, rule) for child in children if random.random() < 0.8]
        if random.random() < 0.5:
            kept.append(self.worker(self.name("w"), rule))
        if random.random() < 0.3:
            random.shuffle(kept)
        return replace(
            spec,
            strategy=strategy,
            auto_shutdown=rule,
            intensity=random.choice((spec.intensity, 1, 5, 20)),
            period_s=random.choice((spec.period_s, 1.0, 5.0)),
            start=spec.start if strategy is Strategy.ONE_FOR_ONE else Start.SEQUENTIAL,
            children=tuple(kept) if strategy is not Strategy.DYNAMIC else (),
        )

    def _changed(self, child: ChildSpec, rule: AutoShutdown) -> ChildSpec:
        restart = self.restart() if self.random.random() < 0.3 else child.restart
        return replace(child, restart=restart, significant=self.significant(restart, rule))
