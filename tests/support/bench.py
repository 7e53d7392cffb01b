"""
A test bench for the pure core: whole trees on a kernel that obeys at once, unless a test says otherwise.

Children become ready, and die when told to, within the step that asked for it. `scripts` changes that for the
next starts of a child, `stubborn` and `held` for its stops. Nothing happens by itself but timers of 0 s, which
come behind all else; other time passes in `advance`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from regrow.config.spec import (
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
    Strategy,
    SupervisorSpec,
    WorkerSpec,
)
from regrow.daemon.core import effects as fx
from regrow.daemon.core import events as ev
from regrow.daemon.core.state import SupervisorState, initial
from regrow.daemon.core.supervisor import step

PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY
ONE_FOR_ONE, ONE_FOR_ALL = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL
REST_FOR_ONE, DYNAMIC = Strategy.REST_FOR_ONE, Strategy.DYNAMIC

NORMAL = ev.Exit(ev.ExitReason.EXIT, code=0)
CRASH = ev.Exit(ev.ExitReason.EXIT, code=1)
SHUTDOWN = ev.Exit(ev.ExitReason.SHUTDOWN, code=82)
CODE_82 = ev.Exit(ev.ExitReason.EXIT, code=82)
KILLED = ev.Exit(ev.ExitReason.SIGNAL, signal=9)
TERMED = ev.Exit(ev.ExitReason.SIGNAL, signal=15)


def within(timeout_s: float) -> Shutdown:
    """Ask to stop, and kill after `timeout_s`."""
    return Shutdown(ShutdownKind.TIMEOUT, timeout_s)


def worker(name: str, restart: Restart = PERMANENT, **fields: Any) -> WorkerSpec:
    """Describe a command; `ready_s` is its start limit."""
    ready_s = fields.pop("ready_s", 30.0)
    ready = Ready(Probe(ReadyKind.STARTED), ready_s)
    return WorkerSpec(name=name, kind=Kind.COMMAND, restart=restart, ready=ready, **fields)


def supervisor(
    children: str | Iterable[ChildSpec], strategy: Strategy = ONE_FOR_ONE, intensity: int = 10, period_s: float = 10.0,
    **fields: Any,
) -> SupervisorSpec:  # fmt: skip
    """
    Describe a supervisor. As text, children are in the scenarios' notation: `a:P b:T! c` (P, T, M; ! significant).

    The name is `top` unless `name` says otherwise.
    """
    specs = tuple(parse(word) for word in children.split()) if isinstance(children, str) else tuple(children)
    fields.setdefault("name", "top")
    return SupervisorSpec(strategy=strategy, intensity=intensity, period_s=period_s, children=specs, **fields)


def parse(word: str) -> WorkerSpec:
    """Read `name`, `name:P`, `name:T!`."""
    name, _, kind = word.partition(":")
    restart = {"P": PERMANENT, "T": TRANSIENT, "M": TEMPORARY}[kind.rstrip("!") or "P"]
    return worker(name, restart, significant=kind.endswith("!"))


class Kernel:
    """What all supervisors of a tree share: the queue of what happens next, the clock, the log."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Bench, ev.Event]] = deque()
        self.behind: deque[tuple[Bench, ev.Event]] = deque()
        self.now_s = 100.0
        self.log: list[str] = []
        self.scripts: dict[str, deque[str]] = {}
        self.always: dict[str, str] = {}
        self.stubborn: set[str] = set()
        self.held: set[str] = set()
        self.benches: dict[str, Bench] = {}
        self.pid = 100

    def fate(self, child: str) -> str:
        """How the next start of `child` goes."""
        script = self.scripts.get(child)
        return script.popleft() if script else self.always.get(child, "ready")

    def run(self) -> None:
        while self.queue or self.behind:
            bench, event = (self.queue or self.behind).popleft()
            bench.take(event)


