"""Runs of workflows, process by process: what is kept, tried again, undone and waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from agents import House
from runs import RunHouse

from regrow.ipc.client import Client
from regrow.ipc.errors import RunFailed

Rooms = Callable[[str], RunHouse]


@pytest.fixture
def rooms(house: House, tmp_path: Path) -> Rooms:
    """A house for runs of one of the test programs' workflows."""
    return lambda target: RunHouse(house, tmp_path, f"workflows:{target}")


def test_a_run_finishes(rooms: Rooms) -> None:
    """Each step once, and the result is there for whoever asks."""
    house = rooms("Order")
    house.begin("o-1", "A1")
    assert house.finish("o-1") == 1
    assert house.notes() == ["reserve o-1/0", "charge o-1/1", "ship o-1/2"]
    with Client(house.house.run_dir) as client:
        assert client.workflow_result("o-1", 1.0) == "shipped for 10"
