"""
What a start or an end of one child means: success, failure, restart, or nothing more.

Source: otp-rules S30-S33, S43-S48, S63-S89, S133-S140.
"""

from __future__ import annotations

from msgspec.structs import replace

from regrow.config.backoff import backoff_s
from regrow.config.spec import Escalate, Restart, WorkerSpec, signal_name
from regrow.daemon.core import group, lifecycle
from regrow.daemon.core.effects import Code, SignalKind
from regrow.daemon.core.events import ChildExited, Exit, ExitReason, TimerKind
from regrow.daemon.core.intensity import add_restart
from regrow.daemon.core.restart import ExitClass, exit_class, known_exit, wants_restart
from regrow.daemon.core.state import Batch, Slot, SlotState, StartFor
from regrow.daemon.core.strategy import restart_scope
from regrow.daemon.core.turn import Turn

KEEP_ITS_REASON = frozenset({ExitReason.EXEC_FAILED, ExitReason.EXCEPTION, ExitReason.START_TIMEOUT, ExitReason.OOM})


def started(turn: Turn, child: str) -> None:
    """The child is ready."""
    slot = turn.slots[child]
    turn.cancel_start(child)
    turn.change(child, state=SlotState.RUNNING, up_since_s=turn.now_s, request=None)
    turn.report("ready", child)
    turn.change(child, report=None)  # whatever ends it later is no consequence of its start
    turn.reply(slot.request, {"pid": slot.pid})
    lifecycle.start_concluded(turn, child)


def start_timed_out(turn: Turn, child: str) -> None:
    """The child did not become ready in time: kill it; its death will be the failure of the start."""
    slot = turn.slots[child]
    if slot.forced is None and isinstance(slot.spec, WorkerSpec):
        text = f"not ready within {slot.spec.ready.timeout_s:g} s"
        turn.change(child, forced=Exit(ExitReason.START_TIMEOUT, text=text))
        turn.signal(child, SignalKind.KILL)


def start_ended(turn: Turn, child: str, exit: Exit, jitter: float) -> None:
    """The process ended before it was ready: it was not needed, or the start failed (T4)."""
    slot = turn.slots[child]
    turn.cancel_start(child)
    ignored = slot.ignored and slot.forced is None and exit_class(exit, slot.spec) is ExitClass.NORMAL
    if ignored:
        turn.report("ignored", child)
    else:
        exit = _start_failure(slot, exit)
        turn.report("start_failed", child, exit=exit)
    match slot.start_for:
        case StartFor.INIT:
            _init_ended(turn, child, ignored, exit)
        case StartFor.REQUEST:
            _request_ended(turn, child, ignored, exit)
        case StartFor.RESTART:
            _restart_ended(turn, child, ignored, jitter)


def _start_failure(slot: Slot, exit: Exit) -> Exit:
    """The reason a failed start is known by; the kernel's code or signal stays with it."""
    if slot.forced is not None:
        return known_exit(slot, exit)
    if exit.reason in KEEP_ITS_REASON:
        return exit
    text = "; ".join(part for part in ("ended before it was ready", exit.text) if part)
    return replace(exit, reason=ExitReason.START_FAILED, text=text)


def describe(exit: Exit) -> str:
    """One exit in words, for refusals."""
    parts = [str(exit.reason)]
    if exit.code is not None:
        parts.append(f"code {exit.code}")
    elif exit.signal is not None and exit.reason is not ExitReason.START_TIMEOUT:
        parts.append(signal_name(exit.signal))
    if exit.text:
        parts.append(exit.text)
    return ", ".join(parts)


def _init_ended(turn: Turn, child: str, ignored: bool, exit: Exit) -> None:
    if ignored:
        turn.gone(child)
        lifecycle.start_concluded(turn, child)
    else:
        lifecycle.roll_back(turn, child, f"{child} could not be started: {describe(exit)}")


def _request_ended(turn: Turn, child: str, ignored: bool, exit: Exit) -> None:
    slot = turn.slots[child]
    temporary = turn.dynamic or slot.spec.restart is Restart.TEMPORARY
    keep = not temporary if ignored else not slot.added  # S31, S134, S140, S151
    if keep:
        turn.undefine(child)
    else:
        turn.forget(child)
    if ignored:
        turn.reply(slot.request, {"pid": None})
    else:
        turn.refuse(slot.request, Code.START_FAILED, f"{child} could not be started: {describe(exit)}")
    lifecycle.start_concluded(turn, child)


