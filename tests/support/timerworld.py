"""A store whose clocks go as a test says, and what the keeper does about its timers."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from storehouse import make_store

from regrow.ipc import firing, scheduled, timers
from regrow.ipc.clocks import SECOND, Due, Now
from regrow.ipc.posts import Box, decode
from regrow.ipc.store import Store
from regrow.ipc.timed import Scheduling, TimedPost, cancel_post
from regrow.ipc.transaction import Transaction

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
BEGIN = 1_767_225_600 * SECOND  # 2026-01-01


class World:
    """A store whose clocks go as the test says, and whose keeper does what the real one does."""

    def __init__(self, folder: Path) -> None:
        run_dir = folder / "run"
        run_dir.mkdir(parents=True)
        make_store(run_dir, folder / "state")
        self.store = Store.open(str(run_dir))
        self.db = self.store.messages
        self.now = Now(BEGIN, 100 * SECOND, bytes(16))
        self.told: list[str] = []
        self.complaints: list[str] = []

    def close(self) -> None:
        self.store.close()

    def pass_time(self, by: int) -> None:
        self.now = Now(self.now.wall + by, self.now.elapsed + by, self.now.boot)

    def set_clock(self, by: int) -> None:
        """The keeper hears of it."""
        self.now = Now(max(self.now.wall + by, 0), self.now.elapsed, self.now.boot)
        self.begin()

    def reboot(self, off_for: int = 0) -> None:
        boot = (int.from_bytes(self.now.boot, "big") + 1).to_bytes(16, "big")
        self.now = Now(self.now.wall + off_for, 10 * SECOND, boot)

    def begin(self) -> None:
        """What `KeeperTimers` does at its begin, and when the clock was set."""
        write, read = self.store.write, self.store.read
        while read(lambda txn: firing.is_of_earlier_boot(txn, self.db, self.now)):
            self.complaints += write(lambda txn: firing.adopt(txn, self.db, self.now, 2))
        if read(lambda txn: timers.is_set(txn, self.db, self.now)):
            write(lambda txn: timers.note_offset(txn, self.db, self.now))
        back = read(lambda txn: firing.set_back(txn, self.db, self.now))
        write(lambda txn: firing.begin_again(txn, self.db, back, self.now))

    def plan(self, limit: int = 3) -> firing.Plan:
        return self.store.read(lambda txn: firing.plan(txn, self.db, self.now, limit))

    def settle(self, todo: firing.Plan) -> int:
        put, complaints = self.store.write(lambda txn: firing.settle(txn, self.db, todo, self.now, self.told.append))
        self.complaints += complaints
        return put

    def fire(self) -> int:
        """All that is due."""
        count = 0
        while (todo := self.plan()).due or todo.broken:
            count += self.settle(todo)
        return count

    def take(self, name: str = "agent") -> list[str]:
        """The ids of what is in the box, which is empty then."""
        def change(txn: Any) -> list[str]:
            box = Box(self.db, name)
            found = box.after(txn, -1, 1 << 20, 1 << 30)
            for ordinal, _ in found:
                box.take(txn, ordinal)
            return [decode(value).id for _, value in found]

        return self.store.write(change)

    def post(self, id: str, due: Due, *, once: bool = True, expires: float | None = None) -> None:
        post = msgspec.msgpack.encode(("tick", (), {}, "", id, self.now.wall / SECOND, 0.0))
        self.do(TimedPost("agent", post, id, once, due.wall(self.now.offset) / SECOND, due, expires, self.now))

    def delay(self, id: str, by: int, *, once: bool = True) -> None:
        self.post(id, Due(self.now.elapsed + by, by_elapsed=True), once=once)

    def schedule(self, when: str | datetime, id: str = "s", *, missed: str = "once", **kwargs: Any) -> None:
        zone = None if isinstance(when, datetime) or when.startswith("every") else "UTC"
        made, due = scheduled.begun(when, "tick", (), kwargs, missed, zone, self.now)
        self.do(Scheduling("agent", b"", id, True, 0.0, made, due, self.now))

    def do(self, *parts: Any) -> None:
        transaction = Transaction()
        transaction.posts += parts
        self.store.write(lambda txn: transaction.apply(txn, self.store, self.told.append))

    def cancel(self, id: str) -> bool:
        return self.store.write(lambda txn: cancel_post(txn, self.db, "agent", id))

    def cancel_schedule(self, id: str = "s") -> bool:
        return self.store.write(lambda txn: scheduled.cancel(txn, self.db, "agent", id))

    def next_due(self) -> int | None:
        """By the wall clock, in microseconds from now."""
        found = self.store.read(lambda txn: next(timers.listed(txn, self.db, self.now), None))
        return None if found is None else found[0] - self.now.wall

    def boots(self) -> int:
        """How many have, or have had, timers."""
        return len(self.store.read(lambda txn: timers.offsets(txn, self.db)))

    def rows(self) -> int:
        """How many rows of timers there are, with those by which they are found."""
        def look(txn: Any) -> int:
            with txn.cursor(db=self.db) as cursor:
                return sum(key[:1] in b"stuv" for key in cursor.iternext(values=False))

        return self.store.read(look)
