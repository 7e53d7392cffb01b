"""Posts of agents with an event loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import House
from storehouse import make_store

from regrow.ipc.errors import RemoteError


def test_post_leaves_when_its_handler_commits(house: House, tmp_path: Path) -> None:
    """`aio.post` returns at once and is part of the handler: of one that raises nothing arrives; an id counts once."""
    make_store(house.run_dir, tmp_path / "state", poster=0, counter=0)
    house.start("posting_agents:Poster", "poster")
    house.start("keeping_agents:Counter", "counter")
    with pytest.raises(RemoteError):
        house.call("poster", "forward", "counter", 1000, refuse=True)
    assert [house.call("poster", "forward", "counter", n) for n in (1, 2, 1)] == ["n-1", "n-2", "n-1"]
    house.call("poster", "forward", "counter", 3)
    while house.call("counter", "total") != 6:
        pass
