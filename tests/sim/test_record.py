"""Recorded steps can be taken again, and a damaged record is no reason to fall over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from simulator.scenario import Scenario
from simulator.trees import Size
from simulator.world import Node

from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import Effect
from regrow.daemon.core.events import ChildExited, ChildReady, Event, Exit, ExitReason, Spawned, Started
from regrow.daemon.core.state import SupervisorState, initial
from regrow.daemon.core.supervisor import step
from regrow.daemon.record import SNAPSHOT_EVERY, Recorder, Snapshot, Step
from regrow.daemon.replay import replay

WEB = SupervisorSpec(name="app", children=(WorkerSpec(name="web", kind=Kind.COMMAND),))
CRASH = Exit(ExitReason.EXIT, code=1)
LIFE = (
    (10.0, Started()),
    (10.0, Spawned("web", 1, 100)),
    (10.1, ChildReady("web", 1)),
    (22.304, ChildExited("web", 1, CRASH)),
    (22.304, Spawned("web", 2, 101)),
    (22.4, ChildReady("web", 2)),
)


def recorded(life: tuple[tuple[float, Event], ...] = LIFE, spec: SupervisorSpec = WEB) -> list[bytes]:
    """Take the steps of a life and return their record, line by line."""
    lines: list[bytes] = []
    recorder = Recorder(spec.name, lines.append)
    state = initial(spec)
    for now_s, event in life:
        after, effects = step(state, event, now_s)
        recorder.step(state, event, now_s, after, effects)
        state = after
    return lines


def told(path: Path, lines: list[bytes]) -> list[str]:
    """Replay a record made of these lines; its status is as its last line says."""
    path.write_bytes(b"".join(lines))
    statuses: list[int] = []

    def lines_of() -> Iterator[str]:
        statuses.append((yield from replay(path)))

    texts = list(lines_of())
    assert statuses == [0 if texts[-1].endswith("no decision differs") else 1]
    return texts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a record may be put."""
    return tmp_path / "record"


def test_replay_tells_each_decision(path: Path) -> None:
    """One line a decision: when, what happened, what was decided."""
    assert told(path, recorded()) == [
        "0.000s app: started → spawn web #1",
        "0.100s app: child ready web → ready",
        "12.304s app: exited web (exit, code 1) → restarting web (1 of 3 in 5 s); spawn web #2",
        "6 steps of 1 supervisors replayed; no decision differs",
    ]


def test_first_record_is_a_snapshot() -> None:
    """A record can be read from its first line on: that is the whole state."""
    first, second = (msgspec.json.decode(line) for line in recorded()[:2])
    assert first["record"] == "snapshot"
    assert (second["record"], second["supervisor"], second["n"], second["now_s"]) == ("step", "app", 1, 10.0)
    assert second["event"] == {"type": "Started"}


def test_snapshot_leaves_out_what_nobody_asked_for() -> None:
    """A snapshot of many plain children is short, and yet the whole state."""
    children = tuple(WorkerSpec(name=f"web.{index}", kind=Kind.COMMAND) for index in range(500))
    lines = recorded(LIFE[:1], SupervisorSpec(name="app", children=children))
    assert len(lines[0]) < 500 * 200
    assert msgspec.json.decode(lines[0], type=Snapshot).state == initial(SupervisorSpec(name="app", children=children))


def test_changed_decision_is_found_at_its_line(path: Path) -> None:
    """A digest that does not fit names the line, the step and what is decided now."""
    lines = recorded()
    exited = msgspec.json.decode(lines[4], type=Step)
    lines[4] = msgspec.json.encode(replace(exited, effects_digest=exited.effects_digest ^ 1)) + b"\n"
    texts = told(path, lines)
    assert texts[2].startswith("line 5: app: step 4 (exited web (exit, code 1)) was decided differently; decided now: ")
    assert "restarting web (1 of 3 in 5 s)" in texts[2]
    assert texts[-1].endswith("the first difference is at line 5")


def test_changed_event_shows_in_the_next_snapshot(path: Path) -> None:
    """A snapshot that the steps before it do not lead to is a difference too."""
    lines = recorded()
    snapshot = msgspec.json.decode(lines[0], type=Snapshot)
    lines.append(msgspec.json.encode(replace(snapshot, n=7)) + b"\n")
    texts = told(path, lines)
    assert texts[-2] == "line 8: app: the state recorded before step 7 is not the one its steps lead to"
    assert texts[-1].endswith("the first difference is at line 8")


