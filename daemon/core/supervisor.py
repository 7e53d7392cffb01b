"""
The supervisor as one total function: `step(state, event, now_s) -> (state, effects)`.

Two kinds of supervisor share it. Where children are *independent* (one_for_one, dynamic) each child has a
life of its own: deaths, delays and starts of different children overlap freely, and only requests wait for
each other. In a *group* (one_for_all, rest_for_one), and while any supervisor starts up or ends, there is one
operation at a time, and what it must not meet waits in the mailbox in order of arrival (S60, S102, T5).

Source: otp-rules S26-S127, T4-T6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from regrow.daemon.core import group, lifecycle, management, outcomes
from regrow.daemon.core.effects import Code, Effect
from regrow.daemon.core.events import (
    ChildExited,
    ChildIgnored,
    ChildReady,
    ChildUnhealthy,
    Event,
    Spawned,
    SpawnFailed,
    Started,
    StopRequested,
    TimerElapsed,
    TimerKind,
)
from regrow.daemon.core.restart import known_exit
from regrow.daemon.core.state import (
    Batch,
    Phase,
    Slot,
    SlotState,
    SupervisorState,
    Terminate,
)
from regrow.daemon.core.turn import Turn

Handler: TypeAlias = Callable[[Turn, Slot, "ProcessEvent"], None]
ProcessEvent: TypeAlias = (
    Spawned | SpawnFailed | ChildReady | ChildIgnored | ChildExited | ChildUnhealthy | TimerElapsed
)


def step(state: SupervisorState, event: Event, now_s: float) -> tuple[SupervisorState, tuple[Effect, ...]]:
    """
    Decide what `event` changes and what is to be done about it.

    `now_s` is monotonic seconds and never less than in an earlier step. Total: an event that means
    nothing in this state changes nothing.
    """
    turn = Turn(state, now_s)
    _dispatch(turn, event)
    _drain(turn)
    return turn.finish()


def _dispatch(turn: Turn, event: Event) -> None:
    if isinstance(event, ProcessEvent):
        _process_event(turn, event)
    elif isinstance(event, Started):
        if turn.phase is Phase.NEW:
            lifecycle.begin(turn)
    elif isinstance(event, StopRequested):
        lifecycle.stop_requested(turn, event)
    elif turn.phase in (Phase.STOPPING, Phase.ENDED):
        turn.refuse(event.request, Code.SHUTDOWN, f"{turn.spec.name} is shutting down")
    elif turn.operation is not None or turn.phase is Phase.NEW:
        turn.postpone(event)
    else:
        management.serve(turn, event)


def _drain(turn: Turn) -> None:
    """Take up what had to wait, in order of arrival, until a new operation begins."""
    while turn.operation is None and turn.phase is Phase.RUNNING and turn.mailbox:
        _dispatch(turn, turn.mailbox.pop(0))


def _process_event(turn: Turn, event: ProcessEvent) -> None:
    slot = turn.slots.get(event.child)
    if slot is None or slot.incarnation != event.incarnation:
        return
    TRANSITIONS[slot.state, event_kind(event)](turn, slot, event)


def event_kind(event: ProcessEvent) -> str:
    """The column of `TRANSITIONS` an event belongs to."""
    return f"timer_{event.kind}" if isinstance(event, TimerElapsed) else type(event).__name__


def _stale(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    """Nothing to do: what the event speaks of is over."""


def _spawned(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    assert isinstance(event, Spawned)
    turn.change(event.child, pid=event.pid, last_pid=event.pid)
    turn.report("starting", event.child, pid=event.pid, extra={"for": str(slot.start_for)})


def _spawned_stopping(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    """The stop overtook the birth notice; the process is asked to stop already."""
    assert isinstance(event, Spawned)
    turn.change(event.child, pid=event.pid, last_pid=event.pid)


def _ready(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    if slot.forced is None and not slot.ignored:
        outcomes.started(turn, event.child)


def _ignored(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    turn.change(event.child, ignored=True)


def _failed_start(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    assert isinstance(event, ChildExited | SpawnFailed)
    if turn.phase is Phase.STOPPING:
        lifecycle.died_while_stopping(turn, event.child, event.exit)
        return
    if isinstance(turn.operation, Batch) and group.absorbs(turn.operation, event.child):
        group.absorb(turn, event.child, event.exit)
        return
    jitter = event.jitter if isinstance(event, ChildExited) else 0.0
    outcomes.start_ended(turn, event.child, event.exit, jitter)


def _start_timeout(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    outcomes.start_timed_out(turn, event.child)


def _death(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    """A child that was ready ended on its own: now, or when the operation in its way is over."""
    assert isinstance(event, ChildExited)
    if turn.phase is Phase.STOPPING:
        lifecycle.died_while_stopping(turn, event.child, event.exit)
    elif isinstance(turn.operation, Batch) and group.absorbs(turn.operation, event.child):
        group.absorb(turn, event.child, event.exit)
    elif _may_handle(turn):
        outcomes.died(turn, event.child, replace(event, exit=known_exit(slot, event.exit)))
    elif slot.dead is None:
        turn.change(event.child, dead=event.exit)
        turn.postpone(event)


def _may_handle(turn: Turn) -> bool:
    return turn.operation is None or (turn.independent and isinstance(turn.operation, Terminate))


def _unhealthy(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    assert isinstance(event, ChildUnhealthy)
    if slot.forced is None and slot.dead is None:
        outcomes.unhealthy(turn, event.child, event.exit)


def _stopped(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    assert isinstance(event, ChildExited | SpawnFailed)
    lifecycle.stopped(turn, event.child, event.exit)


def _stop_timeout(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    lifecycle.kill(turn, event.child)


def _retry(turn: Turn, slot: Slot, event: ProcessEvent) -> None:
    if _may_handle(turn) and turn.phase is Phase.RUNNING:
        outcomes.retry(turn, event.child)
    elif turn.phase is Phase.RUNNING:
        turn.postpone(event)


_SPAWNED, _SPAWN_FAILED, _READY = Spawned.__name__, SpawnFailed.__name__, ChildReady.__name__
_IGNORED, _EXITED, _UNHEALTHY = ChildIgnored.__name__, ChildExited.__name__, ChildUnhealthy.__name__
_START, _STOP, _RETRY = (f"timer_{kind}" for kind in TimerKind)
EVENT_KINDS = (_SPAWNED, _SPAWN_FAILED, _READY, _IGNORED, _EXITED, _UNHEALTHY, _START, _STOP, _RETRY)

_MEANINGFUL: dict[tuple[SlotState, str], Handler] = {
    (SlotState.WAITING, _RETRY): _retry,
    (SlotState.STARTING, _SPAWNED): _spawned,
    (SlotState.STARTING, _SPAWN_FAILED): _failed_start,
    (SlotState.STARTING, _READY): _ready,
    (SlotState.STARTING, _IGNORED): _ignored,
    (SlotState.STARTING, _EXITED): _failed_start,
    (SlotState.STARTING, _START): _start_timeout,
    (SlotState.RUNNING, _EXITED): _death,
    (SlotState.RUNNING, _UNHEALTHY): _unhealthy,
    (SlotState.STOPPING, _SPAWNED): _spawned_stopping,
    (SlotState.STOPPING, _SPAWN_FAILED): _stopped,
    (SlotState.STOPPING, _EXITED): _stopped,
    (SlotState.STOPPING, _STOP): _stop_timeout,
}
TRANSITIONS: dict[tuple[SlotState, str], Handler] = {
    (state, kind): _MEANINGFUL.get((state, kind), _stale) for state in SlotState for kind in EVENT_KINDS
}
"""Every state of a child against every event about its process: total, what is not named is stale."""

