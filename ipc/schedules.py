"""
When a schedule is due: `every 5m`, the five fields of cron (or six, seconds first), or a moment. Only arithmetic.

Of local times that a change of the clock skips, those at fixed hours and minutes are due right after the gap, once; of
those that come twice, the first counts. Where the hour is `*`, or the minute, each real hour counts.

Source: cronsim, which follows Debian's cron; crontab(5).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from regrow.config.units import UnitError, duration_s, duration_text
from regrow.ipc.clocks import SECOND
from regrow.ipc.errors import BadSchedule

SHORTEST = SECOND // 100
LONGEST = 36_525 * 86_400 * SECOND
"""A hundred years: what is due later is a mistake."""

MOST_MISSED = 1_000
"""How many times that were missed are made up for at most."""

TOLERANCE = 60 * SECOND
"""What comes later than this was missed; where the next one follows closely, later than a tenth of the time between."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIELDS = {
    "second": "0-59", "minute": "0-59", "hour": "0-23", "day-of-month": "1-31, L or LW", "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT",
}  # fmt: skip
_WORDS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


class Missed(StrEnum):
    """What becomes of the times at which nobody was there: the daemon was down, or the machine slept."""

    ONCE = "once"
    """Together they are one."""

    ALL = "all"
    """Each is made up for."""

    SKIP = "skip"
    """They are left out."""


class Every(Struct, frozen=True):
    """Again and again, `step` after the last time; by the time since boot."""

    step: int

    def __str__(self) -> str:
        return f"every {duration_text(self.step / SECOND)}"


class Cron(Struct, frozen=True):
    """By the wall clock of a zone; "": the machine's."""

    text: str
    zone: str

    def __str__(self) -> str:
        return self.text


class Moment(Struct, frozen=True):
    """Once, by the wall clock."""

    at: int

    def __str__(self) -> str:
        return f"at {_datetime(self.at).isoformat()}"


Rhythm: TypeAlias = Every | Cron | Moment


def parse(when: str | datetime, zone_name: str | None = None) -> Rhythm:
    """
    What somebody has written. `zone_name` is for cron texts; None: what $TZ says, else the machine's.

    Raises:
        BadSchedule.
    """
    if isinstance(when, datetime):
        return Moment(moment(when))
    if not isinstance(when, str):
        raise BadSchedule(when, "it is 'every 5m', a cron text such as '30 2 * * *', or a datetime with its zone")
    word, _, rest = when.strip().partition(" ")
    if word == "every":
        return Every(_step(when, rest.strip()))
    if word == "at":
        try:
            return Moment(moment(datetime.fromisoformat(rest.strip())))
        except ValueError as error:
            raise BadSchedule(when, error.args[-1] if isinstance(error, BadSchedule) else str(error)) from None
    return _cron(when, zone_name)


def moment(at: object) -> int:
    """
    Microseconds since the epoch.

    Raises:
        BadSchedule: it has no zone.
    """
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise BadSchedule(at, "it needs a zone: a datetime such as datetime.now(UTC), or with tzinfo=ZoneInfo(…)")
    return (at - _EPOCH) // _MICROSECOND


def _step(when: str, text: str) -> int:
    try:
        step = round(duration_s(text) * SECOND)
    except UnitError as error:
        raise BadSchedule(when, f"what follows 'every' {error}", error.hint) from None
    if step < SHORTEST:
        raise BadSchedule(when, f"the shortest is {duration_text(SHORTEST / SECOND)}")
    return step


def _cron(when: str, zone_name: str | None) -> Cron:
    from cronsim import CronSimError

    from regrow.ipc.zones import local_name, zone

    text = _WORDS.get(when.strip().lower(), " ".join(when.split()))
    fields = text.split()
    if len(fields) not in (5, 6):
        hint = "or did you mean 'every …'?" if len(fields) < 3 else ""
        raise BadSchedule(when, f"a cron text has 5 fields, or 6 with the second first, and this {len(fields)}", hint)
    try:
        name = local_name(os.environ.get("TZ")) if zone_name is None else zone_name
        zone(name)
        cron = Cron(text, name)
        if following(cron, 946_684_800 * SECOND) is None:  # what does not come in fifty years of 2000 never does
            raise BadSchedule(when, "no such day ever comes")
    except CronSimError as error:
        raise BadSchedule(when, _fault(fields, str(error))) from None
    except BadSchedule:
        raise
    except ValueError as error:
        raise BadSchedule(when, str(error)) from None
    return cron


def _fault(fields: list[str], text: str) -> str:
    """Which field is wrong."""
    name = text.removeprefix("Bad ")
    names = list(_FIELDS)[-len(fields) :]
    if name not in names:
        return text
    if name == "day-of-month" and _is_cron([*fields[:-2], "*", fields[-1]]):
        return "no such day ever comes"
    return f"its {name} is {fields[names.index(name)]!r}, and may be of {_FIELDS[name]}, with * , - and /"


def _is_cron(fields: list[str]) -> bool:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True


def following(rhythm: Rhythm, after: int) -> int | None:
    """When it is due next, later than `after`; None: never again."""
    if isinstance(rhythm, Every):
        return after + rhythm.step
    if isinstance(rhythm, Moment):
        return rhythm.at if rhythm.at > after else None
    from cronsim import CronSim

    from regrow.ipc.zones import zone

    try:
        for found in CronSim(rhythm.text, _datetime(after).astimezone(zone(rhythm.zone))):
            if (at := (found - _EPOCH) // _MICROSECOND) > after:  # in an hour that comes twice it begins with the first
                return at
    except OverflowError:  # beyond the year 9999
        pass
    return None


class Run(Struct, frozen=True):
    """What is to be done now: so many times, and when again. `more` were missed than are made up for."""

    times: int
    next: int | None
    more: bool = False


def run(rhythm: Rhythm, due: int, now: int, missed: Missed) -> Run:
    """What is to be done at `now`, when it was due at `due`, which is not later."""
    if isinstance(rhythm, Moment):
        return Run(int(missed is not Missed.SKIP or now - due <= TOLERANCE), None)
    if isinstance(rhythm, Every):
        passed = (now - due) // rhythm.step + 1
        upcoming: int | None = due + passed * rhythm.step
        newest = due + (passed - 1) * rhythm.step
    else:
        upcoming = following(rhythm, now)
        passed = _passed(rhythm, due, now) if missed is Missed.ALL else 1
        newest = _newest(rhythm, due, now)
    if missed is Missed.ALL:
        return Run(min(passed, MOST_MISSED), upcoming, passed > MOST_MISSED)
    if missed is Missed.SKIP and upcoming is not None:
        return Run(int(now - newest <= min(TOLERANCE, (upcoming - newest) // 10)), upcoming)
    return Run(1, upcoming)


def _passed(rhythm: Cron, due: int, now: int) -> int:
    """How many times were due until now; no more than one too many are counted."""
    count = 0
    at: int | None = due
    while at is not None and at <= now and count <= MOST_MISSED:
        count += 1
        at = following(rhythm, at)
    return count


def _newest(rhythm: Cron, due: int, now: int) -> int:
    """The last time that was due, or one that is more than the tolerance before it."""
    newest, at = due, following(rhythm, max(due, now - TOLERANCE - 1))
    while at is not None and at <= now:
        newest, at = at, following(rhythm, at)
    return newest


def _datetime(at: int) -> datetime:
    return _EPOCH + at * _MICROSECOND
