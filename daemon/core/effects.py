"""
What a supervisor wants done: the effects that `step` returns, to be carried out in order.

Every outcome comes back as an event. Nothing else performs I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct

from regrow.config.spec import SupervisorSpec, WorkerSpec
from regrow.daemon.core.events import Exit, TimerKind


class Code(StrEnum):
    """The closed list of refusals, OTP's words first."""

    NOT_FOUND = "not_found"
    RUNNING = "running"
    RESTARTING = "restarting"
    ALREADY_STARTED = "already_started"
    ALREADY_PRESENT = "already_present"
    MAX_CHILDREN = "max_children"
    NOPROC = "noproc"
    SHUTDOWN = "shutdown"
    START_FAILED = "start_failed"
    BAD_REQUEST = "bad_request"
    BUSY = "busy"


class SignalKind(StrEnum):
    STOP = "stop"  # the child's stop signal, to its whole process group
    KILL = "kill"


class Outcome(StrEnum):
    """How a supervisor's life ended."""

    STOPPED = "stopped"  # its parent asked
    GAVE_UP = "gave_up"  # intensity exceeded: ends with *shutdown*
    AUTO_SHUTDOWN = "auto_shutdown"  # ends with *shutdown*
    START_FAILED = "start_failed"


class Spawn(Struct, frozen=True, tag=True):
    child: str
    incarnation: int
    spec: WorkerSpec | SupervisorSpec


class Signal(Struct, frozen=True, tag=True):
    child: str
    incarnation: int
    kind: SignalKind


class ArmTimer(Struct, frozen=True, tag=True):
    kind: TimerKind
    child: str
    incarnation: int
    after_s: float


class CancelTimer(Struct, frozen=True, tag=True):
    kind: TimerKind
    child: str
    incarnation: int


class Reply(Struct, frozen=True, tag=True):
    """`ok` is plain data or a child spec, to be put on the wire by the edge."""

    request: int
    ok: Any


class Refuse(Struct, frozen=True, tag=True):
    request: int
    code: Code
    message: str
    pid: int | None = None


class Report(Struct, frozen=True, tag=True):
    """
    One transition, for the event stream.

    `number` counts the reports of this supervisor from 1; `cause` is the number of the one that led to it.
    `child` is empty when the supervisor itself is meant.
    """

    number: int
    event: str
    child: str = ""
    incarnation: int = 0
    pid: int | None = None
    cause: int | None = None
    exit: Exit | None = None
    extra: Mapping[str, Any] = {}


class Forget(Struct, frozen=True, tag=True):
    """The child's slot is gone; nothing about it need be kept."""

    child: str


class Ready(Struct, frozen=True, tag=True):
    """All children have started: the supervisor may tell its own parent that it is ready."""


class End(Struct, frozen=True, tag=True):
    """Nothing is left; the process may end, with this as its last word."""

    outcome: Outcome
    text: str = ""


Effect: TypeAlias = (
    Spawn | Signal | ArmTimer | CancelTimer | Reply | Refuse | Report | Forget | Ready | End
)
