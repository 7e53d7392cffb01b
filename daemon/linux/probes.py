"""
Ask a child whether it serves: until it does for the first time (`ReadyWait`), and from then on (`LivenessWatch`).

Both live in the supervisor's loop. Every attempt ends within its own time limit, attempts of one probe never overlap,
and after `cancel` nothing is called any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from msgspec import Struct

from regrow.config.spec import Credentials, Liveness, Probe, Ready, ReadyKind
from regrow.daemon.linux.probe_attempt import PASSED, Attempt
from regrow.daemon.linux.probe_connect import TcpAttempt
from regrow.daemon.linux.probe_fork import run_program
from regrow.daemon.linux.probe_http import HttpAttempt
from regrow.daemon.linux.probe_process import ProbeProcesses, ProcessAttempt
from regrow.daemon.linux.probe_unix import FileAttempt, UnixAttempt
from regrow.daemon.loop import Loop, Timer

__all__ = ["LivenessWatch", "ProbeProcesses", "ReadyWait", "Surroundings", "make_attempt"]

FIRST_DELAY_S = 0.01
DELAY_FACTOR = 1.5
MAX_DELAY_S = 0.25
ATTEMPT_S = 1.0
EXEC_ATTEMPT_S = 5.0

_LINGERS = "the check before this one cannot be killed"


class Surroundings(Struct, frozen=True):
    """
    What a check of a child runs in. `env` is the complete environment, with the child's marker.

    A relative path means one below `cwd`, the child's. `identity` is for exec only; all else looks as the supervisor.
    """

    processes: ProbeProcesses
    env: Mapping[str, str]
    cwd: str = ""
    identity: Credentials | None = None


def make_attempt(
    loop: Loop, probe: Probe, timeout_s: float, around: Surroundings, on_done: Callable[[str], None]
) -> Attempt:
    """
    One attempt of `probe`, not yet begun; `on_done` gets "" or what went wrong.

    Raises:
        ValueError: the kind is not asked for but told (notify, started, line).
    """
    match probe.kind:
        case ReadyKind.TCP:
            return TcpAttempt(loop, timeout_s, on_done, probe.host, probe.port)
        case ReadyKind.HTTP:
            return HttpAttempt(loop, timeout_s, on_done, probe.host, probe.port, probe.path, probe.http_host)
        case ReadyKind.UNIX:
            return UnixAttempt(loop, timeout_s, on_done, around.processes, os.path.join(around.cwd, probe.path))
        case ReadyKind.FILE:
            return FileAttempt(loop, timeout_s, on_done, around.processes, os.path.join(around.cwd, probe.path))
        case ReadyKind.EXEC:
            argv = probe.argv
            return ProcessAttempt(
                loop,
                timeout_s,
                on_done,
                around.processes,
                argv[0],
                lambda: run_program(argv, around.env, around.cwd, around.identity),
            )
        case _:
            raise ValueError(f"internal error: {probe.kind} is not a probe")


class ReadyWait:
    """
    Try at once and again until an attempt passes; then call `on_ready`, once.

    How long that may take altogether is the caller's to limit. `last_failure` says what is still missing.
    """

    def __init__(self, loop: Loop, ready: Ready, around: Surroundings, on_ready: Callable[[], None]) -> None:
        self.last_failure = "the first check has not ended"
        self._loop = loop
        self._probe = ready.probe
        self._around = around
        self._on_ready = on_ready
        self._delay_s = FIRST_DELAY_S
        self._attempt: Attempt | None = None
        self._timer: Timer | None = None
        self._try()

    def cancel(self) -> None:
        """Stop asking; idempotent."""
        if self._attempt is not None:
            self._attempt.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _try(self) -> None:
        if self._attempt is not None and self._attempt.lingers():
            self._again(_LINGERS)
            return
        limit_s = EXEC_ATTEMPT_S if self._probe.kind == ReadyKind.EXEC else ATTEMPT_S
        self._attempt = make_attempt(self._loop, self._probe, limit_s, self._around, self._tried)
        self._attempt.begin()

    def _tried(self, failure: str) -> None:
        if failure == PASSED:
            self._on_ready()
        else:
            self._again(failure)

    def _again(self, failure: str) -> None:
        self.last_failure = failure
        self._timer = self._loop.call_at(self._loop.now() + self._delay_s, self._try)
        self._delay_s = min(self._delay_s * DELAY_FACTOR, MAX_DELAY_S)


class LivenessWatch:
    """
    Try every `every_s`, first `every_s` from now; after `failures` failures in a row call `on_failed`, once, and end.

    Attempts start on a grid of `every_s`. What was missed, because an attempt took longer or the supervisor was
    stopped, is left out, not made up for.
    """

    def __init__(
        self, loop: Loop, liveness: Liveness, around: Surroundings, on_failed: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._liveness = liveness
        self._around = around
        self._on_failed = on_failed
        self._failures = 0
        self._attempt: Attempt | None = None
        self._due_s = loop.now() + liveness.every_s
        self._timer = loop.call_at(self._due_s, self._try)

    def cancel(self) -> None:
        """Stop asking; idempotent."""
        self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()

    def _try(self) -> None:
        if self._attempt is not None and self._attempt.lingers():
            self._tried(_LINGERS)
            return
        liveness = self._liveness
        self._attempt = make_attempt(self._loop, liveness.probe, liveness.timeout_s, self._around, self._tried)
        self._attempt.begin()

    def _tried(self, failure: str) -> None:
        self._failures = 0 if failure == PASSED else self._failures + 1
        if self._failures >= self._liveness.failures and failure != PASSED:
            self._on_failed(failure)
            return
        self._due_s = next_due_s(self._due_s, self._liveness.every_s, self._loop.now())
        self._timer = self._loop.call_at(self._due_s, self._try)


def next_due_s(due_s: float, every_s: float, now_s: float) -> float:
    """The first moment after `now_s` on the grid `due_s + n * every_s` (n >= 1)."""
    if now_s < due_s:
        return due_s + every_s
    following_s = due_s + every_s * (1 + (now_s - due_s) // every_s)
    return following_s if following_s > now_s else now_s + every_s
