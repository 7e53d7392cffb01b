"""
Timers: what becomes a post when it is due. Those of posts that were delayed, and one for each schedule.

Everything here works inside a transaction of whoever calls it. Timers by the wall clock and those by the time since
boot stand in ranges of their own, each in the order in which they are due; those of equal time in the order in which
they were put. What an earlier boot has left is moved by `adopt` in `firing`.

Source: architecture section 7.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any

import msgspec
from msgspec import Struct

from regrow.ipc.clocks import Due, Now
from regrow.ipc.store import Txn

BY_WALL, BY_ELAPSED, OFFSET = b"tw", b"te", b"to"
"""Behind BY_ELAPSED comes the boot, then as behind BY_WALL the time and a number; OFFSET has that of each boot."""

OF_POST, OF_SCHEDULE = b"u", b"v"
"""Name, zero byte and id, to the key of the timer."""

_BIAS = 1 << 63
_JITTER = 1_000  # microseconds between two clocks read one after the other
_NUMBERS = 16  # bytes at the end of a key: the time and the number


class Timer(Struct, frozen=True, array_like=True):
    """
    What is to be put into the box of `to`: `post`, or if that is None, what the schedule `id` of this name says.

    `expires` in seconds behind its time; `once`: the id counts.
    """

    to: str
    id: str
    post: bytes | None = None
    expires: float | None = None
    once: bool = False


_decoder = msgspec.msgpack.Decoder(Timer)
_encode = msgspec.msgpack.Encoder().encode


def decode(value: bytes) -> Timer:
    """A timer as it was kept; raises msgspec.MsgspecError: it is damaged."""
    return _decoder.decode(value)


def put(txn: Txn, db: Any, timer: Timer, due: Due, now: Now) -> bool:
    """Add one; returns whether it is the first of its clock now, and the keeper is to be told."""
    first = BY_WALL
    if due.by_elapsed:
        first = BY_ELAPSED + now.boot
        if txn.get(OFFSET + now.boot, db=db) is None:
            note_offset(txn, db, now)
    key = _new_key(txn, db, first + (due.at + _BIAS).to_bytes(8, "big"))
    txn.put(key, _encode(timer), db=db)
    txn.put(_index(timer), key, db=db)
    return key == _first(txn, db, first)


def drop(txn: Txn, db: Any, key: bytes, timer: Timer) -> None:
    """Remove one."""
    txn.delete(key, db=db)
    index = _index(timer)
    if txn.get(index, db=db) == key:
        txn.delete(index, db=db)


def drop_unreadable(txn: Txn, db: Any, key: bytes) -> tuple[str, str, bool] | None:
    """
    Remove one that does not say itself whose it is: whoever names this key is looked for.

    Returns:
        Name, id, and whether it is that of a schedule; None when nobody does.
    """
    txn.delete(key, db=db)
    for kind in (OF_POST, OF_SCHEDULE):
        for index, named in _rows(txn, db, kind):
            if named == key:
                txn.delete(index, db=db)
                to, _, id = index[1:].decode(errors="replace").partition("\0")
                return to, id, kind == OF_SCHEDULE
    return None


def find(txn: Txn, db: Any, to: str, id: str, *, schedule: bool = False) -> bytes | None:
    """The key of the timer of a post or a schedule, which may be damaged; None when there is none."""
    key: bytes | None = txn.get(_index(Timer(to, id, None if schedule else b"")), db=db)
    return None if key is None or txn.get(key, db=db) is None else key


def due(txn: Txn, db: Any, now: Now, limit: int) -> list[tuple[bytes, Due, bytes]]:
    """Up to `limit` timers whose time has come, with their keys, as they were kept; the earliest first."""
    found = []
    for first, clock in ((BY_WALL, now.wall), (BY_ELAPSED + now.boot, now.elapsed)):
        for count, (key, value) in enumerate(_rows(txn, db, first)):
            at = due_of(key)
            if at.at > clock or count >= limit:
                break
            found.append((key, at, value))
    found.sort(key=lambda row: row[1].wall(now.offset))
    return found[:limit]


def earliest(txn: Txn, db: Any, now: Now) -> tuple[int | None, int | None]:
    """When something is due next, by the wall clock and by the time since boot; None: nothing."""
    wall, elapsed = (_first(txn, db, first) for first in (BY_WALL, BY_ELAPSED + now.boot))
    return None if wall is None else due_of(wall).at, None if elapsed is None else due_of(elapsed).at


def due_of(key: bytes) -> Due:
    """When the timer of this key is due."""
    return Due(int.from_bytes(key[-_NUMBERS : -_NUMBERS // 2], "big") - _BIAS, key.startswith(BY_ELAPSED))


def boot_of(key: bytes) -> bytes:
    """The boot since which the timer of this key counts; b"": it goes by the wall clock."""
    return key[len(BY_ELAPSED) : -_NUMBERS] if key.startswith(BY_ELAPSED) else b""


def listed(txn: Txn, db: Any, now: Now) -> Iterator[tuple[int, Timer]]:
    """All that can be read, the earliest first: when each is due, in microseconds since the epoch as clocks are now."""
    ranges = [_listed(txn, db, BY_WALL, 0)]
    for boot, offset in offsets(txn, db):
        known = now.offset if boot == now.boot else offset
        ranges.append(_listed(txn, db, BY_ELAPSED + boot, known or 0))
    return heapq.merge(*ranges, key=lambda row: row[0])


def unreadable(txn: Txn, db: Any) -> Iterator[tuple[bytes, str]]:
    """The keys of those that cannot be read, and why."""
    for first in (BY_WALL, BY_ELAPSED):
        for key, value in _rows(txn, db, first):
            try:
                decode(value)
            except msgspec.MsgspecError as error:
                yield key, str(error)


def _listed(txn: Txn, db: Any, first: bytes, offset: int) -> Iterator[tuple[int, Timer]]:
    for key, value in _rows(txn, db, first):
        try:
            yield due_of(key).wall(offset), decode(value)
        except msgspec.MsgspecError:
            continue


def count(txn: Txn, db: Any) -> int:
    """How many there are."""
    return sum(1 for first in (BY_WALL, BY_ELAPSED) for _ in _rows(txn, db, first))


def count_of(txn: Txn, db: Any, to: str, limit: int, *, schedules: bool = False) -> int:
    """How many posts are put off for a name, or how many schedules it has; no more than `limit` are looked at."""
    first = (OF_SCHEDULE if schedules else OF_POST) + to.encode() + b"\0"
    with txn.cursor(db=db) as cursor:
        if not cursor.set_range(first):
            return 0
        keys = islice(cursor.iternext(values=False), limit)
        return sum(1 for _ in takewhile(lambda key: key.startswith(first), keys))


# boots


def note_offset(txn: Txn, db: Any, now: Now) -> None:
    """Keep what the wall clock is ahead in this boot: in the next one, its timers go by that."""
    txn.put(OFFSET + now.boot, _encode(now.offset), db=db)


def is_set(txn: Txn, db: Any, now: Now) -> bool:
    """Whether the clock has been set since that was kept."""
    return any(
        boot == now.boot and (offset is None or abs(offset - now.offset) > _JITTER)
        for boot, offset in offsets(txn, db)
    )


def offsets(txn: Txn, db: Any) -> list[tuple[bytes, int | None]]:
    """The boots that have timers, and what the wall clock was ahead in each; None: that is damaged."""
    return [(key[len(OFFSET) :], _offset(value)) for key, value in _rows(txn, db, OFFSET)]


def of_boot(txn: Txn, db: Any, boot: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """Up to `limit` timers by the time since this boot."""
    return [row for _, row in zip(range(limit), _rows(txn, db, BY_ELAPSED + boot), strict=False)]


def forget_boot(txn: Txn, db: Any, boot: bytes) -> None:
    """It has no timers any more."""
    txn.delete(OFFSET + boot, db=db)


# rows


def _offset(value: bytes) -> int | None:
    try:
        return msgspec.msgpack.decode(value, type=int)
    except msgspec.MsgspecError:
        return None


def _rows(txn: Txn, db: Any, first: bytes) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(first):
            for key, value in cursor.iternext():
                if not key.startswith(first):
                    return
                yield key, value


def _first(txn: Txn, db: Any, first: bytes) -> bytes | None:
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(first):
            key: bytes = cursor.key()
            return key if key.startswith(first) else None
    return None


def _new_key(txn: Txn, db: Any, first: bytes) -> bytes:
    """A number behind all of the same time, and never used before: whoever has read a key finds the same timer."""
    number = txn.id() << 16
    with txn.cursor(db=db) as cursor:
        end = first + b"\xff" * 8
        if cursor.prev() if cursor.set_range(end) else cursor.last():
            key = cursor.key()
            if key.startswith(first):
                number = max(number, int.from_bytes(key[-8:], "big") + 1)
    new: bytes = first + number.to_bytes(8, "big")
    return new


def _index(timer: Timer) -> bytes:
    of = OF_SCHEDULE if timer.post is None else OF_POST
    return of + timer.to.encode() + b"\0" + timer.id.encode()
