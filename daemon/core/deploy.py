"""
An apply under way, as one total function: `step(state, event) -> (state, effects)`.

Wave after wave is stopped, told and started. When something new fails, or a supervisor above it ends, the plan of
before comes back by the same way, for what had been changed and nothing else; what fails then is told, and not tried
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.diff import places
from regrow.config.spec import SupervisorSpec
from regrow.daemon.core.anew import anew
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


class Phase(StrEnum):
    STOPPING = "stopping"  # one child after the other
    TELLING = "telling"  # the supervisors get their new specs
    STARTING = "starting"  # one child after the other
    RECOVERING = "recovering"  # a supervisor has been lost, and is awaited
    HOLDING = "holding"  # what is new is watched
    SETTLING = "settling"  # all is done, and watched for a moment
    TRUSTING = "trusting"  # the supervisors may restart what is new
    OVER = "over"


class Outcome(StrEnum):
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"  # it was to be rolled back, and some of what was before could not be started either
    INTERRUPTED = "interrupted"  # the daemon is ending


class Deploy(Struct, frozen=True):
    """
    `base` is what held before, `now` what supervisors were told last. `at` counts waves, `step` the children of one.

    `down` have no process and get none, `again` are restarted although their specs are the same. `watched` are new, and
    if one of them fails, all that was changed is `back` on its way. `serial` is the number of the newest request:
    an answer to another one is late. `lost` are supervisors that did not come back in time: once is enough.
    """

    base: SupervisorSpec
    now: SupervisorSpec
    waves: tuple[Wave, ...]
    down: frozenset[str] = frozenset()
    phase: Phase = Phase.STOPPING
    at: int = 0
    step: int = 0
    serial: int = 0
    tries: int = 0
    watched: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    back: bool = False
    reason: str = ""
    failures: tuple[str, ...] = ()

    @property
    def wave(self) -> Wave:
        return self.waves[self.at]


class Begun(Struct, frozen=True):
    """It may begin."""


class Answered(Struct, frozen=True):
    """
    What became of request `serial`. `fresh`: what it is about was started by its supervisor since it was told the
    present tree, whoever asked for that.
    """

    serial: int
    code: Code | None = None
    text: str = ""
    fresh: bool = False


class ChildFailed(Struct, frozen=True):
    """A child has ended by itself, could not be started, or is unhealthy."""

    child: str
    text: str


class SupervisorUp(Struct, frozen=True):
    supervisor: str


class Elapsed(Struct, frozen=True):
    serial: int


class Abandoned(Struct, frozen=True):
    """The daemon is ending."""

    text: str


class Cancelled(Struct, frozen=True):
    """An operator wants the plan of before."""

    text: str


class Wish(Struct, frozen=True):
    """Somebody else has asked for these to be stopped, or to be started again."""

    names: frozenset[str]
    up: bool


Event: TypeAlias = Begun | Answered | ChildFailed | SupervisorUp | Elapsed | Wish | Cancelled | Abandoned


class StopChild(Struct, frozen=True):
    """Stop it, and forget its spec where `gone`; where there is nothing to stop, that is an answer too."""

    serial: int
    member: Member
    gone: bool


class Tell(Struct, frozen=True):
    """
    Give all supervisors what `tree` has for them, in any case those named. `anew`: with what those below them begin
    that have to begin anew, where that is not what `tree` says.
    """

    serial: int
    tree: SupervisorSpec
    supervisors: tuple[str, ...]
    anew: Mapping[str, SupervisorSpec]


class StartChild(Struct, frozen=True):
    """Start it; answered when it is ready. `probation`: its end is waited for here, and is no restart."""

    serial: int
    member: Member
    probation: bool


class Trust(Struct, frozen=True):
    """End the probation of all children of these; those `above`, too, may begin anew with what `tree` has for them."""

    serial: int
    supervisors: tuple[str, ...]
    tree: SupervisorSpec
    above: tuple[str, ...]


class Arm(Struct, frozen=True):
    serial: int
    after_s: float


class Hold(Struct, frozen=True):
    """Worth an event: these are watched now."""

    names: tuple[str, ...]
    hold_s: float


class RollBack(Struct, frozen=True):
    """Worth an event: the plan of before is coming back."""

    reason: str


class Finish(Struct, frozen=True):
    """It is over; `failures` are what could not be brought back."""

    outcome: Outcome
    reason: str
    failures: tuple[str, ...]


Effect: TypeAlias = StopChild | Tell | StartChild | Trust | Arm | Hold | RollBack | Finish
Result: TypeAlias = tuple[Deploy, tuple[Effect, ...]]


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


def progress(state: Deploy) -> str:
    """How far it is, in words."""
    if state.phase is Phase.OVER or state.at >= len(state.waves):
        return "watching what is new"
    wave = state.wave
    done = f"{state.at} of {len(state.waves)} steps {'back ' if state.back else ''}done"
    members = wave.stop if state.phase is Phase.STOPPING else wave.start
    if state.phase is Phase.HOLDING:
        return f"{done}, watching {', '.join(member.name for member in members)}"
    if state.phase is Phase.RECOVERING:
        return f"{done}, waiting for {members[state.step].supervisor}"
    if state.phase is Phase.TELLING or state.step >= len(members):
        return f"{done}, telling the supervisors"
    return f"{done}, {state.phase} {members[state.step].name}"


def names_in(state: Deploy) -> frozenset[str]:
    """Every name that the way leads to, or comes from: nobody else's meanwhile."""
    trees = (state.base, *(wave.tree for wave in state.waves))
    return frozenset(name for tree in trees for name in places(tree))
