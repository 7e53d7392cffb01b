"""
What each level of durability has to be done about commits, as long as there are any.

Whoever commits first after a while sets a byte and rings; some time later all commits since are looked after at once,
and the byte is taken back under the writers' lock: so no commit is missed, and without commits nothing happens.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING

import lmdb

from regrow.config.spec import Durability
from regrow.ipc.store import SIGNS, SIGNS_BYTES
from regrow.workers.system.keeper_snapshots import Snapshots
from regrow.workers.system.keeper_steady import GROWTH_BYTES, LONGEST_S, SteadyPoints

if TYPE_CHECKING:
    from regrow.ipc.store import Store
    from regrow.workers.system.hub_timers import Timer, Timers
    from regrow.workers.system.hub_watch import Watch
    from regrow.workers.system.keeper_complaints import Complaints
    from regrow.workers.system.keeper_place import Place
    from regrow.workers.system.keeper_preparing import Prepared

TIDY_S = 10.0
"""At the levels without steady points: so often, while there are commits, the slots of dead readers are cleared."""

SYNC_S = 0.5
"""
When it takes longer to bring a steady point to disk, and the file begins to grow, writers wait until it is there.

Who writes more than the disk takes would have the file grow for ever: the longer it takes, the more is pinned by then.
"""

GLANCE_S = LONGEST_S / 5
"""So often, while a steady point is put off, how much there is to be brought to disk is looked at."""

RETRY_S = 1.0
"""After a steady point that could not be made."""

_DIRTY, _GENERATION = 0, 1


class LevelCare:
    """
    The care for one store, open.

    Raises:
        OSError.
    """

    def __init__(
        self, store: Store, place: Place, prepared: Prepared, watch: Watch, timers: Timers, complaints: Complaints
    ) -> None:
        self._store, self._place, self._prepared = store, place, prepared
        self._watch, self._timers, self._complaints = watch, timers, complaints
        self._level = place.durability
        self._due: Timer | None = None
        self._latest_s = 0.0
        self._is_syncing = False
        self._points: SteadyPoints | None = None
        with open(os.path.join(place.folder, SIGNS), "r+b") as file:
            self._signs = mmap.mmap(file.fileno(), SIGNS_BYTES)
        self._generation = self._signs[_GENERATION]
        self._snapshots = Snapshots(store, place.snapshots, prepared.store_id, watch, complaints.set)

    @property
    def is_replaced(self) -> bool:
        """Whether another store is in the place of this one."""
        return bool(self._signs[_GENERATION] != self._generation)

    def begin(self) -> None:
        """
        What is there now is safe from a loss of power, as far as the level says: before any of it is changed.

        Raises:
            OSError, lmdb.Error, BadMeta: it is not.
        """
        if self._level is Durability.SYSTEM:
            self._points = SteadyPoints(self._store.env, self._place.folder)
            self._points.first(self._forget_commits)
            self._watch.add(self._points.fileno(), self._synced)
            return
        self._store.env.sync(True)
        self._tidy()
        if self._level is Durability.PROCESS:
            before = self._prepared.before
            self._snapshots.begin(lately=before is not None and before.durability is Durability.PROCESS)

    def rung(self) -> None:
        """Somebody commits, or has rung for something else."""
        if not self._signs[_DIRTY] or self._due is not None:
            return
        if self._points is not None:
            self._latest_s = time.monotonic() + LONGEST_S
            self._due = self._timers.after(GLANCE_S, self._glance)
        else:
            self._due = self._timers.after(TIDY_S, self._tidy_up)

    def _glance(self) -> None:
        """A steady point is to be made, or is being made: is it time?"""
        assert self._points is not None
        self._due = None
        is_time = time.monotonic() >= self._latest_s
        try:
            self._points.follow(self._store.env)
            growth = self._points.growth()
            if self._is_syncing and (growth > GROWTH_BYTES or (growth > 0 and is_time)):
                self._points.hold_writers()
        except lmdb.Error:  # it is closed, after an error: who tries to make a point says so
            growth, is_time = 0, True
        if not self._is_syncing and (growth > GROWTH_BYTES or is_time):
            self._make_point()
        else:
            self._due = self._timers.after(GLANCE_S, self._glance)

    def _make_point(self) -> None:
        assert self._points is not None
        try:
            self._points.follow(self._store.env)
            self._is_syncing = self._points.begin(self._forget_commits)
        except lmdb.MapResizedError:  # all read transactions end with the map, the pin too: the next is a first one
            self._store.env.set_mapsize(0)
            self._due = self._timers.after(0.0, self._make_point)
        except (OSError, lmdb.Error) as error:
            self._put_off(error)
        else:
            self._latest_s = time.monotonic() + SYNC_S
            self._due = self._timers.after(GLANCE_S, self._glance) if self._is_syncing else None

    def _synced(self) -> None:
        """All that was committed before it was begun is on disk, or cannot be brought there."""
        assert self._points is not None
        self._is_syncing = False
        if self._due is not None:
            self._due.cancel()
            self._due = None
        try:
            self._points.finish()
        except (OSError, lmdb.Error) as error:
            self._put_off(error)
        else:
            self._complaints.set("steady", "")
            self.rung()  # whoever has rung meanwhile

    def _put_off(self, error: Exception) -> None:
        self._complaints.set("steady", f"what was committed is not certain to be on disk: {error}")
        self._due = self._timers.after(RETRY_S, self._make_point)

    def _tidy_up(self) -> None:
        """There were commits, and perhaps readers that died meanwhile."""
        self._due = None
        try:
            self._tidy()
        except lmdb.MapResizedError:
            self._store.env.set_mapsize(0)
            self._due = self._timers.after(0.0, self._tidy_up)
        except lmdb.Error as error:
            self._complaints.set("tidy", f"what the dead have left in the store stays: {error}")
            self._due = self._timers.after(TIDY_S, self._tidy_up)
        else:
            self._complaints.set("tidy", "")
            if self._level is Durability.PROCESS:
                self._snapshots.due(self._timers)

    def _forget_commits(self) -> None:
        """Under the writers' lock: whoever commits from now on rings."""
        self._signs[_DIRTY] = 0

    def _tidy(self) -> None:
        with self._store.env.begin(write=True) as lock:
            self._forget_commits()
            lock.abort()
        self._store.env.reader_check()

    def sync(self) -> None:
        """
        All that was committed is on disk.

        Raises:
            lmdb.Error: it is not.
        """
        self._store.env.sync(True)

    def last_snapshot(self) -> None:
        """One of the last state, at the level that falls back on it."""
        if self._level is Durability.PROCESS:
            self._snapshots.finish()

    def close(self) -> None:
        if self._points is not None:
            self._watch.remove(self._points.fileno())
            self._points.close()
        self._snapshots.close()
        self._signs.close()
