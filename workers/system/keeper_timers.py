"""
What the keeper does about timers: when one is due it becomes a post. Nothing wakes it when none is.

It knows when the next one is due. Whoever puts one before that rings its bell, inside his transaction.

Source: architecture section 7.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TypeAlias

from regrow.ipc import clocks, firing, timers
from regrow.ipc.bell import SUFFIX
from regrow.ipc.clocks import SECOND, Now
from regrow.ipc.errors import StoreError
from regrow.ipc.names import Names
from regrow.ipc.points import Point, hit
from regrow.ipc.posting import noted
from regrow.ipc.store import Store, Txn
from regrow.workers.system.timerfd import SINCE_BOOT, WALL, TimerFd

AGAIN = SECOND
"""After the store was full or broken, how long until the next try."""

_Next: TypeAlias = tuple[int | None, int | None]


class KeeperTimers:
    """
    Args:
        complain: is told what is wrong under a key, and with an empty text that it is over.
        clock: gives the moment.
        batch: how many posts are put into boxes by one transaction, about.
    Raises:
        OSError: no descriptors are to be had.
    """

    def __init__(
        self,
        store: Store,
        run_dir: str,
        complain: Callable[[str, str], None],
        clock: Callable[[], Now] = clocks.now,
        batch: int = firing.BATCH,
    ) -> None:
        self._store = store
        self._run_dir = run_dir
        self._complain = complain
        self._clock = clock
        self._batch = batch
        self._names: Names | None = None
        self._wall = TimerFd(WALL)
        self._elapsed = TimerFd(SINCE_BOOT)
        self._epoll = select.epoll()
        for each in (self._wall, self._elapsed):
            self._epoll.register(each.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when `due` is to be called."""
        return self._epoll.fileno()

    def begin(self) -> None:
        """Take over what is there, and what earlier boots have left."""
        self._wall.set(None)  # from here on it tells when the clock is set
        self._do(self._begin)

    def due(self) -> None:
        """Let some of what is due become posts; `fileno` is readable still when there is more."""
        was_set = self._wall.take()
        self._elapsed.take()
        self._do(self._begin if was_set else self._fire)

    def rung(self) -> None:
        """Something may be due earlier than what was known. Under the writers' lock: it is there, or will never be."""
        now = self._clock()
        self._do(lambda: self._store.look(lambda txn: timers.earliest(txn, self._store.messages, now)))

    def close(self) -> None:
        self._epoll.close()
        self._wall.close()
        self._elapsed.close()
        if self._names is not None:
            self._names.close()

    def _do(self, work: Callable[[], _Next]) -> None:
        """Do it, and wait for what it says is next."""
        try:
            wall, elapsed = work()
        except StoreError as error:
            self._complain("timers", f"timers wait: {error}")
            self._elapsed.set(self._clock().elapsed + AGAIN)
            return
        self._complain("timers", "")
        self._elapsed.set(elapsed)
        if self._wall.set(wall):  # the clock was set just now: look again, at once
            self._elapsed.set(1)

    def _begin(self) -> _Next:
        """The clock may show something else than before."""
        store, now = self._store, self._clock()
        db = store.messages
        while store.read(lambda txn: firing.is_of_earlier_boot(txn, db, now)):
            self._tell(store.write(lambda txn: firing.adopt(txn, db, now)))
        if store.read(lambda txn: timers.is_set(txn, db, now)):
            store.write(lambda txn: timers.note_offset(txn, db, now))
        back = store.read(lambda txn: firing.set_back(txn, db, now))
        if back:
            store.write(lambda txn: firing.begin_again(txn, db, back, now))
        return self._fire()

    def _fire(self) -> _Next:
        store, now = self._store, self._clock()
        db = store.messages
        todo = store.read(lambda txn: firing.plan(txn, db, now, self._batch))
        if not todo.due and not todo.broken:
            return self._store.look(lambda txn: timers.earliest(txn, db, now))
        hit(Point.TIMER_DUE)

        def change(txn: Txn) -> tuple[list[str], _Next]:
            _, complaints = firing.settle(txn, db, todo, now, self._ring)
            return complaints, timers.earliest(txn, db, now)

        complaints, upcoming = store.write(change)
        hit(Point.TIMER_FIRED)
        self._tell(complaints)
        return upcoming

    def _tell(self, complaints: list[str]) -> None:
        for text in complaints:
            self._complain(text, text)
            self._complain(text, "")

    def _ring(self, name: str) -> None:
        """Tell the owner of a box that it is no longer empty; inside the transaction."""
        record = noted(self._table, self._store, name)
        if record is not None:
            self._store.ring(record.mailbox + SUFFIX)

    def _table(self) -> Names:
        if self._names is None:
            self._names = Names(self._run_dir)
        return self._names
