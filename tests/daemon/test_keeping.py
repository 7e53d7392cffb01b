"""What is told of applies whose records are not on disk, or not yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from regrow.config.spec import DaemonSpec, Plan, SupervisorSpec
from regrow.daemon import errand
from regrow.daemon.deploying import records
from regrow.daemon.deploying.keeping import Keeping
from regrow.daemon.deploying.records import Record


class Held:
    """In the place of the root: each errand waits until the test lets it be done."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.errands = self
        self.books = SimpleNamespace(daemon_event=lambda *_: None)
        self.waiting: list[tuple[Callable[[], bytes], Callable[[bytes | errand.Failed], None]]] = []

    def run(self, work: Callable[[], bytes], done: Callable[[bytes | errand.Failed], None]) -> None:
        self.waiting.append((work, done))

    def let(self, number: int = 0, failed: str = "") -> None:
        """Do one of them."""
        work, done = self.waiting.pop(number)
        done(errand.Failed(failed) if failed else work())


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Any."""
    daemon = DaemonSpec(name="test", run_dir=str(tmp_path), state_dir=str(tmp_path), log_dir=str(tmp_path))
    return Plan(daemon, SupervisorSpec("top"))


def record(plan: Plan, id: int, outcome: str, **more: Any) -> Record:
    """One of this plan."""
    return Record(id, 0.0, "uid 7", (), outcome, plan, **more)


def told(held: Held, keeping: Keeping, number: int = -1) -> list[tuple[int, str, str, bool]]:
    """What a list says while whatever is to be written waits."""
    found: list[Any] = []
    keeping.list(lambda: 2, found.append, found.append)
    held.let(number)
    (listed,) = found
    return [(each["id"], each["outcome"], each["reason"], each["present"]) for each in listed]


def test_the_last_word_is_still_to_be_written(plan: Plan) -> None:
    """Who asks meanwhile gets it all the same; one that was never brought to its end was of an earlier daemon."""
    records.write(plan.daemon.state_dir, record(plan, 2, "done"))
    records.write(plan.daemon.state_dir, record(plan, 3, records.UNDER_WAY))
    held = Held(plan)
    keeping = Keeping(held)  # type: ignore[arg-type]
    keeping.keep(record(plan, 4, records.UNDER_WAY))
    held.let()
    before = [(2, "done", "", True), (3, "interrupted", "the daemon ended meanwhile", False)]
    assert told(held, keeping) == [*before, (4, "under_way", "", False)]
    keeping.keep(record(plan, 4, "rolled_back", reason="cancelled by uid 8"))
    expected = [*before, (4, "rolled_back", "cancelled by uid 8", False)]
    assert told(held, keeping) == expected
    held.let(failed="No space left on device")
    assert told(held, keeping) == expected


def test_no_more_are_remembered_than_kept(plan: Plan) -> None:
    """The disk has them."""
    held = Held(plan)
    keeping = Keeping(held)  # type: ignore[arg-type]
    for id in range(1, 100):
        keeping.keep(record(plan, id, "done"))
        held.let()
    assert len(keeping._last) == records.KEPT
    assert len(told(held, keeping)) == records.KEPT


def test_looking_back(plan: Plan) -> None:
    """What an earlier daemon has left under way is told once, with what its files are to it; nothing else is."""
    said: list[tuple[str, str]] = []
    held = Held(plan)
    held.books = SimpleNamespace(daemon_event=lambda *event: said.append(event))
    keeping = Keeping(held)  # type: ignore[arg-type]

    def looks_back(started_at: float = 1.0) -> list[tuple[str, str]]:
        said.clear()
        keeping.look_back(started_at)
        held.let()
        return list(said)

    assert looks_back() == []
    records.write(plan.daemon.state_dir, record(plan, 1, "done"))
    assert looks_back() == []
    records.write(plan.daemon.state_dir, record(plan, 2, records.UNDER_WAY))
    assert looks_back(started_at=0.0) == []  # it is of this daemon
    ((event, text),) = looks_back()
    assert (event, "which are what it was to bring" in text) == ("apply_interrupted", True)
    assert records.read(plan.daemon.state_dir, 2).outcome == "interrupted"
    assert looks_back() == []
    other = replace(plan, root=SupervisorSpec("other"))
    records.write(plan.daemon.state_dir, record(other, 3, records.UNDER_WAY))
    assert looks_back()[0][1].endswith("this one begins with its files")