class Bench:
    """
    One supervisor under test; nested ones get their own, found in `kernel.benches` by name.

    `log` has an entry for each child that became ready (`start a`), was stopped (`stop a`) or failed to start
    (`fail a`), as in the scenarios, in order over the whole tree.
    """

    def __init__(
        self, spec: SupervisorSpec, *, kernel: Kernel | None = None, parent: tuple[Bench, str, int] | None = None
    ) -> None:
        self.kernel = kernel or Kernel()
        self.parent = parent
        self.state: SupervisorState = initial(spec)
        self.alive = True
        self.effects: list[fx.Effect] = []
        self.answers: dict[int, fx.Reply | fx.Refuse] = {}
        self.end: fx.End | None = None
        self.live: dict[str, tuple[int, bool]] = {}  # child -> incarnation, was it ready
        self.dying: set[tuple[str, int]] = set()
        self.timers: dict[tuple[ev.TimerKind, str, int], float] = {}
        self._requests = 0
        self.kernel.benches[spec.name] = self

    # what a test does

    def start(self) -> Bench:
        return self.feed(ev.Started())

    def feed(self, *events: ev.Event) -> Bench:
        """Let these happen, one behind the other, and everything that follows."""
        self.effects.clear()
        self.kernel.queue.extend((self, event) for event in events)
        self.kernel.run()
        return self

    def script(self, child: str, *outcomes: str, then: str = "ready") -> None:
        """Say how the next starts of a child go: ready, fail, ignore, hang, refuse (no process); `then` all others."""
        self.kernel.scripts[child] = deque(outcomes)
        self.kernel.always[child] = then

    def exits(self, *children: str, exit: ev.Exit = CRASH) -> Bench:
        """Let children end by themselves, at the same moment."""
        self.dying.update((child, self.live[child][0]) for child in children)
        return self.feed(*(self.exited(child, exit) for child in children))

    def exited(self, child: str, exit: ev.Exit = CRASH) -> ev.ChildExited:
        return ev.ChildExited(child, self.live[child][0], exit)

    def ready(self, child: str) -> ev.ChildReady:
        return ev.ChildReady(child, self.live[child][0])

    def stop(self, *, now: bool = False) -> Bench:
        return self.feed(ev.StopRequested(now=now))

    def advance(self, seconds: float) -> Bench:
        """Let time pass; timers that fall due go off in order."""
        until_s = self.kernel.now_s + seconds
        self.effects.clear()
        while True:
            due = [
                (at_s, bench, key)
                for bench in self.kernel.benches.values()
                for key, at_s in bench.timers.items()
                if at_s <= until_s
            ]
            if not due:
                break
            at_s, bench, key = min(due, key=lambda timer: (timer[0], timer[2]))
            self.kernel.now_s = max(at_s, self.kernel.now_s)
            del bench.timers[key]
            self.kernel.queue.append((bench, ev.TimerElapsed(*key)))
            self.kernel.run()
        self.kernel.now_s = until_s
        return self

    def call(self, request: type[Any], *arguments: Any) -> Any:
        """Make a request and return the answer: `ok`, the code of a refusal, or None while there is none."""
        number = self.begin(request, *arguments)
        return self.answer(number)

    def begin(self, request: type[Any], *arguments: Any) -> int:
        self._requests += 1
        self.feed(request(self._requests, *arguments))
        return self._requests

    def answer(self, number: int) -> Any:
        match self.answers.get(number):
            case fx.Reply(ok=ok):
                return ok
            case fx.Refuse(code=code):
                return str(code)
        return None

    # what a test looks at

    def said(self) -> list[str]:
        """Take the log so far."""
        log, self.kernel.log[:] = list(self.kernel.log), []
        return log

    def which(self) -> dict[str, str]:
        """Child -> running, restarting or undefined, newest first."""
        return {entry["id"]: entry["state"] for entry in self.call(ev.WhichChildren)}

    def counts(self) -> list[int]:
        counted = self.call(ev.CountChildren)
        return [counted[key] for key in ("specs", "active", "supervisors", "workers")]

    def incarnations(self) -> dict[str, int]:
        return {child: incarnation for child, (incarnation, _) in self.live.items()}

    def reports(self, event: str) -> list[fx.Report]:
        """What was reported since the last `feed` by this supervisor."""
        return [effect for effect in self.effects if isinstance(effect, fx.Report) and effect.event == event]

    def done(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    # the kernel

    def take(self, event: ev.Event) -> None:
        if not self.alive:
            return
        if isinstance(event, ev.ChildExited | ev.SpawnFailed):
            incarnation, _ = self.live.get(event.child, (0, False))
            if incarnation == event.incarnation:
                del self.live[event.child]
        self.state, effects = step(self.state, event, self.kernel.now_s)
        self.effects.extend(effects)
        for effect in effects:
            self._execute(effect)

    def _execute(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Spawn():
                self._spawn(effect)
            case fx.Signal():
                self._signal(effect)
            case fx.ArmTimer(kind=kind, child=child, incarnation=incarnation, after_s=after_s):
                if after_s == 0:
                    self.kernel.behind.append((self, ev.TimerElapsed(kind, child, incarnation)))
                else:
                    self.timers[kind, child, incarnation] = self.kernel.now_s + after_s
            case fx.CancelTimer(kind=kind, child=child, incarnation=incarnation):
                self.timers.pop((kind, child, incarnation), None)
            case fx.Reply(request=request) | fx.Refuse(request=request):
                assert request not in self.answers
                self.answers[request] = effect
            case fx.Report(event="ready", child=child):
                self.live[child] = (self.live[child][0], True)
                if child not in self.kernel.benches:
                    self.kernel.log.append(f"start {child}")
            case fx.Ready():
                self._tell_parent(ev.ChildReady)
            case fx.End():
                self.end = effect
                self._tell_parent(ev.ChildExited, self._status(effect))

    def _status(self, end: fx.End) -> ev.Exit:
        return {fx.Outcome.STOPPED: NORMAL, fx.Outcome.START_FAILED: CRASH}.get(end.outcome, SHUTDOWN)

    def _tell_parent(self, event: type[Any], *arguments: Any) -> None:
        if self.parent is not None:
            bench, child, incarnation = self.parent
            self.kernel.queue.append((bench, event(child, incarnation, *arguments)))

    def _spawn(self, effect: fx.Spawn) -> None:
        kernel, child, incarnation = self.kernel, effect.child, effect.incarnation
        assert child not in self.live, f"two of {child}"
        self.live[child] = (incarnation, False)
        outcome = kernel.fate(child)
        if outcome == "refuse":
            failed = ev.Exit(ev.ExitReason.EXEC_FAILED, text="fork: EAGAIN")
            kernel.queue.append((self, ev.SpawnFailed(child, incarnation, failed)))
            kernel.log.append(f"fail {child}")
            return
        kernel.pid += 1
        kernel.queue.append((self, ev.Spawned(child, incarnation, kernel.pid)))
        if isinstance(effect.spec, SupervisorSpec):
            below = Bench(effect.spec, kernel=kernel, parent=(self, child, incarnation))
            kernel.queue.append((below, ev.Started()))
        elif outcome == "ready":
            kernel.queue.append((self, ev.ChildReady(child, incarnation)))
        elif outcome == "fail":
            kernel.log.append(f"fail {child}")
            kernel.queue.append((self, ev.ChildExited(child, incarnation, CRASH)))
        elif outcome == "ignore":
            kernel.queue.append((self, ev.ChildIgnored(child, incarnation)))
            kernel.queue.append((self, ev.ChildExited(child, incarnation, NORMAL)))

    def _signal(self, effect: fx.Signal) -> None:
        kernel, child = self.kernel, effect.child
        incarnation, ready = self.live.get(child, (0, False))
        kill = effect.kind is fx.SignalKind.KILL
        if incarnation != effect.incarnation or child in kernel.held or (child in kernel.stubborn and not kill):
            return
        if child in kernel.benches and not kill:
            kernel.queue.append((kernel.benches[child], ev.StopRequested()))
            return
        if child in kernel.benches:
            kernel.benches[child].vanish()
        elif ready and (child, incarnation) not in self.dying:
            kernel.log.append(f"{'kill' if kill else 'stop'} {child}")
        if (child, incarnation) in self.dying:
            return
        self.dying.add((child, incarnation))
        kernel.queue.append((self, ev.ChildExited(child, incarnation, KILLED if kill else TERMED)))

    def vanish(self) -> None:
        """Be killed, with everything below."""
        self.alive = False
        self.timers.clear()
        for child in self.live:
            if child in self.kernel.benches:
                self.kernel.benches[child].vanish()


__all__ = [
    "CODE_82", "CRASH", "DYNAMIC", "KILLED", "NORMAL", "ONE_FOR_ALL", "ONE_FOR_ONE", "PERMANENT", "REST_FOR_ONE",
    "SHUTDOWN", "TEMPORARY", "TERMED", "TRANSIENT", "AutoShutdown", "Backoff", "Bench", "Kernel", "parse", "supervisor",
    "within", "worker",
]  # fmt: skip
