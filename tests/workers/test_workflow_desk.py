"""The desk of a workflow: what it takes out of its box, and what it leaves there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agents import House
from mockups import MockNode
from storehouse import make_store

from regrow.config.spec import Durability
from regrow.ipc.errors import ControlError, Refused, StoreError, StoreFull
from regrow.ipc.posting import Posting
from regrow.ipc.posts import Box
from regrow.ipc.store import MAP_BYTES
from regrow.ipc.transaction import Transaction
from regrow.ipc.workflows import Workflows
from regrow.workers.ending import of_reason
from regrow.workers.workflow_desk import AGAIN_S, LATER_S, SOON_S, DeskRuntime


@pytest.fixture
def posting(house: House, tmp_path: Path) -> Iterator[Posting]:
    """Of somebody who starts runs."""
    make_store(house.run_dir, tmp_path / "state", Durability.PROCESS, MAP_BYTES, **{"order.desk": 0})
    made = Posting(cast(Any, MockNode(str(house.run_dir))))
    yield made
    made.close()


def test_more_than_are_taken_at_once(posting: Posting) -> None:
    """It looks until its box is empty: before that, nobody would wake it."""
    work, runs = Transaction(), Workflows(posting)
    for number in range(10_001):
        runs.start(work, "order", (), {}, f"o-{number}")
    posting.commit(work)
    store = posting.store
    agent = SimpleNamespace(workflow="order", limit=2, keep_s=1e6)
    desk = cast(Any, SimpleNamespace(posting=posting, name="order.desk", agent=agent))
    for is_all, left in ((False, 1), (True, 0)):
        assert store.write(lambda txn: DeskRuntime._take(desk, txn))[2] is is_all
        assert store.read(lambda txn: Box(store.messages, "order.desk").length(txn)) == left


class Asking(DeskRuntime):
    """A desk without a daemon: `replies` is what the root says, one after the other, and then it is told to end."""

    def __init__(self, *replies: ControlError | StoreError | None) -> None:
        self.replies, self.waited, self.said = list(replies), cast("list[float | None]", []), cast("list[str]", [])
        self.posts = cast(Any, SimpleNamespace(is_due=False))
        self.node = cast(Any, SimpleNamespace(receive=self._receive))
        self.complaints = cast(Any, SimpleNamespace(make=lambda text, to_supervisor: self.said.append(text)))
        self.agent = cast(Any, SimpleNamespace(workflow="order"))
        self.ending = None

    def _look(self) -> bool:
        error = self.replies.pop(0)
        if error is not None:
            raise error
        return True

    def _receive(self, timeout_s: float | None) -> None:
        self.waited.append(timeout_s)
        if not self.replies:
            self.ending = of_reason("normal")


def test_root_has_not_heard_of_the_supervisor_yet() -> None:
    """
    After an escalation it is asked before it knows that the runs have a supervisor again, or while that one stops: the
    desk asks again, and does not wait for something to come to it.
    """
    desk = Asking(Refused("noproc", "order.runs is not running"), Refused("shutdown", "it stops"), None)
    desk.serve()
    assert (desk.waited, desk.said) == ([SOON_S, 2 * SOON_S, None], [])


def test_the_runs_are_stopped_for_long() -> None:
    """An operator has stopped their supervisor alone, and may start it again: it is asked less and less often."""
    desk = Asking(*[Refused("noproc", "order.runs is not running")] * 8, None)
    desk.serve()
    assert (desk.waited, desk.said) == ([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LATER_S, LATER_S, None], [])


def test_something_else_is_wrong() -> None:
    """It is told, and tried again later."""
    desk = Asking(StoreFull("store", "no room"), None)
    desk.serve()
    assert desk.waited == [AGAIN_S, None]
    assert [text.startswith("runs of order wait: no room in the store") for text in desk.said] == [True]
