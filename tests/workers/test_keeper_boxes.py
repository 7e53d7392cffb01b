"""What the keeper does about boxes, also where the store does not let it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agents import House
from mockups import MockAgent
from storehouse import make_store

from regrow.ipc.client import Client
from regrow.ipc.errors import StoreFull
from regrow.ipc.posts import Box
from regrow.ipc.store import Store
from regrow.ipc.transaction import Transaction
from regrow.workers import Agent, handler
from regrow.workers.begun import Begun, folder_beside
from regrow.workers.system import keeper_boxes
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.keeper_boxes import Forgetting
from regrow.workers.system.store_verify import verify_store


class Taking(Agent):
    """Takes posts."""

    @handler
    def take(self) -> None:
        self.state.add("taken")


@pytest.fixture
def kept_run_dir(house: House, tmp_path: Path) -> str:
    """A run_dir with a store that has had posts."""
    make_store(house.run_dir, tmp_path / "state", agent=0)
    return str(house.run_dir)


class FullStore:
    """One in which there is an old id, and no room."""

    messages = None
    path = "/nowhere/state"

    def __init__(self) -> None:
        self.is_full = True
        self.forgotten = 0

    def read(self, _look: Callable[[Any], Any]) -> float | None:
        return None if self.forgotten else 1.0

    def write(self, _change: Callable[[Any], Any]) -> None:
        if self.is_full:
            raise StoreFull("the store", "No space left on device")
        self.forgotten += 1


def test_full_disk() -> None:
    """Ids are forgotten when there is room again; until then the keeper has other things to do."""
    now_s = 0.0
    store, timers = FullStore(), Timers(lambda: now_s)
    Forgetting(cast(Any, store), timers)
    for _ in range(3):
        timers.run()
        assert len(timers) == 1
        now_s += 3600.0
    store.is_full = False
    timers.run()
    assert store.forgotten == 1


def test_ids_are_forgotten_after_a_week(kept_run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within it, two posts with one id are one; then a post with that id is a new one. All go, in parts."""
    monkeypatch.setattr(keeper_boxes, "_AT_ONCE", 2)
    ids = [str(number) for number in range(5)]
    now_s = time.time()
    monkeypatch.setattr(keeper_boxes, "time", SimpleNamespace(time=lambda: now_s))
    clock_s = 0.0
    timers = Timers(lambda: clock_s)
    with Client(kept_run_dir) as client, closing(Store.open(kept_run_dir)) as store:
        Forgetting(store, timers)
        for days, expected in ((0.0, 5), (6.9, 5), (7.1, 10)):
            now_s = time.time() + days * 86_400
            clock_s += 2 * 86_400
            for _ in range(4):
                timers.run()
                clock_s += 0.02
            for id in ids:
                client.post("agent", "take", id=id)
            assert store.read(lambda txn: Box(store.messages, "agent").length(txn)) == expected
        assert [fault for fault in verify_store(store).faults if not fault.startswith("meta: ")] == []


def test_pages_of_those_who_are_gone(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day they go; not those of who lives, nor of who has ended in the middle of a post that is still there."""
    make_store(house.run_dir, tmp_path / "state", agent=0, ended=0, done=0, other=0)
    monkeypatch.setattr(keeper_boxes, "_PAGES_AT_ONCE", 2)
    house.start("poisoned_agents:Taker")
    with Client(house.run_dir) as client:
        client.post("agent", "take", 1)
        client.post("ended", "take", 1)
    while house.call("agent", "got") != [1]:
        pass
    with closing(Store.open(str(house.run_dir))) as store:
        folder = Path(folder_beside(store.path))
        key = store.read(lambda txn: Box(store.messages, "ended").behind(txn, b"", 1, 1)[0][0])
        for name in ("ended", "done", "between", "new"):
            page = Begun(str(folder), name)
            page.mark({"ended": key, "done": key}.get(name, b""))
            page.close()
        (folder / "short").write_bytes(b"")
        for path in folder.iterdir():
            days = 0 if path.name == "new" else 2
            os.utime(path, (time.time() - days * 86_400,) * 2)
        now_s = 0.0
        timers = Timers(lambda: now_s)
        Forgetting(store, timers)
        for _ in range(5):
            timers.run()
            now_s += 0.02
    assert sorted(path.name for path in folder.iterdir()) == ["agent", "ended", "new"]
    assert house.call("agent", "got") == [1]


def test_a_page_that_goes_while_its_agent_begins(kept_run_dir: str, tmp_path: Path) -> None:
    """The keeper has not seen its name yet: the agent sees it before it handles a post, and has another page."""
    agent = MockAgent(kept_run_dir, Taking, "agent")
    agent.begin()
    folder = tmp_path / "state" / "begun"
    (folder / "agent").unlink()
    made = Transaction()
    made.post(agent.posting.write("agent", "take", (), {}))
    agent.posting.commit(made)
    agent.box.look_again()
    agent.work()
    assert Begun.said(str(folder / "agent")) > 0
    inode = (folder / "agent").stat().st_ino
    agent.box.look_again()
    agent.work()
    assert (folder / "agent").stat().st_ino == inode
    agent.close()
