"""
What can happen to a supervisor: the events that `step` is a function of.

Events about a process carry (child, incarnation), so an event of an incarnation that is gone changes
nothing, by construction. Requests carry `request`, by which their answer finds its way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from regrow.config.spec import SupervisorSpec, WorkerSpec


class ExitReason(StrEnum):
    """Why a process ended, as `last_exit` names it."""

    EXIT = "exit"
    SIGNAL = "signal"
    START_TIMEOUT = "start_timeout"
    START_FAILED = "start_failed"
    WATCHDOG = "watchdog"
    LIVENESS = "liveness"
    MEMORY = "memory"
    OOM = "oom"
    EXEC_FAILED = "exec_failed"
    EXCEPTION = "exception"
    SHUTDOWN = "shutdown"
    STOPPED = "stopped"


class Exit(Struct, frozen=True):
    """How a process ended: `code` or `signal` as the kernel told it, `reason` and `text` in regrow's words."""

    reason: ExitReason
    code: int | None = None
    signal: int | None = None
    text: str = ""


class TimerKind(StrEnum):
    START = "start"  # ready must have come
    STOP = "stop"  # the stop signal must have worked
    RETRY = "retry"  # the restart that was put off is due


class Started(Struct, frozen=True, tag=True):
    """The parent wants the supervisor to start its children."""


class Spawned(Struct, frozen=True, tag=True):
    child: str
    incarnation: int
    pid: int


class SpawnFailed(Struct, frozen=True, tag=True):
    """The kernel gave no process: there is none to wait for."""

    child: str
    incarnation: int
    exit: Exit


class ChildReady(Struct, frozen=True, tag=True):
    child: str
    incarnation: int


class ChildIgnored(Struct, frozen=True, tag=True):
    """The child says that it is not needed; its exit is still to come."""

    child: str
    incarnation: int


class ChildExited(Struct, frozen=True, tag=True):
    """
    The child's process is dead and nothing that it left behind lives any more.

    `jitter` in [-1, 1] is drawn by whoever saw the death, so that the delay it leads to is repeatable.
    """

    child: str
    incarnation: int
    exit: Exit
    jitter: float = 0.0


class ChildUnhealthy(Struct, frozen=True, tag=True):
    """Watchdog, liveness or memory: the process lives, but must not go on."""

    child: str
    incarnation: int
    exit: Exit


class TimerElapsed(Struct, frozen=True, tag=True):
    kind: TimerKind
    child: str
    incarnation: int


class StopRequested(Struct, frozen=True, tag=True):
    """Stop everything and end; `now` skips the asking."""

    now: bool = False
    text: str = ""


class StartChild(Struct, frozen=True, tag=True):
    """`incarnation` is the newest ever used under the name, which the new child goes on from."""

    request: int
    spec: WorkerSpec | SupervisorSpec
    incarnation: int = 0


class RestartChild(Struct, frozen=True, tag=True):
    """`probation`: while an apply watches it, its end is told and no restart follows, so it can use up no limit."""

    request: int
    child: str
    probation: bool = False


class ProbationOver(Struct, frozen=True, tag=True):
    """From now on all children are restarted as their specs say."""

    request: int


class TerminateChild(Struct, frozen=True, tag=True):
    """`child` is a name; under a dynamic supervisor a pid, as OTP has it, may stand for it (S153)."""

    request: int
    child: str | int


class DeleteChild(Struct, frozen=True, tag=True):
    request: int
    child: str


class WhichChildren(Struct, frozen=True, tag=True):
    request: int


class CountChildren(Struct, frozen=True, tag=True):
    request: int


class GetChildspec(Struct, frozen=True, tag=True):
    request: int
    child: str


class PlanChanged(Struct, frozen=True, tag=True):
    """
    New flags and child specs for a running supervisor (S175-S182).

    `incarnations` are the newest ever used under names that are new below it. `applied`: it is part of an apply, which
    tells of itself; what changes in place then holds for the processes that there are.
    """

    request: int
    spec: SupervisorSpec
    incarnations: Mapping[str, int] = {}
    applied: bool = False


Request: TypeAlias = (
    StartChild
    | RestartChild
    | TerminateChild
    | DeleteChild
    | WhichChildren
    | CountChildren
    | GetChildspec
    | PlanChanged
    | ProbationOver
)
ChildEvent: TypeAlias = (
    Spawned | SpawnFailed | ChildReady | ChildIgnored | ChildExited | ChildUnhealthy | TimerElapsed
)
Event: TypeAlias = Started | StopRequested | ChildEvent | Request
