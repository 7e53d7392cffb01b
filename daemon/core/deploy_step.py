"""
An apply under way, as one total function: `step(state, event) -> (state, effects)`.

Wave after wave is stopped, told and started. When something new fails, or a supervisor above it ends, the plan of
before comes back by the same way, for what had been changed and nothing else; what fails then is told, and not tried
again.
"""

from __future__ import annotations

from msgspec.structs import replace

from regrow.config.diff import places
from regrow.config.spec import SupervisorSpec
from regrow.daemon.core.anew import anew
from regrow.daemon.core.deploy import (
    Abandoned,
    Answered,
    Arm,
    Begun,
    Cancelled,
    ChildFailed,
    Deploy,
    Elapsed,
    Event,
    Finish,
    Hold,
    Outcome,
    Phase,
    Result,
    RollBack,
    StartChild,
    StopChild,
    SupervisorUp,
    Tell,
    Trust,
    Wish,
)
from regrow.daemon.core.effects import Code
from regrow.daemon.core.waves import Member, Wave, waves

RECOVERY_S = 60.0
"""How long a supervisor that has been lost is waited for."""

SETTLE_S = 2.0
"""How long all that is new is watched at the end: what is ready as soon as it is started may not stay so."""

SHOWN = 3
"""More names than this are no help in a reason."""

TRIES = 3
"""How often a wave is begun again because somebody else has started what it had stopped."""


def begin(
    before: SupervisorSpec, after: SupervisorSpec, down: frozenset[str], again: frozenset[str] = frozenset()
) -> Deploy:
    """An apply that has not begun."""
    return Deploy(before, before, waves(before, after, down, again), down, again=again)


def step(state: Deploy, event: Event) -> Result:
    """Decide what `event` changes and what is to be done about it. What means nothing now changes nothing."""
    if state.phase is Phase.OVER:
        return state, ()
    match event:
        case Begun():
            return _begin_wave(state)
        case Abandoned():
            return _finish(replace(state, reason=event.text), Outcome.INTERRUPTED)
        case Wish():
            return _wished(state, event), ()
        case ChildFailed() | Cancelled():
            return _turns_back(state, event)
        case SupervisorUp():
            if state.phase is Phase.RECOVERING and state.wave.start[state.step].supervisor == event.supervisor:
                return _tell(state)  # it may have begun before it was told
        case Elapsed():
            if event.serial == state.serial:
                return _elapsed(state)
        case Answered():
            if event.serial == state.serial:
                return _answered(state, event)
    return state, ()


def _turns_back(state: Deploy, event: ChildFailed | Cancelled) -> Result:
    if state.back:
        return state, ()
    if isinstance(event, Cancelled) or event.child in state.watched:
        return _roll_back(state, event.text)
    lost = [name for name in _new(state) if event.child in places(state.now)[name].above]
    return _roll_back(state, f"{event.text}, and {_some(lost)} with it, new below it") if lost else (state, ())


def _new(state: Deploy) -> tuple[str, ...]:
    """Whose processes are new ones by now, or may be, on the way there."""
    told = state.at if state.phase is Phase.STOPPING else state.at + 1
    return tuple(dict.fromkeys(name for wave in state.waves[:told] for name in wave.fresh))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _wished(state: Deploy, wish: Wish) -> Deploy:
    """Who is stopped meanwhile is left alone like those that were down at the beginning."""
    if wish.up:
        return replace(state, down=state.down - wish.names)
    return replace(state, down=state.down | wish.names, watched=state.watched - wish.names)


def _begin_wave(state: Deploy) -> Result:
    if state.at == len(state.waves):
        if not state.back:
            return _settle(state)
        return _finish(state, Outcome.FAILED if state.failures else Outcome.ROLLED_BACK)
    state = replace(state, step=0)
    return _tell(state) if state.wave.gone else _stop_next(state)


def _settle(state: Deploy) -> Result:
    if not state.watched:
        return _trust(state) if _new(state) else _finish(state, Outcome.DONE)
    serial = state.serial + 1
    return replace(state, phase=Phase.SETTLING, serial=serial), (Arm(serial, SETTLE_S),)


def _trust(state: Deploy) -> Result:
    """Only who is not restarted any more without being told of can be trusted to be well."""
    supervisors = tuple(dict.fromkeys(member.supervisor for wave in state.waves for member in wave.start))
    found = places(state.now)
    above = ("", *dict.fromkeys(name for child in _new(state) for name in found[child].above))
    serial = state.serial + 1
    return replace(state, phase=Phase.TRUSTING, serial=serial), (Trust(serial, supervisors, state.now, above),)


def _stop_next(state: Deploy) -> Result:
    wave = state.wave
    if state.step == len(wave.stop):
        return _to_start(state) if wave.gone else _tell(state)
    serial = state.serial + 1
    stop = StopChild(serial, wave.stop[state.step], wave.gone)
    return replace(state, phase=Phase.STOPPING, serial=serial), (stop,)


