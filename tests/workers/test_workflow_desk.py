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
from regrow.ipc.posting import Posting
from regrow.ipc.posts import Box
from regrow.ipc.store import MAP_BYTES
from regrow.ipc.transaction import Transaction
from regrow.ipc.workflows import Workflows
from regrow.workers.workflow_desk import DeskRuntime


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