@pytest.mark.parametrize("garbage", [b"\n", b"{}\n", b"[1\n", b"\xff\xfe\n", b'{"record":"step"}\n', b"null\n"])
def test_garbage_line_is_named_and_passed_over(path: Path, garbage: bytes) -> None:
    """A line that is no record is reported by number, and the rest is replayed."""
    lines = recorded()
    lines.insert(3, garbage)
    texts = told(path, lines)
    assert [text for text in texts if text.startswith("line 4: not a record, passed over (")]
    assert texts[-1] == "6 steps of 1 supervisors replayed; 1 damaged lines passed over; no decision differs"


@pytest.mark.parametrize("lines", [[], [b"# a file\n", b"of something else\n"]])
def test_no_record_at_all(path: Path, lines: list[bytes]) -> None:
    """A file without a decision proves nothing."""
    assert told(path, lines)[-1].endswith("it is no record of decisions, or an empty one")


def test_truncated_last_line_is_named(path: Path) -> None:
    """A record that ends in the middle of a line is replayed up to there."""
    lines = recorded()
    lines[-1] = lines[-1][:20]
    texts = told(path, lines)
    assert texts[-2].startswith("line 7: cut off, passed over (")
    assert texts[-1].startswith("5 steps of 1 supervisors replayed; 1 damaged lines")


def test_rotated_record_begins_at_its_first_snapshot(path: Path) -> None:
    """Steps before the first snapshot are skipped and counted, those after it replayed."""
    ready = tuple((float(number), ChildReady("stranger", 1)) for number in range(SNAPSHOT_EVERY))
    lines = recorded((*LIFE, *ready))
    texts = told(path, lines[3:])
    assert texts == [
        "line 999: app: taken up at its snapshot before step 1001",
        "6 steps of 1 supervisors replayed; 998 skipped for want of a snapshot; no decision differs",
    ]


def test_missing_steps_are_named(path: Path) -> None:
    """Lines that were dropped are a gap: nothing is decided from a state that may be wrong."""
    lines = recorded()
    texts = told(path, [*lines[:3], *lines[4:]])
    assert "line 4: app: steps 3 to 3 are missing, waiting for a snapshot" in texts
    assert texts[-1] == "2 steps of 1 supervisors replayed; 3 skipped for want of a snapshot; no decision differs"


def test_lost_records_bring_a_snapshot() -> None:
    """After `lost` the next step is preceded by the whole state, so the gap stays small."""
    lines: list[bytes] = []
    recorder = Recorder("app", lines.append)
    state = initial(WEB)
    for number in range(3):
        if number == 2:
            recorder.lost()
        recorder.step(state, ChildReady("stranger", 1), 1.0, state, ())
    assert [msgspec.json.decode(line)["record"] for line in lines] == ["snapshot", "step", "step", "snapshot", "step"]


def test_impossible_state_is_a_difference(path: Path) -> None:
    """A state that no supervisor was ever in is told, not raised."""
    lines = recorded()
    snapshot = msgspec.json.decode(lines[0], type=Snapshot)
    lines[0] = msgspec.json.encode(replace(snapshot, state=replace(snapshot.state, slots={}))) + b"\n"
    texts = told(path, lines)
    assert texts[0].startswith("line 2: app: step 1 (started) was decided differently; it is impossible now (KeyError")


@pytest.mark.parametrize("seed", range(8))
def test_simulated_life_is_decided_alike(path: Path, seed: int) -> None:
    """Whatever a whole tree decided in the simulator, mixed in one record, comes out again."""
    lines: list[bytes] = []
    recorders: dict[Node, Recorder] = {}
    scenario = Scenario(f"record/{seed}", size=Size(3, 4), events=1500)

    def witness(
        node: Node, before: SupervisorState, event: Event, at_s: float, after: SupervisorState, done: tuple[Effect, ...]
    ) -> None:
        recorder = recorders.setdefault(node, Recorder(node.name, lines.append))
        recorder.step(before, event, at_s, after, done)

    scenario.world.witness = witness
    assert scenario.run().violation is None
    texts = told(path, lines)
    assert "no decision differs" in texts[-1]
    assert "skipped" not in texts[-1]
