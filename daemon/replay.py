"""
Take recorded decisions again: the same `step`, the same events, and a readable line for each decision.

What is damaged is named with its line and passed over; a record that begins in the middle is taken up at its
first snapshot. Records of several supervisors may be mixed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import msgspec

from regrow.daemon.core.effects import Effect, End, Forget, Ready, Refuse, Reply, Report, Signal, Spawn
from regrow.daemon.core.events import ChildExited, Event, Request, SpawnFailed, StopRequested, TimerElapsed
from regrow.daemon.core.outcomes import describe
from regrow.daemon.core.state import SupervisorState
from regrow.daemon.core.supervisor import ProcessEvent, step
from regrow.daemon.record import Snapshot, Step, digest

_decode = msgspec.json.Decoder(Step | Snapshot).decode

IMPOSSIBLE = (LookupError, AssertionError, ArithmeticError, TypeError, ValueError)
"""What `step` may raise on a state that no supervisor was ever in."""


def replay(path: str | Path) -> Generator[str, None, int]:
    """
    Re-run a record and yield a line for each decision, then one that sums up.

    A decision that comes out differently is named, with its line; the supervisor concerned is taken up again
    at its next snapshot.

    Returns:
        The exit status: 1 when a decision differs, or there was none to take again.

    Raises:
        OSError: the record cannot be read.
    """
    with open(path, "rb") as lines:
        replayed = Replay()
        yield from replayed.lines(lines)
    return 0 if replayed.steps and replayed.first_difference is None else 1


class Replay:
    """A replay under way: the state of each supervisor met so far."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}
        self._start_s: float | None = None
        self._damaged = 0
        self.first_difference: int | None = None

    def lines(self, record: Iterable[bytes]) -> Iterator[str]:
        for number, line in enumerate(record, 1):
            for text in self._line(line):
                yield f"line {number}: {text[2:]}" if text.startswith("! ") else text
            if self.first_difference == 0:
                self.first_difference = number
        yield self._summary()

    def _line(self, line: bytes) -> Iterator[str]:
        try:
            record = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            self._damaged += 1
            what = "not a record" if line.endswith(b"\n") else "cut off"
            yield f"! {what}, passed over ({problem})"
            return
        track = self._tracks.setdefault(record.supervisor, _Track(record.supervisor))
        if isinstance(record, Snapshot):
            yield from track.snapshot(record)
        else:
            if self._start_s is None:
                self._start_s = record.now_s
            yield from track.step(record, record.now_s - self._start_s)
        if track.differs and self.first_difference is None:
            self.first_difference = 0  # the caller knows the line

    @property
    def steps(self) -> int:
        """How many decisions were taken again."""
        return sum(track.replayed for track in self._tracks.values())

    def _summary(self) -> str:
        skipped = sum(track.skipped for track in self._tracks.values())
        parts = [f"{self.steps} steps of {len(self._tracks)} supervisors replayed"]
        if skipped:
            parts.append(f"{skipped} skipped for want of a snapshot")
        if self._damaged:
            parts.append(f"{self._damaged} damaged lines passed over")
        if self.first_difference is None:
            parts.append("no decision differs" if self.steps else "it is no record of decisions, or an empty one")
        else:
            parts.append(f"the first difference is at line {self.first_difference}")
        return "; ".join(parts)


class _Track:
    """One supervisor's record. `state` is None until a snapshot tells it."""

    def __init__(self, supervisor: str) -> None:
        self.supervisor = supervisor
        self.state: SupervisorState | None = None
        self.n = 0  # the step that should come next
        self.replayed = 0
        self.skipped = 0
        self.differs = False

    def snapshot(self, record: Snapshot) -> Iterator[str]:
        if self.state is not None and record.n == self.n and record.state != self.state:
            self.differs = True
            yield f"! {self.supervisor}: the state recorded before step {record.n} is not the one its steps lead to"
        elif self.state is None and record.n > 1:
            yield f"! {self.supervisor}: taken up at its snapshot before step {record.n}"
        elif self.state is not None and 1 < record.n != self.n:
            yield f"! {self.supervisor}: steps {self.n} to {record.n - 1} are missing"
        self.state = record.state
        self.n = record.n

    def step(self, record: Step, at_s: float) -> Iterator[str]:
        if self.state is not None and record.n != self.n:
            yield f"! {self.supervisor}: steps {self.n} to {record.n - 1} are missing, waiting for a snapshot"
            self.state = None
        if self.state is None:
            self.skipped += 1
            return
        self.n += 1
        self.replayed += 1
        try:
            after, effects = step(self.state, record.event, record.now_s)
        except IMPOSSIBLE as problem:
            yield self._difference(record, f"it is impossible now ({type(problem).__name__}: {problem})")
            return
        decided = "; ".join(describe_effects(effects))
        if digest(effects) != record.effects_digest:
            yield self._difference(record, f"decided now: {decided or 'nothing'}")
            return
        self.state = after
        if decided:
            yield f"{at_s:.3f}s {self.supervisor}: {describe_event(record.event)} → {decided}"

    def _difference(self, record: Step, text: str) -> str:
        self.state = None
        self.differs = True
        return f"! {self.supervisor}: step {record.n} ({describe_event(record.event)}) was decided differently; {text}"


def describe_event(event: Event) -> str:
    """One event in a few words."""
    match event:
        case ChildExited() | SpawnFailed():
            return f"exited {event.child} ({describe(event.exit)})"
        case TimerElapsed():
            return f"{event.kind} timer of {event.child}"
        case StopRequested():
            return "stop requested" + (", now" if event.now else "")
        case _ if isinstance(event, ProcessEvent):
            return f"{_words(event)} {event.child}"
        case _ if isinstance(event, Request):
            child = getattr(event, "child", "") or getattr(getattr(event, "spec", None), "name", "")
            return f"{_words(event)} {child}".rstrip()
        case _:
            return _words(event)


def _words(event: Event) -> str:
    """ChildReady -> child ready."""
    name = type(event).__name__
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def describe_effects(effects: tuple[Effect, ...]) -> list[str]:
    """What was decided, without what follows from it by itself (timers, births)."""
    return [text for effect in effects if (text := _describe_effect(effect))]


def _describe_effect(effect: Effect) -> str:
    match effect:
        case Report():
            return _describe_report(effect)
        case Spawn():
            return f"spawn {effect.child} #{effect.incarnation}"
        case Signal():
            return f"{effect.kind} signal to {effect.child} #{effect.incarnation}"
        case Reply():
            return f"answer {effect.request}"
        case Refuse():
            return f"refuse {effect.request} ({effect.code})"
        case Forget():
            return f"forget {effect.child}"
        case Ready():
            return "ready"
        case End():
            return f"end ({effect.outcome})"
        case _:
            return ""


def _describe_report(report: Report) -> str:
    extra = report.extra
    child = f" {report.child}" if report.child else ""
    match report.event:
        case "restarting":
            return f"restarting{child} ({extra['used']} of {extra['intensity']} in {extra['period_s']:g} s)"
        case "waiting":
            return f"waiting {extra['delay_s']:g} s for{child}"
        case "gave_up":
            return f"giving up ({extra['text']})"
        case "auto_shutdown":
            return f"shutting down ({extra['text']})"
        case "stopping" if not report.child:
            return f"stopping everything ({extra['outcome']})"
        case "starting" | "exited" | "stopping" | "ready":
            return ""  # said by the event, or by the effect beside it
        case event:
            return f"{event}{child}"
