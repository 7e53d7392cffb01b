"""
An apply under way: its state, what can happen to it, and what it has done. `deploy_step` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from regrow.config.diff import places
from regrow.config.spec import SupervisorSpec
from regrow.daemon.core.effects import Code
from regrow.daemon.core.waves import Member, Wave


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
