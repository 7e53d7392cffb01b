"""
What a supervisor and its parent say to each other: reports and answers go up, to the root; requests come down from it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from regrow.config.spec import Kind
from regrow.daemon.core.effects import Code, Outcome, Report
from regrow.daemon.core.events import Event
from regrow.daemon.core.state import SlotState


class ReadyUp(Struct, frozen=True, tag=True):
    """The supervisor's children have all started."""


class ReportUp(Struct, frozen=True, tag=True):
    """A report of `supervisor` (process `pid`), on its way to the root. `mono_s` is when it was made."""

    supervisor: str
    pid: int
    mono_s: float
    report: Report


class BatchUp(Struct, frozen=True, tag=True):
    """Reports in order, in one message: one packet and one wake-up for all that one event led to."""

    reports: tuple[ReportUp, ...]


class ReplyUp(Struct, frozen=True, tag=True):
    request: int
    ok: Any = None
    code: Code | None = None
    message: str = ""
    pid: int | None = None


class NumbersUp(Struct, frozen=True, tag=True):
    """Names and incarnations that are about to be made."""

    numbers: tuple[tuple[str, int], ...]


class DetailUp(Struct, frozen=True, tag=True):
    """What a child says of itself (STATUS=), or what its supervisor waits for."""

    child: str
    incarnation: int
    text: str


class NoteUp(Struct, frozen=True, tag=True):
    """Something to add to the story of a supervisor, outside its decisions: faults, strays."""

    supervisor: str
    event: str
    child: str
    incarnation: int
    text: str


class ForgottenUp(Struct, frozen=True, tag=True):
    """The child's spec is gone."""

    supervisor: str
    child: str


class LastWordUp(Struct, frozen=True, tag=True):
    """How the supervisor ended, said before its exit status can (T1)."""

    outcome: Outcome
    text: str


class ChildNow(Struct, frozen=True):
    """One child as its supervisor sees it now."""

    name: str
    kind: Kind
    state: SlotState
    incarnation: int
    pid: int | None
    restarts: int


class SnapshotUp(Struct, frozen=True, tag=True):
    """All children of a supervisor, in start order: reports about them were lost on the way."""

    supervisor: str
    children: tuple[ChildNow, ...]


class StandbyUp(Struct, frozen=True, tag=True):
    """The spares of a group that stand by, and why there are fewer than there should be, where that is known."""

    supervisor: str
    group: str
    pids: tuple[int, ...]
    failure: str = ""


Up: TypeAlias = (
    ReadyUp | BatchUp | ReplyUp | NumbersUp | DetailUp | NoteUp | ForgottenUp | LastWordUp | SnapshotUp | StandbyUp
)


class RequestDown(Struct, frozen=True, tag=True):
    """An event for the supervisor at the end of `route` (names of supervisors below the receiver)."""

    route: tuple[str, ...]
    event: Event


class MatchedDown(Struct, frozen=True, tag=True):
    """A line that a child was awaited to print has been printed."""

    route: tuple[str, ...]
    child: str
    incarnation: int


class ReexecDown(Struct, frozen=True, tag=True):
    """
    The supervisor at the end of `route` is to exec itself in place with this `program` (an argv), and then answer.

    Without a program it is to answer with what it would carry through the exec, and do nothing.
    """

    route: tuple[str, ...]
    request: int
    program: tuple[str, ...] = ()


class AdmitDown(Struct, frozen=True, tag=True):
    """Who may talk to the agents that are started from now on, for every supervisor (see `Context.mailbox`)."""

    mailbox: str


class SocketDown(Struct, frozen=True, tag=True):
    """
    For every supervisor: from now on `fd` is the listening socket `name`; -1: there is no such socket any more.

    The descriptor travels with the message, and is the receiver's own; `LOST` where it could not be received.
    """

    name: str
    fd: int = -1


LOST = -2


class TellDown(Struct, frozen=True, tag=True):
    """For every supervisor below: what it has reported may be lost, a `SnapshotUp` is wanted."""


Down: TypeAlias = RequestDown | MatchedDown | ReexecDown | AdmitDown | SocketDown | TellDown
