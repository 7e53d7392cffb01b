"""When schedules are due: tables, and what holds for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.ipc.clocks import SECOND
from regrow.ipc.errors import BadSchedule
from regrow.ipc.schedules import LONGEST, MOST_MISSED, Cron, Every, Missed, Moment, Run, following, moment, parse, run
from regrow.ipc.zones import local_name, zone

DAY = 86_400 * SECOND
BERLIN = "Europe/Berlin"


def us(text: str) -> int:
    """A time in microseconds since the epoch."""
    return moment(datetime.fromisoformat(text))


def local(at: int, name: str) -> str:
    """A time as the clocks of a zone show it."""
    return datetime.fromtimestamp(at / SECOND, ZoneInfo(name)).isoformat()


def upcoming(cron: str, after: str, count: int, name: str = BERLIN) -> list[str]:
    """The next times."""
    found, at = [], us(after)
    for _ in range(count):
        due = following(parse(cron, name), at)
        assert due is not None
        found.append(local(due, name))
        at = due
    return found


@pytest.mark.parametrize(
    ("when", "rhythm"),
    [
        ("every 5m", Every(300 * SECOND)),
        ("every 300s", Every(300 * SECOND)),
        (" every  1.5h ", Every(5400 * SECOND)),
        ("every 250ms", Every(SECOND // 4)),
        ("*/5 * * * *", Cron("*/5 * * * *", "UTC")),
        ("  0  12 * *   MON-FRI ", Cron("0 12 * * MON-FRI", "UTC")),
        ("30 0 0 1 1 *", Cron("30 0 0 1 1 *", "UTC")),
        ("@daily", Cron("0 0 * * *", "UTC")),
        ("0 0 29 2 *", Cron("0 0 29 2 *", "UTC")),
        ("0 0 L * *", Cron("0 0 L * *", "UTC")),
        (datetime(2026, 1, 1, tzinfo=UTC), Moment(us("2026-01-01T00:00:00+00:00"))),
        ("at 2026-01-01T02:00:00+02:00", Moment(us("2026-01-01T00:00:00+00:00"))),
    ],
)
def test_what_is_understood(when: str | datetime, rhythm: object) -> None:
    """Each is read as what it means, and what is written of it is read again as the same."""
    found = parse(when, "UTC")
    assert found == rhythm
    assert parse(str(found), "UTC") == rhythm


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("", "5 fields"),
        ("often", "did you mean 'every …'?"),
        ("5m", "did you mean 'every …'?"),
        ("every", "a time such as"),
        ("every 5", "with its unit"),
        ("every 5 minutes", 'did you mean "5m"?'),
        ("every 0s", "the shortest is 10ms"),
        ("every -5m", "a time such as"),
        ("every 99999d", "too much"),
        ("61 * * * *", "its minute is '61', and may be of 0-59"),
        ("* 24 * * *", "its hour is '24'"),
        ("* * 0 * *", "its day-of-month is '0'"),
        ("* * * 13 *", "its month is '13'"),
        ("* * * * 8", "its day-of-week is '8'"),
        ("60 * * * * *", "its second is '60'"),
        ("*/0 * * * *", "its minute is '*/0'"),
        ("5-1 * * * *", "its minute is '5-1'"),
        ("a b c d e", "its minute is 'A'"),
        ("0 0 30 2 *", "no such day ever comes"),
        ("0 0 31 4,6 *", "no such day ever comes"),
        ("0 0 32 2 *", "its day-of-month is '32'"),
        ("* * * *", "5 fields"),
        ("* * * * * * *", "5 fields"),
        ("at noon", "Invalid isoformat"),
        ("at 2026-01-01T00:00:00", "needs a zone"),
        (datetime(2026, 1, 1), "needs a zone"),  # noqa: DTZ001 - that is what is refused
        (5, "it is 'every 5m'"),
        (None, "it is 'every 5m'"),
        (timedelta(minutes=5), "it is 'every 5m'"),
    ],
)
def test_what_is_refused(when: object, says: str) -> None:
    """Anything else is refused, and the fault is named."""
    with pytest.raises(BadSchedule) as caught:
        parse(when, "UTC")  # type: ignore[arg-type]
    assert says.lower() in str(caught.value).lower()
    assert str(caught.value).startswith("cannot schedule ")


@pytest.mark.parametrize("name", ["Europe/Nowhere", "../etc/passwd", "/etc/localtime", "a\0b", "CET-1CEST,M3.5.0"])
def test_zones_that_are_none(name: str) -> None:
    """A zone that is not known is refused when something is scheduled, not when it is due."""
    with pytest.raises(BadSchedule, match="no time zone"):
        parse("0 0 * * *", name)


def test_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """$TZ counts where it has a name; without it the machine's zone does, whichever that is at the time."""
    assert local_name("Europe/Berlin") in ("Europe/Berlin", "")
    assert local_name(":America/New_York") in ("America/New_York", "")
    assert local_name(None) == ""
    assert local_name("") == "UTC"
    assert zone("").utcoffset(datetime.now(UTC)) is not None
    with pytest.raises(ValueError, match="zone="):
        local_name("CET-1CEST,M3.5.0,M10.5.0/3")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert parse("0 0 * * *") == Cron("0 0 * * *", "Asia/Tokyo")


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        # 2026-03-29: 02:00 is 03:00. What is at fixed times comes once, right behind the gap.
        ("30 2 * * *", "2026-03-28T12:00:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("0 3 * * *", "2026-03-28T12:00:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"]),
        ("0 2,3 * * *", "2026-03-28T12:00:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"]),
        ("30 * * * *", "2026-03-29T00:40:00+01:00", ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]),
        # 2026-10-25: 03:00 is 02:00 again. What is at fixed times comes the first time only.
        ("30 2 * * *", "2026-10-24T12:00:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("30 2 * * *", "2026-10-25T02:15:00+01:00", ["2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]),
        ("30 2 * * *", "2026-10-25T02:45:00+02:00", ["2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]),
        ("30 * * * *", "2026-10-25T01:40:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]),
        # leap days, last days, either of two days
        ("0 0 29 2 *", "2026-01-01T00:00:00+01:00", ["2028-02-29T00:00:00+01:00", "2032-02-29T00:00:00+01:00"]),
        ("0 0 L * *", "2028-02-01T00:00:00+01:00", ["2028-02-29T00:00:00+01:00", "2028-03-31T00:00:00+02:00"]),
        ("0 0 13 * FRI", "2026-02-10T00:00:00+01:00", ["2026-02-13T00:00:00+01:00", "2026-02-20T00:00:00+01:00"]),
        ("*/20 * * * * *", "2026-02-10T00:00:01+01:00", ["2026-02-10T00:00:20+01:00", "2026-02-10T00:00:40+01:00"]),
    ],
)
def test_cron_around_changes_of_the_clock(cron: str, after: str, due: list[str]) -> None:
    """In Berlin: gaps, hours that come twice, and days that are rare."""
    assert upcoming(cron, after, 2) == due


FIXED = ["30 2 * * *", "0 2,3 * * *", "0 0 29 2 *", "15 1-3 * * SUN", "0 12 L * *"]
CRONS = st.sampled_from(["* * * * *", "*/7 * * * *", "30 * * * *", *FIXED])
ZONES = st.sampled_from(
    [BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca", "Asia/Kathmandu"]
)
TIMES = st.integers(us("2020-01-01T00:00:00+00:00"), us("2035-01-01T00:00:00+00:00"))


@given(CRONS, ZONES, TIMES, st.integers(0, 3 * 3600 * SECOND))
def test_following_is_later_and_next(cron: str, name: str, after: int, less: int) -> None:
    """What follows is later; and from wherever before it one asks, behind the one before, the answer is the same."""
    rhythm = parse(cron, name)
    due = following(rhythm, after)
    assert due is not None
    assert due > after
    assert following(rhythm, max(after, due - 1 - less)) == due
    assert due % SECOND == 0


@given(st.sampled_from(FIXED), ZONES, TIMES)
def test_fixed_times_once_a_day(cron: str, name: str, after: int) -> None:
    """No local time of a day comes twice, where the hour is fixed."""
    rhythm = parse(cron, name)
    seen: list[str] = []
    at = after
    for _ in range(20):
        due = following(rhythm, at)
        assert due is not None
        seen.append(local(due, name)[:16])
        at = due
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("late_s", "missed", "expected"),
    [
        (0, Missed.ONCE, (1, 300)), (0, Missed.ALL, (1, 300)), (0, Missed.SKIP, (1, 300)),
        (20, Missed.ONCE, (1, 300)), (20, Missed.ALL, (1, 300)), (20, Missed.SKIP, (1, 300)),
        (40, Missed.ONCE, (1, 300)), (40, Missed.ALL, (1, 300)), (40, Missed.SKIP, (0, 300)),
        (300, Missed.ONCE, (1, 600)), (300, Missed.ALL, (2, 600)), (300, Missed.SKIP, (1, 600)),
        (1000, Missed.ONCE, (1, 1200)), (1000, Missed.ALL, (4, 1200)), (1000, Missed.SKIP, (0, 1200)),
    ],
)  # fmt: skip
def test_missed_every_five_minutes(late_s: int, missed: Missed, expected: tuple[int, int]) -> None:
    """How many, and when again: the rhythm stays whatever was missed."""
    due = 1_000_000 * SECOND
    for rhythm in (Every(300 * SECOND), Cron("*/5 * * * *", "UTC")):
        base = due if isinstance(rhythm, Every) else us("2026-05-05T05:05:00+00:00")
        found = run(rhythm, base, base + late_s * SECOND, missed)
        assert (found.times, (found.next or 0) - base) == (expected[0], expected[1] * SECOND)


def test_missed_moment() -> None:
    """A moment that was missed is made up for at once, or left out."""
    assert run(Moment(0), 0, DAY, Missed.ONCE) == Run(1, None)
    assert run(Moment(0), 0, DAY, Missed.ALL) == Run(1, None)
    assert run(Moment(0), 0, DAY, Missed.SKIP) == Run(0, None)
    assert run(Moment(0), 0, SECOND, Missed.SKIP) == Run(1, None)


@pytest.mark.parametrize("rhythm", [Every(SECOND), Cron("* * * * *", "UTC")])
def test_missed_is_bounded(rhythm: Every | Cron) -> None:
    """Of a year that was missed, so much is made up for and no more; it is said, and takes no time."""
    base = us("2026-05-05T05:05:00+00:00")
    found = run(rhythm, base, base + 365 * DAY, Missed.ALL)
    assert (found.times, found.more) == (MOST_MISSED, True)
    assert found.next is not None
    assert found.next > base + 365 * DAY


@given(
    st.one_of(st.integers(SECOND // 100, 30 * DAY).map(Every), st.builds(parse, CRONS, ZONES)),
    TIMES,
    st.integers(0, 40 * DAY),
    st.sampled_from(list(Missed)),
)
def test_missed_policies(rhythm: Every | Cron, begun: int, late: int, missed: Missed) -> None:
    """What comes next is later, and in the rhythm; nothing is made up for that was not due; `all` counts each."""
    due = following(rhythm, begun)
    assert due is not None
    now = due + late
    found = run(rhythm, due, now, missed)
    assert found.next is not None
    assert found.next > now
    if isinstance(rhythm, Every):
        assert (found.next - due) % rhythm.step == 0
        assert found.next - rhythm.step <= now
    else:
        assert found.next == following(rhythm, now)
    counted, at = 0, due
    while at <= now and counted <= MOST_MISSED:
        counted += 1
        at = following(rhythm, at) or now + 1
    allowed = {Missed.ONCE: {1}, Missed.ALL: {min(counted, MOST_MISSED)}, Missed.SKIP: {0, 1}}[missed]
    assert found.times in allowed
    if late == 0:
        assert found.times == 1


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])))
def test_moments_are_exact(at: datetime) -> None:
    """A moment is kept to the microsecond, whatever its zone."""
    assert parse(str(parse(at))) == parse(at)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment(at)) == at
    assert LONGEST > 0
