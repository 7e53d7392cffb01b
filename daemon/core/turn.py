"""
One step under way: the state as it changes and the effects as they gather.

A `Turn` lives inside one call of `step` and is the only mutable thing in the core. Its methods are the
moves that every rule is made of; the rules themselves are elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from regrow.config.spec import Restart, ShutdownKind, Strategy, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import (
    ArmTimer,
    CancelTimer,
    Code,
    Effect,
    Forget,
    Refuse,
    Reply,
    Report,
    Signal,
    SignalKind,
    Spawn,
)
from regrow.daemon.core.events import Event, Exit, TimerKind
from regrow.daemon.core.state import (
    INDEPENDENT,
    Operation,
    Slot,
    SlotState,
    StartFor,
    SupervisorState,
)

FORGOTTEN = 256
"""Names without a slot whose newest incarnation is remembered, the oldest are dropped."""


class Turn:
    """The scratch pad of one step. `finish` gives the new state and the effects, in order."""

    def __init__(self, state: SupervisorState, now_s: float) -> None:
        self.before = state
        self.now_s = now_s
        self.spec = state.spec
        self.phase = state.phase
        self.order = state.order
        self.slots: dict[str, Slot] = dict(state.slots)
        self.restarts_s = state.restarts_s
        self.operation: Operation | None = state.operation
        self.mailbox: list[Event] = list(state.mailbox)
        self.failures = state.failures
        self.up_since_s = state.up_since_s
        self.reports = state.reports
        self.forgotten = state.forgotten
        self.effects: list[Effect] = []
        self.independent = state.independent
        self.dynamic = state.dynamic

    def set_spec(self, spec: SupervisorSpec) -> None:
        """Take over new flags, in the middle of a step too."""
        self.spec = spec
        self.independent = spec.strategy in INDEPENDENT
        self.dynamic = spec.strategy is Strategy.DYNAMIC

    def finish(self) -> tuple[SupervisorState, tuple[Effect, ...]]:
        state = SupervisorState(
            spec=self.spec,
            phase=self.phase,
            order=self.order,
            slots=self.slots,
            restarts_s=self.restarts_s,
            operation=self.operation,
            mailbox=tuple(self.mailbox),
            failures=self.failures,
            up_since_s=self.up_since_s,
            reports=self.reports,
            forgotten=self.forgotten,
        )
        return state, tuple(self.effects)

    # what is asked of the outside

    def report(
        self,
        event: str,
        child: str = "",
        *,
        cause: int | None = None,
        exit: Exit | None = None,
        pid: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Tell what happened; without a `cause` the newest report about the child is taken for it."""
        self.reports += 1
        slot = self.slots.get(child)
        if slot is not None:
            cause = slot.report if cause is None else cause
            self.slots[child] = replace(slot, report=self.reports)
        self.effects.append(
            Report(
                number=self.reports,
                event=event,
                child=child,
                incarnation=slot.incarnation if slot else 0,
                pid=pid if pid is not None or slot is None else slot.pid,
                cause=cause,
                exit=exit,
                extra=extra or {},
            )
        )
        return self.reports

    def reply(self, request: int | None, ok: object) -> None:
        if request is not None:
            self.effects.append(Reply(request, ok))

    def refuse(self, request: int | None, code: Code, message: str, pid: int | None = None) -> None:
        if request is not None:
            self.effects.append(Refuse(request, code, message, pid))

    def postpone(self, event: Event) -> None:
        self.mailbox.append(event)

    # moves of one child

    def change(self, child: str, **fields: Any) -> Slot:
        slot = replace(self.slots[child], **fields)
        self.slots[child] = slot
        return slot

    def spawn(self, child: str, start_for: StartFor, request: int | None = None) -> None:
        """Make the next incarnation of `child`."""
        slot = self.slots[child]
        slot = self.change(
            child,
            state=SlotState.STARTING,
            incarnation=slot.incarnation + 1,
            pid=None,
            start_for=start_for,
            request=request,
            ignored=False,
            forced=None,
            dead=None,
            counted=False,
            restarts=slot.restarts + (start_for is StartFor.RESTART),
        )
        self.effects.append(Spawn(child, slot.incarnation, slot.spec))
        if isinstance(slot.spec, WorkerSpec):
            self.arm(TimerKind.START, child, slot.spec.ready.timeout_s)

    def arm(self, kind: TimerKind, child: str, after_s: float) -> None:
        self.effects.append(ArmTimer(kind, child, self.slots[child].incarnation, after_s))

    def cancel(self, kind: TimerKind, child: str) -> None:
        self.effects.append(CancelTimer(kind, child, self.slots[child].incarnation))

    def cancel_start(self, child: str) -> None:
        """Whether the child becomes ready is no longer awaited."""
        slot = self.slots[child]
        if slot.state is SlotState.STARTING and isinstance(slot.spec, WorkerSpec):
            self.cancel(TimerKind.START, child)

    def signal(self, child: str, kind: SignalKind) -> None:
        self.effects.append(Signal(child, self.slots[child].incarnation, kind))

    def begin_stop(self, child: str, cause: int | None, *, now: bool = False) -> None:
        """Begin the shutdown protocol of a live child (S92-S95); `now` kills without asking."""
        slot = self.slots[child]
        self.cancel_start(child)
        if slot.request is not None:  # whoever started it learns that it is being stopped instead
            self.refuse(slot.request, Code.START_FAILED, f"{child} is being stopped before it was ready")
        self.report("stopping", child, cause=cause)
        self.change(child, state=SlotState.STOPPING, request=None)
        shutdown = slot.spec.shutdown
        if now or shutdown.kind is ShutdownKind.BRUTAL_KILL:
            self.signal(child, SignalKind.KILL)
            return
        self.signal(child, SignalKind.STOP)
        if shutdown.kind is ShutdownKind.TIMEOUT:
            if shutdown.timeout_s > 0:
                self.arm(TimerKind.STOP, child, shutdown.timeout_s)
            else:
                self.signal(child, SignalKind.KILL)

    def undefine(self, child: str) -> None:
        """The child has no process and none is planned; its spec stays."""
        slot = self.slots[child]
        if slot.state is SlotState.WAITING:
            self.cancel(TimerKind.RETRY, child)
        self.change(child, state=SlotState.UNDEFINED, pid=None, dead=None, forced=None, request=None, counted=False)

    def forget(self, child: str) -> None:
        """Remove the child's spec."""
        if self.slots[child].state is SlotState.WAITING:
            self.cancel(TimerKind.RETRY, child)
        newest = {name: number for name, number in self.forgotten.items() if name != child}
        newest[child] = self.slots.pop(child).incarnation
        if len(newest) > FORGOTTEN:
            del newest[next(iter(newest))]
        self.forgotten = newest
        self.order = tuple(name for name in self.order if name != child)
        self.effects.append(Forget(child))

    def gone(self, child: str) -> None:
        """After an end without restart: temporary and dynamic children lose their spec (S46, S47)."""
        if self.dynamic or self.slots[child].spec.restart is Restart.TEMPORARY:
            self.forget(child)
        else:
            self.undefine(child)

    def alive(self, child: str) -> bool:
        """Whether the child holds a process whose death has not been heard of."""
        slot = self.slots.get(child)
        return slot is not None and slot.dead is None and slot.state in HOLDS_PROCESS


HOLDS_PROCESS = frozenset({SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING})
