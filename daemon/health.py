"""
Ready, alive, in progress, within its memory: what is watched about one process, and for how long.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from regrow.config.spec import ReadyKind, WorkerSpec
from regrow.daemon.core.events import Exit, ExitReason
from regrow.daemon.linux.probes import LivenessWatch, ProbeProcesses, ReadyWait, Surroundings
from regrow.daemon.linux.procfs import tree_resident_bytes
from regrow.daemon.loop import Loop, Timer

ASKED = frozenset({ReadyKind.TCP, ReadyKind.UNIX, ReadyKind.HTTP, ReadyKind.FILE, ReadyKind.EXEC})
"""Kinds of ready for which the supervisor asks; the others are told."""

MEMORY_EVERY_S = 1.0


class Health:
    """
    Watches one worker process. `on_ready()` is called at most once, `on_unhealthy(exit)` at most once.

    `looks_at_memory`: it is for us to hold the child to its limit, and not for the kernel. Nothing is called after
    `cancel`.
    """

    def __init__(
        self,
        loop: Loop,
        spec: WorkerSpec,
        pid: int,
        env: Mapping[str, str],
        probes: ProbeProcesses,
        on_ready: Callable[[], None],
        on_unhealthy: Callable[[Exit], None],
        *,
        looks_at_memory: bool = True,
    ) -> None:
        self._loop = loop
        self._spec = spec
        self._looks_at_memory = looks_at_memory and spec.limits.memory_bytes is not None
        self._pid = pid
        self._env = env
        self._probes = probes
        self._on_ready = on_ready
        self._on_unhealthy = on_unhealthy
        self._ready_wait: ReadyWait | None = None
        self._liveness: LivenessWatch | None = None
        self._timers: dict[str, Timer] = {}
        self._over = False
        self._is_ready = False
        self._missed: str | None = None

    def running(self) -> None:
        """The child's own code runs: begin to ask, where the spec says so."""
        kind = self._spec.ready.probe.kind
        if self._over:
            return
        if kind is ReadyKind.STARTED:
            self._on_ready()
        elif kind in ASKED:
            self._ready_wait = ReadyWait(self._loop, self._spec.ready, self._around(), self._on_ready)

    def became_ready(self) -> None:
        """From now on liveness, watchdog and memory count."""
        if self._ready_wait is not None:
            self._ready_wait.cancel()
            self._ready_wait = None
        if self._over:
            return
        self._is_ready = True
        self._watch_liveness()
        self.progress()
        if self._looks_at_memory:
            self._check_memory()

    def _watch_liveness(self) -> None:
        if self._spec.liveness is not None:
            self._liveness = LivenessWatch(self._loop, self._spec.liveness, self._around(), self._not_live)

    def _around(self) -> Surroundings:
        return Surroundings(self._probes, self._env, self._spec.cwd or os.getcwd(), self._spec.credentials)

    def change(self, spec: WorkerSpec) -> None:
        """Liveness is checked from now on as `spec` says; all else concerns the next process."""
        if spec.liveness == self._spec.liveness:
            return
        self._spec = replace(self._spec, liveness=spec.liveness)
        if self._liveness is not None:
            self._liveness.cancel()
            self._liveness = None
        if self._is_ready and not self._over:
            self._watch_liveness()

    def progress(self) -> None:
        """The child has shown progress: the watchdog starts anew."""
        watchdog_s = self._spec.watchdog_s
        if watchdog_s is None or self._over:
            return
        if (timer := self._timers.get("watchdog")) is not None:
            timer.cancel()
        self._timers["watchdog"] = self._loop.call_later(watchdog_s, self._no_progress)

    def killed(self) -> None:
        """It is being ended: what a check finds from now on is the end itself."""
        if self._missed is None:
            self._missed = self.missing
        if self._ready_wait is not None:
            self._ready_wait.cancel()

    @property
    def missing(self) -> str:
        """What a start that takes too long is still waiting for; empty when nobody can say."""
        if self._missed is not None:
            return self._missed
        if self._ready_wait is not None:
            return self._ready_wait.last_failure
        kind = self._spec.ready.probe.kind
        return {ReadyKind.NOTIFY: "no READY=1 came", ReadyKind.LINE: "no such line was printed"}.get(kind, "")

    def cancel(self) -> None:
        """Watch no more; idempotent."""
        self._over = True
        if self._ready_wait is not None:
            self._ready_wait.cancel()
        if self._liveness is not None:
            self._liveness.cancel()
        for timer in self._timers.values():
            timer.cancel()

    def _not_live(self, failure: str) -> None:
        liveness = self._spec.liveness
        times = liveness.failures if liveness else 0
        self._unhealthy(ExitReason.LIVENESS, f"{times} checks in a row failed, the last: {failure}")

    def _no_progress(self) -> None:
        self._unhealthy(ExitReason.WATCHDOG, f"no progress shown within {self._spec.watchdog_s:g} s")

    def _check_memory(self) -> None:
        limit = self._spec.limits.memory_bytes
        used = tree_resident_bytes(self._pid)
        if limit is not None and used > limit:
            self._unhealthy(ExitReason.MEMORY, f"uses {used >> 20} MiB of memory, its limit is {limit >> 20} MiB")
        else:
            self._timers["memory"] = self._loop.call_later(MEMORY_EVERY_S, self._check_memory)

    def _unhealthy(self, reason: ExitReason, text: str) -> None:
        if not self._over:
            self._on_unhealthy(Exit(reason, text=text))
