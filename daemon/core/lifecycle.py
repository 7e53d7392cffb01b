"""
A supervisor's own life: starting its list, and its end, whatever brought it about.

Source: otp-rules S26-S36, S73, S90-S105, S117-S127.
"""

from __future__ import annotations

from msgspec.structs import replace

from regrow.config.spec import AutoShutdown, Start
from regrow.daemon.core import group
from regrow.daemon.core.effects import Code, End, Outcome, Ready, SignalKind
from regrow.daemon.core.events import Exit, ExitReason, Request, StopRequested, TimerKind
from regrow.daemon.core.restart import known_exit
from regrow.daemon.core.state import (
    Batch,
    Init,
    Phase,
    SlotState,
    StartFor,
    Starting,
    StopAll,
    Terminate,
)
from regrow.daemon.core.turn import HOLDS_PROCESS, Turn


def begin(turn: Turn) -> None:
    """Start the static list: one after the other (S27), or all at once when the supervisor says so."""
    turn.phase = Phase.STARTING
    if turn.spec.start is Start.PARALLEL:
        turn.operation = Init((), starting=len(turn.order))
        for child in turn.order:
            turn.spawn(child, StartFor.INIT)
    else:
        turn.operation = Init(turn.order)
    _init_advance(turn)


def start_concluded(turn: Turn, child: str) -> None:
    """
    The start of `child` ended one way or the other; go on with what it was part of.

    After a reload that made a group of independent children it may be part of nothing.
    """
    match turn.operation:
        case Init(pending=pending, starting=starting):
            turn.operation = Init(pending, starting - 1)
            _init_advance(turn)
        case Batch(scope=scope) if child in scope:
            group.advance(turn)
        case Starting(child=awaited) if child == awaited:
            turn.operation = None


def _init_advance(turn: Turn) -> None:
    operation = turn.operation
    assert isinstance(operation, Init)
    if operation.starting:
        return
    if operation.pending:
        child, *rest = operation.pending
        turn.operation = Init(tuple(rest), starting=1)
        turn.spawn(child, StartFor.INIT)
        return
    turn.operation = None
    turn.phase = Phase.RUNNING
    turn.up_since_s = turn.now_s
    turn.effects.append(Ready())


def roll_back(turn: Turn, child: str, text: str) -> None:
    """A child could not be started at first start: the whole supervisor fails (S32, S33)."""
    cause = turn.slots[child].report
    turn.undefine(child)
    _begin_end(turn, Outcome.START_FAILED, text, cause)


def give_up(turn: Turn, child: str, cause: int | None) -> None:
    """Intensity exceeded (S73)."""
    spec = turn.spec
    text = f"more than {spec.intensity} restarts within {spec.period_s:g} s, the last for {child}"
    extra = {"child": child, "intensity": spec.intensity, "period_s": spec.period_s, "text": text}
    number = turn.report("gave_up", cause=cause, extra=extra)
    _begin_end(turn, Outcome.GAVE_UP, text, number)


def significant_ended(turn: Turn, child: str, cause: int) -> None:
    """A significant child ended by itself and stays down: perhaps that ends the supervisor (S117-S124)."""
    rule = turn.spec.auto_shutdown
    if rule is AutoShutdown.NEVER or turn.phase is not Phase.RUNNING:
        return
    if rule is AutoShutdown.ALL_SIGNIFICANT and any(
        slot.spec.significant and slot.state is not SlotState.UNDEFINED for slot in turn.slots.values()
    ):
        return
    text = f"{child} ended and is significant ({rule})"
    number = turn.report("auto_shutdown", cause=cause, extra={"child": child, "text": text})
    _begin_end(turn, Outcome.AUTO_SHUTDOWN, text, number)


def stop_requested(turn: Turn, event: StopRequested) -> None:
    """The parent wants the supervisor gone; overtakes whatever it is doing (S65, S77)."""
    operation = turn.operation
    if turn.phase is Phase.ENDED:
        return
    if not isinstance(operation, StopAll):
        _begin_end(turn, Outcome.STOPPED, event.text, None, now=event.now)
    elif event.now and not operation.now:
        turn.operation = replace(operation, now=True)
        for child in reversed(turn.order):
            if turn.slots[child].state is SlotState.STOPPING:
                turn.signal(child, SignalKind.KILL)
        _end_advance(turn)


