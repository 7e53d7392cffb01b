"""Runs of workflows that fail: what is tried again, what cannot be undone, and what they are not given."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agents import House
from runs import RunHouse

from regrow.ipc.client import Client
from regrow.ipc.errors import RunFailed

Rooms = Callable[[str], RunHouse]
FORWARD = ["one", "two", "three"]


@pytest.fixture
def rooms(house: House, tmp_path: Path) -> Rooms:
    """A house for runs of one of the test programs' workflows."""
    return lambda target: RunHouse(house, tmp_path, f"workflows:{target}")


def test_what_cannot_be_undone(rooms: Rooms, tmp_path: Path) -> None:
    """The others are undone nonetheless and the run says so; a retry tries that first, and only then goes on."""
    house = rooms("Stubborn")
    healed = tmp_path / "healed"
    house.begin("o-1", str(healed))
    assert house.finish("o-1") == 1
    assert house.notes() == [*FORWARD, "not two", "not two", "not one"]
    shown = house.shown("o-1")
    assert (shown["status"], shown["error"]["type"]) == ("failed", "Refusal")
    assert (shown["not_undone"]["type"], shown["not_undone"]["text"]) == ("LookupError", "the second stays")
    assert [one["undone"] for one in shown["steps"]] == ["done", "failed", None]
    healed.touch()
    with Client(house.house.run_dir) as client:
        client.retry_workflow("o-1")
    house.finish("o-1")
    shown = house.shown("o-1")
    assert (shown["status"], shown["not_undone"], shown["error"]["type"]) == ("failed", None, "Refusal")
    assert house.notes()[6:] == ["not two"]
    with Client(house.house.run_dir) as client:
        client.retry_workflow("o-1")
    house.finish("o-1")
    assert house.notes()[7:] == [*FORWARD, "not two", "not one"]


def test_an_exception_that_is_final(rooms: Rooms, tmp_path: Path) -> None:
    """What `final` lists is not tried again, however many retries there are."""
    house = rooms("Stubborn")
    (tmp_path / "healed").touch()
    house.begin("o-1", str(tmp_path / "healed"))
    house.finish("o-1")
    assert house.notes().count("three") == 1
    assert house.shown("o-1")["steps"][2]["attempts"] == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [((), r"\$\.healed: missing"), ((1,), r"\$\.healed: expected str, got int"), (("x", "y"), "one too many")],
)
def test_arguments_that_do_not_fit(rooms: Rooms, args: tuple[object, ...], says: str) -> None:
    """The run fails and says which; no step of it was called."""
    house = rooms("Stubborn")
    house.begin("o-1", *args)
    assert house.finish("o-1") == 1
    assert house.notes() == []
    with Client(house.house.run_dir) as client, pytest.raises(RunFailed, match=says) as failed:
        client.workflow_result("o-1", 1.0)
    assert failed.value.type == "BadArguments"


def test_moments(rooms: Rooms) -> None:
    """One that has passed is not waited for; the other one is what it was for the next process too."""
    house = rooms("Until")
    when = datetime.now(UTC) + timedelta(seconds=3600)
    house.begin("o-1", when)
    process = house.process("o-1")
    while house.notes() != ["begun"] or len(house.shown("o-1")["steps"]) < 3:
        pass
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert house.shown("o-1")["steps"][2]["due"] == pytest.approx(when.timestamp(), abs=1e-3)
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    house.begin("o-2", soon)
    assert house.finish("o-2") == 1
    assert datetime.now(UTC) >= soon
    assert house.notes() == ["begun", "begun", "over"]
    with Client(house.house.run_dir) as client:
        assert client.workflow_result("o-2", 1.0) == soon.isoformat()