def _restart_ended(turn: Turn, child: str, ignored: bool, jitter: float) -> None:
    if ignored:
        turn.gone(child)  # S31, S56, S86, S87
        lifecycle.start_concluded(turn, child)
        return
    if turn.slots[child].probation:  # a sibling's end has led here: the apply is told, and nothing is tried again
        turn.undefine(child)
        lifecycle.start_concluded(turn, child)
        return
    if isinstance(turn.operation, Batch) and child in turn.operation.scope:
        turn.operation = None  # what the batch had not reached stays undefined until the retry (S82)
    delay_s = _next_delay_s(turn, child, jitter)
    _wait(turn, child, delay_s, counted=False)


def died(turn: Turn, child: str, event: ChildExited) -> None:
    """A child that had been ready ended by itself (S43-S48)."""
    slot = turn.slots[child]
    cause = turn.report("exited", child, exit=event.exit)
    if wants_restart(slot.spec.restart, exit_class(event.exit, slot.spec)):
        if slot.probation:
            turn.undefine(child)
            return
        _forgive(turn, child)
        turn.change(child, dead=None, forced=None, pid=None)
        if _count(turn, child, cause):
            _begin_restart(turn, child, _next_delay_s(turn, child, event.jitter))
        return
    turn.gone(child)
    if slot.spec.significant:
        lifecycle.significant_ended(turn, child, cause)


def unhealthy(turn: Turn, child: str, exit: Exit) -> None:
    """The process must not go on; its death will be handled under this reason."""
    turn.change(child, forced=exit)
    turn.report("unhealthy", child, exit=exit)
    turn.signal(child, SignalKind.KILL)


def retry(turn: Turn, child: str) -> None:
    """A restart that had been put off is due; that of a failed start is counted only now (S71, S77, S83)."""
    slot = turn.slots[child]
    if not slot.counted:
        if _count(turn, child, slot.report):
            _begin_restart(turn, child, 0.0)
    elif turn.independent:
        turn.spawn(child, StartFor.RESTART)
    else:
        group.begin(turn, child, slot.report, 0.0)


def _count(turn: Turn, child: str, cause: int | None) -> bool:
    """Charge one restart; False when that was one too many and the supervisor is giving up (S63-S73)."""
    spec = turn.spec
    turn.restarts_s, ok = add_restart(turn.restarts_s, turn.now_s, spec.intensity, spec.period_s)
    if ok or spec.escalate is Escalate.NEVER:
        return True
    turn.undefine(child)
    lifecycle.give_up(turn, child, cause)
    return False


def _begin_restart(turn: Turn, child: str, delay_s: float) -> None:
    spec = turn.spec
    extra: dict[str, object] = {
        "strategy": str(spec.strategy),
        "used": len(turn.restarts_s),
        "intensity": spec.intensity,
        "period_s": spec.period_s,
        "delay_s": round(delay_s, 6),
    }
    if not turn.independent:
        extra["scope"] = restart_scope(spec.strategy, turn.order, child)
    cause = turn.report("restarting", child, extra=extra)
    if not turn.independent:
        group.begin(turn, child, cause, delay_s)
    elif delay_s > 0:
        _wait(turn, child, delay_s, counted=True)
    else:
        turn.spawn(child, StartFor.RESTART)


def _wait(turn: Turn, child: str, delay_s: float, *, counted: bool) -> None:
    turn.change(
        child, state=SlotState.WAITING, pid=None, forced=None, counted=counted, waits_until_s=turn.now_s + delay_s
    )
    if delay_s > 0:
        turn.report("waiting", child, extra={"delay_s": round(delay_s, 6)})
    turn.arm(TimerKind.RETRY, child, delay_s)


def _forgive(turn: Turn, child: str) -> None:
    """Begin the backoff anew after a time without failures."""
    policy = turn.spec.backoff
    if policy is None:
        return
    up_since_s = turn.slots[child].up_since_s if turn.independent else turn.up_since_s
    if up_since_s is not None and turn.now_s - up_since_s >= policy.reset_s:
        turn.failures = 0
        turn.change(child, failures=0)


def _next_delay_s(turn: Turn, child: str, jitter: float) -> float:
    """The delay for one more failure in a row: the child's own, or the group's."""
    policy = turn.spec.backoff
    if policy is None:
        return 0.0
    if turn.independent:
        failures = turn.change(child, failures=turn.slots[child].failures + 1).failures
    else:
        turn.failures += 1
        failures = turn.failures
    return backoff_s(failures, policy, jitter)