def _begin_end(turn: Turn, outcome: Outcome, text: str, cause: int | None, *, now: bool = False) -> None:
    _refuse_waiting(turn)
    turn.phase = Phase.STOPPING
    cause = turn.report("stopping", cause=cause, extra={"outcome": str(outcome), "text": text})
    for child in turn.order:
        slot = turn.slots[child]
        if slot.dead is not None:
            turn.report("exited", child, cause=cause, exit=known_exit(slot, slot.dead))
        if slot.dead is not None or slot.state is SlotState.WAITING:
            turn.undefine(child)
    left = sum(slot.state in HOLDS_PROCESS for slot in turn.slots.values())
    turn.operation = StopAll(outcome, text, cause, now, left)
    _end_advance(turn)


def _refuse_waiting(turn: Turn) -> None:
    """Whoever waits for an answer gets one: the supervisor is ending (S110)."""
    requests = [event.request for event in turn.mailbox if isinstance(event, Request)]
    turn.mailbox.clear()
    if isinstance(turn.operation, Terminate):
        requests.append(turn.operation.request)
    for child, slot in list(turn.slots.items()):
        if slot.request is not None:
            requests.append(slot.request)
            turn.change(child, request=None)
    for request in requests:
        turn.refuse(request, Code.SHUTDOWN, f"{turn.spec.name} is shutting down")


def _end_advance(turn: Turn) -> None:
    """Stop the next child, or all of them where nothing orders them; end when none is left (S90, S91)."""
    operation = turn.operation
    assert isinstance(operation, StopAll)
    if not operation.left:
        turn.phase = Phase.ENDED
        turn.operation = None
        turn.report("stopped", cause=operation.cause, extra={"outcome": str(operation.outcome)})
        turn.effects.append(End(operation.outcome, operation.text))
        return
    for child in reversed(turn.order):
        slot = turn.slots[child]
        if slot.state not in HOLDS_PROCESS:
            continue
        if slot.state is not SlotState.STOPPING:
            turn.begin_stop(child, operation.cause, now=operation.now)
        if not _at_once(turn, operation):
            break


def _at_once(turn: Turn, operation: StopAll) -> bool:
    return operation.now or turn.dynamic or turn.spec.start is Start.PARALLEL


def _one_less(turn: Turn) -> None:
    """A process is gone; where all have been asked already, only the last one changes anything."""
    operation = turn.operation
    assert isinstance(operation, StopAll)
    operation = turn.operation = replace(operation, left=operation.left - 1)
    if not operation.left or not _at_once(turn, operation):
        _end_advance(turn)


def died_while_stopping(turn: Turn, child: str, exit: Exit) -> None:
    """A child ended by itself before its turn to be stopped came (S100)."""
    operation = turn.operation
    assert isinstance(operation, StopAll)
    slot = turn.slots[child]
    turn.cancel_start(child)
    turn.report("exited", child, cause=operation.cause, exit=known_exit(slot, exit))
    turn.undefine(child)
    _one_less(turn)


def stopped(turn: Turn, child: str, exit: Exit) -> None:
    """A child that was being stopped is gone; how it ended changes nothing (S97)."""
    turn.cancel(TimerKind.STOP, child)
    turn.report("stopped", child, exit=replace(exit, reason=ExitReason.STOPPED))
    match turn.operation:
        case StopAll():
            turn.undefine(child)
            _one_less(turn)
        case Batch():
            group.dropped(turn, child)
            group.advance(turn)
        case Terminate(request=request):
            turn.gone(child)
            turn.operation = None
            turn.reply(request, {})
        case _:
            turn.gone(child)


def kill(turn: Turn, child: str) -> None:
    """The stop signal did not work in time (S92)."""
    turn.report("killing", child)
    turn.signal(child, SignalKind.KILL)
