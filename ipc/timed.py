"""
What transactions do with timers: put off a post, begin a schedule, cancel either. In the order of what is posted.

Source: architecture section 7.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from regrow.ipc import scheduled, timers
from regrow.ipc.clocks import SECOND, Due, Now, now
from regrow.ipc.errors import BadRequest, BadSchedule
from regrow.ipc.posting import seconds
from regrow.ipc.posts import Box, check_id, written
from regrow.ipc.scheduled import Schedule
from regrow.ipc.schedules import LONGEST, moment
from regrow.ipc.store import KEEPER_BELL, Store, Txn
from regrow.ipc.timers import Timer
from regrow.ipc.transaction import Overtaken, Timing, Transaction
from regrow.ipc.unsendable import bad_arguments
from regrow.ipc.wire import UNSENDABLE


def due_at(to: str, delay: float | None, at: datetime | None, moment_now: Now) -> Due | None:
    """
    When a post is due; None: now.

    Raises:
        BadRequest.
    """
    if delay is not None and at is not None:
        raise BadRequest(to, "delay and at are two ways to say the same: give one")
    if delay is not None:
        if type(delay) not in (int, float) or not 0 <= delay <= LONGEST / SECOND:
            raise BadRequest(to, f"delay is a number of seconds from 0 up to a hundred years, not {delay!r:.60}")
        return Due(moment_now.elapsed + math.ceil(delay * SECOND), by_elapsed=True) if delay else None
    if at is None:
        return None
    try:
        due = Due(moment(at))
    except BadSchedule as error:
        raise BadRequest(to, f"at={at!r:.100}: {error.text}") from None
    if due.at > moment_now.wall + LONGEST:
        raise BadRequest(to, f"at={at.isoformat()} is more than a hundred years away")
    return due if due.at > moment_now.wall else None


class TimedPost(Timing, eq=False):
    """A post that is put into its box when it is due; `expires` in seconds from then on."""

    due: Due
    expires: float | None
    now: Now

    def apply(self, txn: Txn, store: Store) -> None:
        if self.once and not Box(store.messages, self.to).is_new(txn, self.id, self.at):
            return
        timer = Timer(self.to, self.id, self.post, self.expires, self.once)
        if timers.put(txn, store.messages, timer, self.due, self.now):
            store.ring(KEEPER_BELL)


def timed_post(
    to: str,
    handler: str,
    args: Any,
    kwargs: Any,
    sender: str,
    id: str,
    once: bool,
    expires: float | None,
    delay: float | None,
    at: datetime | None,
) -> TimedPost | None:
    """
    A post that is put off, ready to be committed; None: it is due at once.

    Raises:
        BadRequest.
    """
    moment_now = now()
    due = due_at(to, delay, at, moment_now)
    if due is None:
        return None
    behind = None if expires is None else seconds(to, expires, "expires")
    post = written(to, handler, args, kwargs, sender, id, moment_now.wall / SECOND, 0.0)
    return TimedPost(to, post, id, once, due.wall(moment_now.offset) / SECOND, due, behind, moment_now)


class Scheduling(Timing, eq=False):
    """A schedule of `to` for itself, unless it is the one that there is."""

    schedule: Schedule
    due: Due | None
    now: Now

    def apply(self, txn: Txn, store: Store) -> None:
        if scheduled.put(txn, store.messages, self.to, self.id, self.schedule, self.due, self.now):
            store.ring(KEEPER_BELL)


class Cancelling(Timing, eq=False):
    """The end of a timer of `to`. `was_there` is what was said of it, after a look into the store if `looked`."""

    of_schedule: bool
    was_there: bool
    looked: bool

    def apply(self, txn: Txn, store: Store) -> None:
        cancel = scheduled.cancel if self.of_schedule else cancel_post
        if cancel(txn, store.messages, self.to, self.id) is not self.was_there and self.looked:
            raise Overtaken  # it has become a post since, say


def scheduling(
    owner: str,
    id: str | None,
    when: str | datetime,
    handler: str,
    args: Any,
    kwargs: Any,
    missed: str,
    zone: str | None,
) -> Scheduling:
    """
    A schedule, ready to be committed; its id is the handler's name where none is given.

    Raises:
        BadSchedule, BadRequest.
    """
    own = check_id(owner, handler if id is None else id)
    if len(owner.encode()) + len(own.encode()) > 500:
        raise BadRequest(owner, f"its name and the id {own!r:.100} are too long together")
    moment_now = now()
    try:
        schedule, due = scheduled.begun(when, handler, args, kwargs, missed, zone, moment_now)
    except BadSchedule:
        raise
    except UNSENDABLE as error:
        raise bad_arguments(owner, handler, args, kwargs, error) from None
    return Scheduling(owner, b"", own, True, 0.0, schedule, due, moment_now)


def cancelling_post(transaction: Transaction, store: Store, names: list[str], id: str) -> Cancelling:
    """The end of a post that was put off for one of these names."""
    found = [cancelling(transaction, store, name, id, of_schedule=False) for name in names]
    return next((each for each in found if each.was_there), found[-1])


def cancelling(transaction: Transaction, store: Store, to: str, id: str, *, of_schedule: bool) -> Cancelling:
    """
    The end of a timer, to be committed with `transaction`. What `was_there` says is so at the commit, or that ends as
    Overtaken.
    """
    kind = Scheduling if of_schedule else TimedPost
    layer: Transaction | None = transaction
    while layer is not None:
        for out in reversed(layer.posts):
            if out.to == to and out.id == id:
                is_end = isinstance(out, Cancelling) and out.of_schedule is of_schedule
                if is_end or isinstance(out, kind):
                    return Cancelling(to, b"", id, False, 0.0, of_schedule, not is_end, looked=False)
        layer = layer.parent
    look = scheduled.is_there if of_schedule else is_put_off
    was_there = store.read(lambda txn: look(txn, store.messages, to, id))
    return Cancelling(to, b"", id, False, 0.0, of_schedule, was_there, looked=True)


def cancel_post(txn: Txn, db: Any, to: str, id: str) -> bool:
    """Let a post that was put off never come, be it damaged; whether there was one."""
    key = timers.find(txn, db, to, id)
    if key is None:
        return False
    timers.drop(txn, db, key, Timer(to, id, b""))
    Box(db, to).forget_id(txn, id)  # one that did not count is not known
    return True


def is_put_off(txn: Txn, db: Any, to: str, id: str) -> bool:
    """Whether a post with this id waits for its time."""
    return timers.find(txn, db, to, id) is not None
