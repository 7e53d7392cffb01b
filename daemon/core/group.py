"""
Batch restarts: one execution of one_for_all or rest_for_one.

Everything in the scope is stopped in reverse start order, each child dead before the next is asked; after
the group's delay the scope is started in order. Deaths inside the scope meanwhile belong to the batch.

Source: otp-rules S52-S59, S80-S85; the group's delay is regrow's own.
"""

from __future__ import annotations

from msgspec.structs import replace

from regrow.config.spec import Restart
from regrow.daemon.core.effects import Code
from regrow.daemon.core.events import Exit, TimerKind
from regrow.daemon.core.restart import known_exit
from regrow.daemon.core.state import Batch, SlotState, StartFor
from regrow.daemon.core.strategy import restart_scope
from regrow.daemon.core.turn import HOLDS_PROCESS, Turn


def begin(turn: Turn, pivot: str, cause: int | None, delay_s: float) -> None:
    """
    Begin a batch around `pivot`, which has no process any more.

    A restart of the group that is being waited for already is joined: its deadline stays, and the
    earlier child becomes the pivot.
    """
    scope = restart_scope(turn.spec.strategy, turn.order, pivot)
    for child in scope:
        slot = turn.slots[child]
        if slot.state is SlotState.WAITING:
            if child != pivot and slot.counted:
                delay_s = max(0.0, slot.waits_until_s - turn.now_s)
            turn.undefine(child)
    turn.change(pivot, state=SlotState.WAITING, counted=True, waits_until_s=turn.now_s)
    turn.up_since_s = None
    turn.operation = Batch(pivot=pivot, scope=scope, cause=cause, delay_s=delay_s)
    advance(turn)


def absorbs(batch: Batch, child: str) -> bool:
    """Whether a death of `child` now is the batch's own business (S59)."""
    return batch.stopping and child in batch.scope


def absorb(turn: Turn, child: str, exit: Exit) -> None:
    """A sibling died by itself before the batch came to stop it."""
    batch = turn.operation
    assert isinstance(batch, Batch)
    slot = turn.slots[child]
    turn.cancel_start(child)
    turn.refuse(slot.request, Code.START_FAILED, f"{child} ended before it was ready")
    turn.report("exited", child, cause=batch.cause, exit=known_exit(slot, exit))
    dropped(turn, child)


def dropped(turn: Turn, child: str) -> None:
    """A bystander is down; a temporary one is gone for good (S54)."""
    if turn.slots[child].spec.restart is Restart.TEMPORARY:
        turn.forget(child)
    else:
        turn.undefine(child)


def advance(turn: Turn) -> None:
    """Do the next thing the batch needs, if it need not wait for one under way."""
    batch = turn.operation
    assert isinstance(batch, Batch)
    if batch.stopping and not _stop_next(turn, batch):
        return
    batch = turn.operation
    if isinstance(batch, Batch):
        _start_next(turn, batch)


def _stop_next(turn: Turn, batch: Batch) -> bool:
    """True when the whole scope is down and may be started now."""
    for child in reversed(batch.scope):
        slot = turn.slots.get(child)
        if slot is None or slot.state not in HOLDS_PROCESS:
            continue
        if slot.dead is not None:
            absorb(turn, child, slot.dead)
            continue
        if slot.state is not SlotState.STOPPING:
            turn.begin_stop(child, batch.cause)
        return False
    if batch.delay_s > 0:
        _wait(turn, batch)
        return False
    turn.change(batch.pivot, state=SlotState.UNDEFINED, counted=False)  # like all that a failing start leaves (S82)
    pending = tuple(child for child in batch.scope if child in turn.slots)
    turn.operation = replace(batch, stopping=False, pending=pending)
    return True


def _wait(turn: Turn, batch: Batch) -> None:
    """The whole scope is down; the pivot waits for all of it, and requests are served meanwhile."""
    turn.change(batch.pivot, waits_until_s=turn.now_s + batch.delay_s)
    turn.report("waiting", batch.pivot, cause=batch.cause, extra={"delay_s": round(batch.delay_s, 6)})
    turn.arm(TimerKind.RETRY, batch.pivot, batch.delay_s)
    turn.operation = None


def _start_next(turn: Turn, batch: Batch) -> None:
    if not batch.pending:
        turn.operation = None
        turn.up_since_s = turn.now_s
        return
    child, *rest = batch.pending
    turn.operation = replace(batch, pending=tuple(rest))
    turn.change(child, report=batch.cause)
    turn.spawn(child, StartFor.RESTART)
