"""
What a run does next, decided from what is kept of it. Pure: time and ends come in as values.

A run is replayed: `run` is called anew in each process, and each call of a step is answered from what is kept, until
one is reached that is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from msgspec import Raw, Struct
from msgspec.structs import replace

from regrow.ipc.workflow_rows import NO_ARGS, NO_KWARGS, Fault, Run, Status, Step, StepState

MAX_CRASHES = 20
"""A call in whose middle the process has ended that often is taken for the reason."""

MAX_PAUSE_S = 300.0
SLEEP, RECEIVE = "sleep", "receive "
"""What waits are kept as; no step has such a name."""


class Policy(Struct, frozen=True):
    """`retries` after the first attempt: the first of them `backoff_s` later, each further one after twice as long."""

    retries: int = 0
    backoff_s: float = 1.0


class Act(NamedTuple):
    """Make an attempt."""


class Wait(NamedTuple):
    """Go on at `until`, in seconds since the epoch."""

    until: float


class Settled(NamedTuple):
    """It is over: `step` has its value, or its fault."""

    step: Step


class OtherName(NamedTuple):
    """What was called in an earlier process under this number was `kept`."""

    kept: str


def next_of(step: Step | None, name: str, now: float) -> Act | Wait | Settled | OtherName:
    """What to do about the call of `name` whose number has `step` on record, None where there is nothing."""
    if step is None:
        return Act()
    if step.name != name:
        return Act() if is_untouched(step) else OtherName(step.name)
    if step.state is not StepState.OPEN:
        return Settled(step)
    return Wait(step.due_at) if step.due_at > now else Act()


def is_untouched(step: Step) -> bool:
    """Whether nothing was ever done for it, as after `again`."""
    return step.state is StepState.OPEN and not step.began_at


def begun(step: Step | None, name: str, args: tuple[bytes, bytes], now: float) -> Step:
    """An attempt is under way."""
    fresh = Step(name, began_at=now, round=step.round if step is not None else 0)
    known = fresh if step is None or step.name != name else step
    return replace(
        known, args=Raw(args[0]), kwargs=Raw(args[1]), is_begun=True, due_at=0.0, began_at=known.began_at or now
    )


def failed(step: Step, fault: Fault, policy: Policy, now: float, *, is_final: bool = False) -> Step:
    """An attempt has come to nothing: there is another one later, unless it was the last."""
    attempts = step.attempts + 1
    if is_final or attempts > policy.retries:
        return replace(
            step, state=StepState.FAILED, attempts=attempts, is_begun=False, due_at=0.0, ended_at=now, fault=fault
        )
    due_at = now + pause_s(attempts, policy)
    return replace(step, attempts=attempts, is_begun=False, due_at=due_at, fault=fault)


def pause_s(attempts: int, policy: Policy) -> float:
    """How long to wait after so many failed attempts, at most 5 minutes or the first wait."""
    longest = max(MAX_PAUSE_S, policy.backoff_s)
    return min(policy.backoff_s * 2.0 ** min(attempts - 1, 60), longest)


def interrupted(step: Step, end: Fault | None, policy: Policy, now: float, *, is_late: bool) -> Step:
    """
    The process has ended in the middle of an attempt.

    Args:
        end: how; None where that was nobody's fault.
        is_late: because the attempt has taken too long, which counts like an exception.
    """
    if end is None:
        return replace(step, is_begun=False)
    if is_late:
        return failed(step, end, policy, now)
    crashed = replace(step, is_begun=False, crashes=step.crashes + 1, fault=end)
    if crashed.crashes < MAX_CRASHES:
        return crashed
    return replace(crashed, state=StepState.FAILED, ended_at=now)


def to_undo(steps: Mapping[int, Step], undone: Mapping[int, Step], undoable: Collection[str]) -> list[int]:
    """The numbers of the calls whose undoing is not over, in the order in which they are undone: the last first."""
    return [
        number
        for number in sorted(steps, reverse=True)
        if steps[number].state is StepState.DONE
        and steps[number].name in undoable
        and (number not in undone or undone[number].state is StepState.OPEN)
    ]


class Again(NamedTuple):
    """
    What is to be kept of a run that is tried again: of `steps` and `undone`, these numbers are replaced or (None) gone.

    `run` says where it goes on.
    """

    run: Run
    steps: dict[int, Step]
    undone: dict[int, Step | None]


def again(run: Run, steps: Mapping[int, Step], undone: Mapping[int, Step]) -> Again | None:
    """
    How a run that is over is tried again; None when there is nothing to be tried.

    What could not be undone is tried first. Otherwise it goes on at the step that has failed, and at the first step
    that was undone, if one was: what came after that had relied on it. Waits keep what they have come to.
    """
    stuck = {number: step for number, step in undone.items() if step.state is StepState.FAILED}
    if stuck and run.status in (Status.FAILED, Status.CANCELLED):
        return Again(run, {}, {number: _anew(step, step.round) for number, step in stuck.items()})
    if run.status is not Status.FAILED:
        return None
    first = min((number for number in undone if undone[number].state is StepState.DONE), default=len(steps))
    changed: dict[int, Step] = {}
    for number, step in steps.items():
        is_wait = step.name == SLEEP or step.name.startswith(RECEIVE)
        if number >= first and not is_wait:
            changed[number] = _anew(step, step.round + (number in undone))
        elif run.fault is not None and number == run.fault.number and step.state is StepState.FAILED:
            changed[number] = _anew(step, step.round)
    forward = replace(run, fault=None, unfault=None, is_cancelled=False)
    return Again(forward, changed, dict.fromkeys(undone))


def _anew(step: Step, round: int) -> Step:
    return Step(step.name, args=step.args or NO_ARGS, kwargs=step.kwargs or NO_KWARGS, round=round)


def key_of(id: str, number: int, step: Step | None, *, undo: bool) -> str:
    """
    What tells whoever is outside that two attempts are of the same call: the same for all of them, and for no other.

    A call that was undone and is made again is another one.
    """
    round = step.round if step is not None else 0
    return "/".join((id, str(number), *((str(round),) if round else ()), *(("undo",) if undo else ())))
