"""
What becomes of timers that are due: posts in the boxes of those that they are for, each once.

In two parts, so that nobody waits for arithmetic: `plan` only reads, `settle` does in one transaction what was planned,
where nothing has changed meanwhile. Whoever is killed in between has done nothing.

Source: architecture section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from regrow.ipc import posts, scheduled, timers
from regrow.ipc.clocks import SECOND, Due, Now
from regrow.ipc.deadletters import Cause, DeadLetter, bury, told_of
from regrow.ipc.errors import BadSchedule
from regrow.ipc.posts import MAX_WAITING, Box, Post
from regrow.ipc.scheduled import KEPT, Schedule
from regrow.ipc.schedules import MOST_MISSED, Cron, Every, Missed, Rhythm, following, run
from regrow.ipc.store import Txn
from regrow.ipc.timers import Timer

BATCH = 500
"""About as many posts are put into boxes by one transaction."""

SET_BACK = 3 * 3600 * SECOND
"""When the clock is set back by less, what has been due is not due again; by more, it was wrong (Debian's cron)."""

_AGAIN = 3600 * SECOND


class Planned(Struct, frozen=True):
    """
    A timer that is due, the posts that it comes to, and what follows. `row` is the schedule as it was read.

    `schedule` is as it will be, due again at `next`; both None: there is nothing to follow.
    """

    key: bytes
    value: bytes
    timer: Timer
    posts: tuple[bytes, ...] = ()
    row: bytes | None = None
    schedule: Schedule | None = None
    next: Due | None = None
    complaint: str = ""


class Plan(Struct, frozen=True):
    """`due` in the order in which they are; `broken` are keys of timers that cannot be read, and why."""

    due: tuple[Planned, ...]
    broken: tuple[tuple[bytes, str], ...]


def plan(txn: Txn, db: Any, now: Now, limit: int = BATCH) -> Plan:
    """What is to be done at this moment, at most about `limit` posts of it."""
    planned: list[Planned] = []
    broken: list[tuple[bytes, str]] = []
    total = 0
    for key, due, value in timers.due(txn, db, now, limit):
        if total >= limit:
            break
        try:
            timer = timers.decode(value)
            each = _of_post(key, due, value, timer, now) if timer.post is not None else _of_schedule(
                txn, db, key, due, value, timer, now
            )
        except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:  # what is damaged may be well formed
            broken.append((key, str(error)))
        else:
            planned.append(each)
            total += len(each.posts)
    return Plan(tuple(planned), tuple(broken))


def _of_post(key: bytes, due: Due, value: bytes, timer: Timer, now: Now) -> Planned:
    assert timer.post is not None
    expires_at = 0.0 if timer.expires is None else due.wall(now.offset) / SECOND + timer.expires
    post = msgspec.structs.replace(posts.decode(timer.post), at=now.wall / SECOND, expires_at=expires_at)
    return Planned(key, value, timer, (posts.encode(post),))


def _of_schedule(txn: Txn, db: Any, key: bytes, due: Due, value: bytes, timer: Timer, now: Now) -> Planned:
    row = txn.get(scheduled.key_of(timer.to, timer.id), db=db)
    if row is None:
        return Planned(key, value, timer)
    schedule = scheduled.decode(row)
    if schedule.is_over:
        return Planned(key, value, timer, row=row)
    try:
        rhythm = schedule.rhythm
        clock = now.elapsed if due.by_elapsed else now.wall
        todo = run(rhythm, due.at, clock, schedule.missed)
    except ValueError as error:  # its time zone is gone, say
        text = f"the schedule {timer.id} of {timer.to} waits an hour: {error}"
        return Planned(key, value, timer, (), row, schedule, Due(now.wall + _AGAIN), text)
    complaint = ""
    if todo.more:
        complaint = f"the schedule {timer.id} of {timer.to} has missed more than the {MOST_MISSED} that are made up for"
    made = tuple(_post(schedule, timer, due, number, now) for number in range(todo.times))
    last = due.wall(now.offset) if todo.times else schedule.last
    after = msgspec.structs.replace(schedule, last=max(last, schedule.last), is_over=todo.next is None)
    if todo.next is None:
        upcoming = Due(max(now.wall, due.wall(now.offset)) + KEPT)
    elif isinstance(rhythm, Every) and not due.by_elapsed:
        upcoming = Due(todo.next - now.offset, by_elapsed=True)
    else:
        upcoming = Due(todo.next, due.by_elapsed)
    return Planned(key, value, timer, made, row, after, upcoming, complaint)


def _post(schedule: Schedule, timer: Timer, due: Due, number: int, now: Now) -> bytes:
    at = datetime.fromtimestamp(due.wall(now.offset) / SECOND, UTC).isoformat()
    id = f"{timer.id}@{at}" + (f"+{number}" if number else "")
    return posts.encode(Post(schedule.handler, schedule.args, schedule.kwargs, timer.to, id, now.wall / SECOND))


def settle(txn: Txn, db: Any, todo: Plan, now: Now, ring: Callable[[str], None]) -> tuple[int, list[str]]:
    """
    Do it; `ring` is told of each box that was empty. Returns how many posts were put, and what somebody is to be told.
    """
    complaints = [text for key, why in todo.broken if (text := _put_away(txn, db, key, why, now))]
    put = 0
    for each in todo.due:
        timer = each.timer
        place = scheduled.key_of(timer.to, timer.id)
        if txn.get(each.key, db=db) != each.value or (each.row is not None and txn.get(place, db=db) != each.row):
            continue  # somebody was faster
        timers.drop(txn, db, each.key, timer)
        count, last, complaint = _put(txn, db, each, ring)
        put += count
        complaints += [text for text in (each.complaint, complaint) if text]
        if each.schedule is not None and each.next is not None:
            after = each.schedule if not count else msgspec.structs.replace(each.schedule, ordinal=last)
            scheduled.keep(txn, db, timer.to, timer.id, after)
            timers.put(txn, db, timer, each.next, now)
        elif each.row is not None:
            txn.delete(place, db=db)
    return put, complaints


def _put_away(txn: Txn, db: Any, key: bytes, why: str, now: Now) -> str:
    """A timer that cannot be read is gone. Of a post, it becomes a dead letter, and the id may come again."""
    value = txn.get(key, db=db)
    if value is None:
        return ""
    text = f"it is damaged: {why}: row {key!r}: {value[:500]!r}"
    owner = timers.drop_unreadable(txn, db, key)
    if owner is None:
        return f"a timer that cannot be read is gone: {text}"
    to, id, of_schedule = owner
    if of_schedule:
        txn.delete(scheduled.key_of(to, id), db=db)
        return f"the schedule {id!r:.100} of {to} cannot be read and is gone, until {to} begins it again: {text}"
    Box(db, to).forget_id(txn, id)
    forgotten = bury(txn, db, DeadLetter(to, posts.unreadable(id), Cause.BAD_REQUEST, now.wall / SECOND, text))
    what = f"the post {id!r:.100} to {to} that waited for its time cannot be read, and is a dead letter: {text}"
    return f"{what}; {told_of(forgotten)}" if forgotten else what


def _put(txn: Txn, db: Any, each: Planned, ring: Callable[[str], None]) -> tuple[int, int, str]:
    """
    Put the posts into the box. While the last one of a schedule waits there, no more of it join it, unless all that is
    missed is to be made up for: who is down for a day, or slow, does not find a thousand of the same.
    """
    box = Box(db, each.timer.to)
    if each.schedule is not None and each.posts:
        schedule = each.schedule
        if schedule.missed is not Missed.ALL:
            if schedule.ordinal and box.get(txn, schedule.ordinal) is not None:
                return 0, 0, ""
        elif box.length(txn) + len(each.posts) > MAX_WAITING:
            return 0, 0, f"the box of {each.timer.to} is full: the schedule {each.timer.id} puts nothing into it"
    if each.posts and box.put(txn, *each.posts):
        ring(each.timer.to)
    return len(each.posts), box.last(txn) or 0, ""


# clocks that are not what they were


def is_of_earlier_boot(txn: Txn, db: Any, now: Now) -> bool:
    """Whether there is anything for `adopt` to do."""
    return any(boot != now.boot for boot, _ in timers.offsets(txn, db))


def adopt(txn: Txn, db: Any, now: Now, limit: int = BATCH) -> list[str]:
    """
    Move up to `limit` timers by the time since an earlier boot to the wall clock; returns what somebody is to be told.

    Those that repeat go on by the time since this boot; a clock that is wrong keeps them back for one step at most.
    Where it is damaged what the clock was ahead in that boot, they are due now: better early than never.
    """
    complaints: list[str] = []
    for boot, offset in timers.offsets(txn, db):
        if boot == now.boot:
            continue
        rows = timers.of_boot(txn, db, boot, limit)
        for key, value in rows:
            try:
                timer = timers.decode(value)
            except msgspec.MsgspecError as error:
                complaints.append(_put_away(txn, db, key, str(error), now))
                continue
            at = now.wall if offset is None else timers.due_of(key).wall(offset)
            timers.drop(txn, db, key, timer)
            timers.put(txn, db, timer, _moved(txn, db, timer, at, now), now)
        if len(rows) < limit:
            timers.forget_boot(txn, db, boot)
            if offset is None:
                complaints.append("when the timers of an earlier boot were due cannot be read: they are due now")
        break
    return complaints


def _moved(txn: Txn, db: Any, timer: Timer, at: int, now: Now) -> Due:
    if timer.post is None:
        schedule = scheduled.get(txn, db, timer.to, timer.id)
        rhythm = None if schedule is None or schedule.is_over else _rhythm(schedule)
        if isinstance(rhythm, Every):
            return Due(min(at - now.offset, now.elapsed + rhythm.step), by_elapsed=True)
    return Due(at)


def set_back(txn: Txn, db: Any, now: Now) -> list[tuple[str, str, Schedule]]:
    """Schedules by the wall clock that were due last when, as it shows now, it is not yet by far."""
    return [
        (owner, id, schedule)
        for owner, id, schedule in scheduled.rows(txn, db)
        if schedule.last > now.wall + SET_BACK and not schedule.is_over and isinstance(_rhythm(schedule), Cron)
    ]


def begin_again(txn: Txn, db: Any, which: list[tuple[str, str, Schedule]], now: Now) -> None:
    """Let them be due when they are next, as the clock shows now."""
    for owner, id, schedule in which:
        if scheduled.get(txn, db, owner, id) != schedule:
            continue
        key = timers.find(txn, db, owner, id, schedule=True)
        at = following(schedule.rhythm, now.wall)
        if key is not None and at is not None:
            timer = Timer(owner, id)
            timers.drop(txn, db, key, timer)
            scheduled.keep(txn, db, owner, id, msgspec.structs.replace(schedule, last=now.wall))
            timers.put(txn, db, timer, Due(at), now)


def _rhythm(schedule: Schedule) -> Rhythm | None:
    """None when it cannot be told now; `plan` will complain of that."""
    try:
        return schedule.rhythm
    except BadSchedule:
        return None
