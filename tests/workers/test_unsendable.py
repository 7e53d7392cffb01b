"""An agent that is to send what no message can carry: an error that it may catch, and else its own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from agents import House
from storehouse import make_store

from regrow.ipc.errors import ProcessDown
from regrow.ipc.posts import Box
from regrow.ipc.store import Store

AGENTS = "unsendable_agents"


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0)
    return house


@pytest.mark.parametrize(("target", "count"), [("Careful", 7), ("Interleaving", 4)])
def test_caught(kept: House, target: str, count: int) -> None:
    """Each verb says handler and place; the handler's state and its other posts are committed, and nothing else."""
    kept.start(f"{AGENTS}:Careful", "other")
    kept.start(f"{AGENTS}:{target}")
    said = kept.call("agent", "try_all")
    assert len(said) == count
    for _, path, text in said:
        assert path == "$.order[0]"
        assert text == "cannot encode the arguments of note: $.order[0]: no message can carry this object"
    assert kept.call("agent", "tried") == count
    while len(kept.call("other", "noted")) < 2:
        pass
    assert kept.call("other", "noted") == [1, 2]
    with closing(Store.open(str(kept.run_dir))) as store:  # no schedule, and nothing put off
        assert store.read(lambda txn: txn.stat(store.messages)["entries"]) == _rows_of_boxes(store)


def _rows_of_boxes(store: Store) -> int:
    """What two boxes that are empty leave."""
    return store.read(lambda txn: sum(Box(store.messages, name).length(txn) for name in ("agent", "other"))) + 1


def test_uncaught(kept: House) -> None:
    """It ends the agent with its traceback, and nothing of the handler takes effect."""
    agent = kept.start(f"{AGENTS}:Careful")
    with pytest.raises(ProcessDown):
        kept.call("agent", "fail")
    assert agent.wait() == 1
    trace = agent.await_said("X_REGROW_EXCEPTION")
    assert "cannot encode the arguments of note: $.order: no message can carry this object" in trace
    assert "unsendable_agents.py" in trace
    kept.start(f"{AGENTS}:Careful")
    kept.start(f"{AGENTS}:Careful", "other")
    assert kept.call("agent", "tried") == 0
    assert kept.call("other", "noted") == []
