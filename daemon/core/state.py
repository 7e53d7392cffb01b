"""
What a supervisor knows: one immutable value, complete enough to be written down and taken up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from regrow.config.spec import Strategy, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import Outcome
from regrow.daemon.core.events import Event, Exit

INDEPENDENT = frozenset({Strategy.ONE_FOR_ONE, Strategy.DYNAMIC})
"""Strategies under which the children's fates are unconnected."""


class SlotState(StrEnum):
    """Where a child's process is. OTP's `restarting` is WAITING, or STARTING on the supervisor's own account."""

    UNDEFINED = "undefined"  # spec kept, no process
    WAITING = "waiting"  # a restart is put off: backoff, or the retry of a failed start
    STARTING = "starting"  # process made, not ready
    RUNNING = "running"  # was ready
    STOPPING = "stopping"  # asked or killed, not gone


class StartFor(StrEnum):
    """On whose account a child is being started: decides what its failure means."""

    INIT = "init"
    RESTART = "restart"
    REQUEST = "request"


class Slot(Struct, frozen=True, omit_defaults=True):
    """
    One child. `incarnation` is that of its newest process (0: never had one), `last_pid` what that one's pid
    is or was; `pid` is None unless the process lives.

    `dead` holds the exit of a process whose death waits to be handled; `forced` the reason for which
    the supervisor itself is killing it; `failures` counts restarts in a row for backoff; `counted` says
    that the waiting restart is already in the intensity window; `report` is the newest report about it; `probation`
    that its end leads to no restart.
    """

    spec: WorkerSpec | SupervisorSpec
    state: SlotState = SlotState.UNDEFINED
    incarnation: int = 0
    pid: int | None = None
    last_pid: int | None = None
    start_for: StartFor = StartFor.INIT
    request: int | None = None
    added: bool = False
    ignored: bool = False
    forced: Exit | None = None
    dead: Exit | None = None
    restarts: int = 0
    failures: int = 0
    up_since_s: float | None = None
    waits_until_s: float = 0.0
    counted: bool = False
    report: int | None = None
    probation: bool = False


class Phase(StrEnum):
    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Init(Struct, frozen=True, tag=True):
    """Starting the children of the list; `pending` are not yet begun, in start order; `starting` are under way."""

    pending: tuple[str, ...]
    starting: int = 0


class Batch(Struct, frozen=True, tag=True):
    """
    One execution of a group strategy. `scope` in start order; first everything in it is stopped in reverse
    order (`stopping`), then, after `delay_s`, started in order: `pending` are not yet begun.
    """

    pivot: str
    scope: tuple[str, ...]
    cause: int | None
    delay_s: float = 0.0
    stopping: bool = True
    pending: tuple[str, ...] = ()


class Terminate(Struct, frozen=True, tag=True):
    """terminate_child is waiting for the death of one child."""

    child: str
    request: int


class Starting(Struct, frozen=True, tag=True):
    """start_child or restart_child is waiting for one child (group strategies only)."""

    child: str


class StopAll(Struct, frozen=True, tag=True):
    """The supervisor's own end: everything is being stopped; `left` children still have a process."""

    outcome: Outcome
    text: str
    cause: int | None
    now: bool = False
    left: int = 0


Operation: TypeAlias = Init | Batch | Terminate | Starting | StopAll


class SupervisorState(Struct, frozen=True):
    """
    `order` is start order (S61). `restarts_s` is the intensity window, oldest first. While `operation`
    runs, what it must not meet waits in `mailbox`, in order of arrival. `failures` and `up_since_s`
    are the group's, for backoff. `forgotten` holds the newest incarnation of names that lost their slot, the
    latest last: a name that comes again goes on counting, so that what is still said of the old one is stale.
    """

    spec: SupervisorSpec
    phase: Phase = Phase.NEW
    order: tuple[str, ...] = ()
    slots: Mapping[str, Slot] = {}
    restarts_s: tuple[float, ...] = ()
    operation: Operation | None = None
    mailbox: tuple[Event, ...] = ()
    failures: int = 0
    up_since_s: float | None = None
    reports: int = 0
    forgotten: Mapping[str, int] = {}

    @property
    def independent(self) -> bool:
        """Whether the children's fates are unconnected: one_for_one and dynamic."""
        return self.spec.strategy in INDEPENDENT

    @property
    def dynamic(self) -> bool:
        return self.spec.strategy is Strategy.DYNAMIC


def initial(spec: SupervisorSpec, incarnations: Mapping[str, int] | None = None) -> SupervisorState:
    """
    The state of a supervisor that has not started: its static list, nothing running (S111).

    `incarnations` are the newest ever used under these names, which a restarted supervisor goes on from.
    """
    used = incarnations or {}
    return SupervisorState(
        spec=spec,
        order=tuple(child.name for child in spec.children),
        slots={child.name: Slot(spec=child, incarnation=used.get(child.name, 0)) for child in spec.children},
    )
