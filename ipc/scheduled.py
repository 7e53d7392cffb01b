"""
Schedules: timers with a name, that of an agent and an id, each of which fires posts from the agent to itself.

Everything here works inside a transaction of whoever calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from regrow.ipc import timers
from regrow.ipc.clocks import SECOND, Due, Now
from regrow.ipc.errors import BadSchedule
from regrow.ipc.schedules import LONGEST, Every, Missed, Moment, Rhythm, following, parse
from regrow.ipc.store import Txn
from regrow.ipc.timers import Timer

SCHEDULE = b"s"

KEPT = 30 * 86_400 * SECOND
"""How long a schedule that is over is remembered, so that the same one is not begun again."""


class Schedule(Struct, frozen=True, array_like=True):
    """
    `when` and `zone` as `schedules.parse` reads them again; `args` is an encoded array, `kwargs` an encoded map.

    `last` is when it was due last, or begun, by the wall clock; `ordinal` that of its last post (0: none);
    `is_over`: it is not due any more, and what its timer still stands for is that it is forgotten.
    """

    when: str
    zone: str
    handler: str
    args: Raw
    kwargs: Raw
    missed: Missed
    last: int
    ordinal: int = 0
    is_over: bool = False

    @property
    def rhythm(self) -> Rhythm:
        """When it is due; raises BadSchedule: its zone is not known any more."""
        return parse(self.when, self.zone)

    def is_like(self, other: Schedule) -> bool:
        """Whether both say the same, wherever they have got to."""
        return self._says() == other._says()

    def _says(self) -> tuple[object, ...]:
        return self.when, self.zone, self.handler, bytes(self.args), bytes(self.kwargs), self.missed


_decoder = msgspec.msgpack.Decoder(Schedule)
_encode = msgspec.msgpack.Encoder().encode


def decode(value: bytes) -> Schedule:
    """A schedule as it was kept; raises msgspec.MsgspecError: it is damaged."""
    return _decoder.decode(value)


def key_of(owner: str, id: str) -> bytes:
    """Where it is kept."""
    return SCHEDULE + owner.encode() + b"\0" + id.encode()


def begun(
    when: str | datetime, handler: str, args: Any, kwargs: Any, missed: str, zone: str | None, now: Now
) -> tuple[Schedule, Due | None]:
    """
    A schedule that begins now, and when it is due first; None: it was over long ago.

    Raises:
        BadSchedule; UNSENDABLE: the arguments cannot be encoded.
    """
    policies = [str(each) for each in Missed]
    if missed not in policies:
        raise BadSchedule(when, f"missed is {' or '.join(map(repr, policies))}, not {missed!r:.60}")
    rhythm = parse(when, zone)
    if zone is not None and isinstance(rhythm, Every | Moment):
        raise BadSchedule(when, "zone= is for cron texts")
    name = "" if isinstance(rhythm, Every | Moment) else rhythm.zone
    encoded = Raw(_encode(args)), Raw(_encode(kwargs))
    schedule = Schedule(str(rhythm), name, handler, *encoded, Missed(missed), now.wall)
    return schedule, first_due(rhythm, now)


def first_due(rhythm: Rhythm, now: Now) -> Due | None:
    """When something that begins now is due first."""
    if isinstance(rhythm, Every):
        return Due(now.elapsed + rhythm.step, by_elapsed=True)
    if isinstance(rhythm, Moment):
        if rhythm.at > now.wall + LONGEST:
            raise BadSchedule(str(rhythm), "that is more than a hundred years away")
        return Due(rhythm.at) if rhythm.at > now.wall - KEPT else None
    at = following(rhythm, now.wall)
    return None if at is None else Due(at)


def put(txn: Txn, db: Any, owner: str, id: str, schedule: Schedule, due: Due | None, now: Now) -> bool:
    """
    Let it be so, unless it is already; returns whether the keeper is to be told.
    """
    known = get(txn, db, owner, id)
    if known is not None and known.is_like(schedule):
        return False
    cancel(txn, db, owner, id)
    if due is None:
        return False
    keep(txn, db, owner, id, schedule)
    return timers.put(txn, db, Timer(owner, id), due, now)


def keep(txn: Txn, db: Any, owner: str, id: str, schedule: Schedule) -> None:
    """Write it down."""
    txn.put(key_of(owner, id), _encode(schedule), db=db)


def get(txn: Txn, db: Any, owner: str, id: str) -> Schedule | None:
    """The schedule of this name; None: there is none, or it cannot be read, and is to be begun anew."""
    found = txn.get(key_of(owner, id), db=db)
    try:
        return None if found is None else decode(found)
    except msgspec.MsgspecError:
        return None


def is_there(txn: Txn, db: Any, owner: str, id: str) -> bool:
    """Whether it is due at some time to come."""
    found = get(txn, db, owner, id)
    return found is not None and not found.is_over


def cancel(txn: Txn, db: Any, owner: str, id: str) -> bool:
    """Forget it; whether it was due at some time to come."""
    was_there = is_there(txn, db, owner, id)
    if (key := timers.find(txn, db, owner, id, schedule=True)) is not None:
        timers.drop(txn, db, key, Timer(owner, id))
    txn.delete(key_of(owner, id), db=db)
    return was_there


def listed(txn: Txn, db: Any, now: Now) -> Iterator[tuple[str, str, Schedule, int | None]]:
    """
    All of them, by owner and id: owner, id, the schedule, and when it is due next, in microseconds since the epoch by
    the wall clock as it is now; None: it is over.
    """
    earlier = dict(timers.offsets(txn, db))
    for owner, id, schedule in rows(txn, db):
        due = None
        key = None if schedule.is_over else timers.find(txn, db, owner, id, schedule=True)
        if key is not None:
            boot = timers.boot_of(key)
            offset = now.offset if boot == now.boot else earlier.get(boot)
            due = timers.due_of(key).wall(offset or 0)
        yield owner, id, schedule, due


def rows(txn: Txn, db: Any) -> Iterator[tuple[str, str, Schedule]]:
    """Owner, id and schedule of all that can be read."""
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(SCHEDULE):
            for key, value in cursor.iternext():
                if not key.startswith(SCHEDULE):
                    return
                try:
                    owner, _, id = key[1:].decode().partition("\0")
                    yield owner, id, decode(value)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
