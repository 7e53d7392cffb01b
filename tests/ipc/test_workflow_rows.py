"""What the store has of a run, up to its end and beyond."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from mockups import MockNode
from msgspec.structs import replace
from storehouse import make_store

from regrow.config.spec import Durability
from regrow.ipc import workflow_rows as rows
from regrow.ipc.posting import Posting
from regrow.ipc.posts import Box
from regrow.ipc.store import MAP_BYTES
from regrow.ipc.transaction import Transaction
from regrow.ipc.workflow_rows import Fault, Status, process_of
from regrow.ipc.workflows import Workflows


@pytest.fixture
def posting(run_dir: Path, tmp_path: Path) -> Iterator[Posting]:
    """Of somebody who starts runs."""
    make_store(run_dir, tmp_path / "state", Durability.PROCESS, MAP_BYTES, **{"order.desk": 0})
    made = Posting(cast(Any, MockNode(str(run_dir))))
    yield made
    made.close()


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.FINISHED])
def test_messages_that_were_not_taken(posting: Posting, status: Status) -> None:
    """They wait for a run that is tried again, whose sender has been told that they are kept; and go with it."""
    runs, store = Workflows(posting), posting.store
    db, box = store.messages, Box(store.messages, process_of("order", "o-1"))
    work = Transaction()
    runs.start(work, "order", (), {}, "o-1")
    posting.commit(work)
    work = Transaction()
    runs.send(work, "o-1", "approval", True, "m-1")
    posting.commit(work)
    run = runs.get("o-1")
    begun = store.write(lambda txn: rows.begin(txn, db, "o-1", run, 1.0))
    fault = Fault("ValueError", "no") if status is Status.FAILED else None
    store.write(lambda txn: rows.end(txn, db, "o-1", replace(begun, status=status, fault=fault), 2.0))
    assert store.read(box.length) == (status is not Status.FINISHED)
    if status is Status.FAILED:
        work = Transaction()
        runs.retry(work, "o-1")
        posting.commit(work)
        assert runs.get("o-1").status is Status.QUEUED
        assert store.read(box.length) == 1
        return
    store.write(lambda txn: rows.forget_all(txn, db, store.state, ["o-1"]))
    assert store.read(box.length) == 0
