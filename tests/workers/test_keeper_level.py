"""The keeper's care for what is committed, where the store has been closed or opened anew meanwhile."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from regrow.config.spec import Durability
from regrow.ipc.levels import SteadyFile, write_info
from regrow.ipc.store import Store, StoreInfo
from regrow.workers.system import keeper_level
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_watch import Watch
from regrow.workers.system.keeper_complaints import Complaints
from regrow.workers.system.keeper_level import LevelCare
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.keeper_preparing import prepare


class Care:
    """A keeper's, under a clock of the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        (folder / "run" / "mbox").mkdir(parents=True)
        self.place = Place("test", str(folder / "run"), str(folder / "state"), Durability.SYSTEM)
        prepared = prepare(self.place)
        info = StoreInfo(self.place.folder, Durability.SYSTEM)
        write_info(self.place.run_dir, info)
        self.now_s = 1000.0
        self.timers, self.watch = Timers(self.monotonic), Watch()
        stack.callback(self.watch.close)
        self.store = Store(info, self.place.run_dir)
        stack.callback(self.store.shut)
        self.level = LevelCare(self.store, self.place, prepared, self.watch, self.timers, Complaints())
        stack.callback(self.level.close)
        self.level.begin()

    def monotonic(self) -> float:
        return self.now_s

    def pass_time(self) -> None:
        """A second, of which the disk needs less."""
        for _ in range(10):
            self.now_s += 0.1
            self.timers.run()
        if select.select([self.watch], [], [], 0.0)[0]:
            self.watch.turn()

    def commit(self) -> int:
        """Something; returns its transaction."""
        self.store.write(lambda txn: txn.put(b"key", b"value", db=self.store.state))
        self.level.rung()
        return int(self.store.env.info()["last_txnid"])

    def newest(self) -> int:
        """That of the last steady point."""
        steady = SteadyFile(self.place.folder)
        try:
            found = steady.newest()
            assert found is not None
            return found.txnid
        finally:
            steady.close()


@pytest.fixture
def care(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Care]:
    """That of a new store."""
    with ExitStack() as stack:
        made = Care(tmp_path, stack)
        monkeypatch.setattr(keeper_level, "time", made)
        yield made


def test_opened_anew(care: Care) -> None:
    """As after an error of the disk: what is committed becomes a steady point of the new one."""
    last = care.commit()
    care.store.follow()
    care.pass_time()
    assert care.newest() >= last


def test_closed(care: Care) -> None:
    """While the disk is gone there is no steady point, and the keeper goes on; when it is back, there is one."""
    last = care.commit()
    care.store._close_env()
    care.pass_time()
    assert care.newest() < last
    care.store.follow()
    for _ in range(3):
        care.pass_time()
    assert care.newest() >= last