def _tell(state: Deploy) -> Result:
    """What is to be gone is gone from the lists first: a supervisor that begins anew does not bring it back."""
    wave, serial = state.wave, state.serial + 1
    supervisors = tuple(dict.fromkeys(member.supervisor for member in (*wave.stop, *wave.start)))
    state = replace(state, phase=Phase.TELLING, now=wave.tree, serial=serial)
    begins = anew(wave.tree, state.base, () if state.back else _new(state), back=state.back)
    return state, (Tell(serial, wave.tree, supervisors, begins),)


def _to_start(state: Deploy) -> Result:
    watched = state.watched if state.back else state.watched | set(state.wave.fresh)
    return _start_next(replace(state, watched=watched, step=0))


def _start_next(state: Deploy) -> Result:
    wave = state.wave
    serial, step = state.serial + 1, state.step
    while step < len(wave.start) and wave.start[step].name in state.down:
        step += 1
    state = replace(state, phase=Phase.STARTING, serial=serial, step=step)
    if state.step < len(wave.start):
        return state, (StartChild(serial, wave.start[state.step], not state.back),)
    if wave.hold_s and not state.back:
        names = tuple(member.name for member in wave.start)
        return replace(state, phase=Phase.HOLDING), (Hold(names, wave.hold_s), Arm(serial, wave.hold_s))
    return _begin_wave(replace(state, at=state.at + 1, tries=0))


def _elapsed(state: Deploy) -> Result:
    if state.phase is Phase.HOLDING:
        return _begin_wave(replace(state, at=state.at + 1, tries=0))
    if state.phase is Phase.SETTLING:
        return _trust(state)
    above = state.wave.start[state.step].supervisor
    state = replace(state, lost=state.lost | {above})
    return _not_started(state, f"{above} did not come back within {RECOVERY_S:g} s")


def _answered(state: Deploy, event: Answered) -> Result:
    match state.phase:
        case Phase.STOPPING:
            return _stop_next(replace(state, step=state.step + 1))
        case Phase.TELLING:
            return _stop_next(state) if state.wave.gone else _to_start(state)
        case Phase.STARTING:
            return _start_answered(state, event)
        case Phase.TRUSTING:
            return _finish(state, Outcome.DONE)
    return state, ()


def _start_answered(state: Deploy, event: Answered) -> Result:
    member = state.wave.start[state.step]
    if member.name in state.down:
        return _start_next(replace(state, step=state.step + 1))
    match event.code:
        case None:
            return _start_next(replace(state, step=state.step + 1))
        case Code.RUNNING | Code.RESTARTING if (event.fresh and state.back) or member not in state.wave.stop:
            # Its supervisor began anew, with the plan of before; or it runs still, or somebody was faster.
            return _start_next(replace(state, step=state.step + 1))
        case Code.RUNNING | Code.RESTARTING if state.tries < TRIES:
            return _begin_wave(replace(state, tries=state.tries + 1))
        case Code.NOPROC | Code.SHUTDOWN if member.supervisor not in state.lost:
            serial = state.serial + 1
            return replace(state, phase=Phase.RECOVERING, serial=serial), (Arm(serial, RECOVERY_S),)
    return _not_started(state, event.text)


def _not_started(state: Deploy, text: str) -> Result:
    if not state.back:
        return _roll_back(state, text)
    state = replace(state, failures=(*state.failures, text))
    return _start_next(replace(state, step=state.step + 1))


def _roll_back(state: Deploy, reason: str) -> Result:
    """The same way back, from wherever it is: also what was stopped and not yet started is started as it was."""
    state = replace(
        state, waves=_way_back(state), at=0, step=0, tries=0, serial=state.serial + 1, back=True, reason=reason,
        watched=frozenset(),
    )  # fmt: skip
    state, effects = _begin_wave(state)
    return state, (RollBack(reason), *effects)


def _way_back(state: Deploy) -> tuple[Wave, ...]:
    wave = state.wave if state.at < len(state.waves) else None
    if wave is not None and wave.gone and state.phase in (Phase.TELLING, Phase.STOPPING):
        # Who was to leave is on no list, and was stopped, or was not: then it is found running.
        new = (Member("", state.now.name),) if state.now.name != state.base.name else ()
        return (Wave(state.base, new, bool(new), tuple(reversed(wave.stop))),)
    stopped = wave.stop if wave is not None else ()
    if state.phase is Phase.STOPPING:
        stopped = stopped[: state.step + 1]
    again = {member.name for member in stopped} | (state.again & state.watched)
    return waves(state.now, state.base, state.down, again)


def _finish(state: Deploy, outcome: Outcome) -> Result:
    return replace(state, phase=Phase.OVER), (Finish(outcome, state.reason, state.failures),)
