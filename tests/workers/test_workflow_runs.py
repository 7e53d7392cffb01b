"""Runs of workflows, process by process: what is kept, tried again, undone and waited for."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import House
from runs import AGENT, RunHouse

from regrow.ipc import points
from regrow.ipc.client import Client
from regrow.ipc.errors import NoRun, RunCancelled, RunFailed, RunTimeout, WorkflowError
from regrow.ipc.points import Point

Rooms = Callable[[str], RunHouse]

DONE = ["reserve o-1/0", "charge o-1/1", "ship o-1/2"]
UNDONE = [*DONE, "refund o-1/1 10 o-1/1/undo", "release A1"]
POINTS = [
    Point.STEP_BEGUN, Point.STEP_RETURNED, Point.STEP_KEPT,
    Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT,
]  # fmt: skip


@pytest.fixture
def rooms(house: House, tmp_path: Path) -> Rooms:
    """A house for runs of one of the test programs' workflows."""
    return lambda target: RunHouse(house, tmp_path, f"workflows:{target}")


@contextmanager
def killed_at(point: Point, passage: int) -> Iterator[None]:
    """What is forked inside is killed when it passes the point for that time."""
    test, passed = os.getpid(), 0

    def hook(reached: Point) -> None:
        nonlocal passed
        if os.getpid() != test and reached is point:
            passed += 1
            if passed == passage:
                os.kill(os.getpid(), signal.SIGKILL)

    points.install(hook)
    try:
        yield
    finally:
        points.install(None)


def test_a_run_finishes(rooms: Rooms) -> None:
    """Each step once, and the result is there for whoever asks."""
    house = rooms("Order")
    house.begin("o-1", "A1")
    assert house.finish("o-1") == 1
    assert house.notes() == DONE
    with Client(house.house.run_dir) as client:
        assert client.workflow_result("o-1", 1.0) == "shipped for 10"


@pytest.mark.parametrize("name", ["reserve", "charge", "ship"])
def test_a_kill_in_a_step_begins_it_again(rooms: Rooms, name: str) -> None:
    """The steps before it are not done again, and it is told by its key that it is the same call."""
    house = rooms("Order")
    house.begin("o-1", "A1", die=name)
    assert house.finish("o-1") == 2
    again = next(index for index, line in enumerate(DONE) if line.startswith(name))
    assert house.notes() == [*DONE[: again + 1], *DONE[again:]]


def passage_of(point: Point, process: int) -> int:
    """At which passage the n-th process is killed, so that each place is met and there is an end."""
    if point is Point.STEP_KEPT:
        return 1
    return min(process, 2) if point in (Point.STEP_BEGUN, Point.STEP_RETURNED) else process


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.timeout(120)
def test_a_kill_at_each_point(rooms: Rooms, point: Point, undo: bool) -> None:
    """Killed at each passage of a point, one after the other: the same end, and no call that was kept is made again."""
    house = rooms("Order")
    house.begin("o-1", "A1", fail="ship" if undo else "")
    for number in itertools.count(1):
        with killed_at(point, passage_of(point, number)):
            process = house.process("o-1", await_ready=False)
        if process.wait() == 0:
            break
        assert process.status == -signal.SIGKILL, process.printed()
    assert number > 2
    notes = house.notes()
    assert list(dict.fromkeys(notes)) == (UNDONE if undo else DONE)
    if point is Point.STEP_KEPT:
        assert len(set(notes)) == len(notes)
    assert house.shown("o-1")["status"] == ("failed" if undo else "finished")


def test_a_failure_undoes_in_reverse_order(rooms: Rooms) -> None:
    """Each with its result and arguments; then the run has failed, and says why."""
    house = rooms("Order")
    house.begin("o-1", "A1", fail="ship")
    assert house.finish("o-1") == 1
    assert house.notes() == UNDONE
    with Client(house.house.run_dir) as client, pytest.raises(RunFailed, match="ship: Refusal") as failed:
        client.workflow_result("o-1", 1.0)
    assert failed.value.step == "ship"


def test_a_retry_after_undoing_makes_other_calls(rooms: Rooms) -> None:
    """What was undone is done again under another key; what had failed has the key that it had."""
    house = rooms("Order")
    house.begin("o-1", "A1", fail="once ship")
    house.finish("o-1")
    with Client(house.house.run_dir) as client:
        client.retry_workflow("o-1")
        house.finish("o-1")
        assert client.workflow_result("o-1", 1.0) == "shipped for 10"
        with pytest.raises(WorkflowError, match="it is finished"):
            client.retry_workflow("o-1")
    assert house.notes() == [*UNDONE, "reserve o-1/0/1", "charge o-1/1/1", "ship o-1/2"]


def test_exceptions_are_retried(rooms: Rooms) -> None:
    """As often as the step says, and no oftener, over all processes."""
    house = rooms("Order")
    house.begin("o-1", "A1", fail="charge")
    house.begin("o-2", "A1", fail="once charge")
    house.finish("o-1")
    assert house.notes() == ["reserve o-1/0", *["charge o-1/1"] * 3, "release A1"]
    house.finish("o-2")
    assert house.shown("o-2")["status"] == "finished"
    assert house.shown("o-2")["steps"][1]["attempts"] == 2


def test_what_cannot_be_kept_fails_at_once(rooms: Rooms) -> None:
    """Trying again would have the effect again, for nothing."""
    house = rooms("Unkept")
    house.begin("o-1")
    house.finish("o-1")
    shown = house.shown("o-1")
    assert (shown["error"]["type"], shown["steps"][0]["attempts"]) == ("BadState", 1)


def test_another_step_under_the_same_number(rooms: Rooms) -> None:
    """It is refused, and nothing is undone: the code can be put right, and the run tried again."""
    house = rooms("Fickle")
    house.begin("o-1")
    house.finish("o-1")
    error = house.shown("o-1")["error"]
    assert error["type"] == "NotDeterministic"
    assert "call 0 was one and is other now" in error["text"]
    assert house.notes() == ["one", "last"]


def test_posts_of_a_step_leave_with_it(rooms: Rooms) -> None:
    """Killed between its return and its commit: what it has posted is posted once."""
    house = rooms("Posts")
    house.begin("o-1", "agent")
    for number in itertools.count(1):
        with killed_at(Point.STEP_RETURNED, min(number, 2)):
            process = house.process("o-1", await_ready=False)
        if process.wait() == 0:
            break
    assert number == 4
    house.house.start("keeping_agents:Counter")
    while house.house.call("agent", "total") != 3:
        pass


def test_waits_go_on_in_the_next_process(rooms: Rooms) -> None:
    """A sleep has its end, a message is taken once and in order, and a deadline counts from the first call on."""
    house = rooms("Waits")
    house.begin("o-1", 0.3, 1.5)
    began_s = time.monotonic()
    process = house.process("o-1")
    process.signal(signal.SIGKILL)
    process.wait()
    with Client(house.house.run_dir) as client:
        client.send_to_run("o-1", "other", "not for it")
        client.send_to_run("o-1", "paid", {"amount": 3}, message_id="m-1")
        client.send_to_run("o-1", "paid", {"amount": 3}, message_id="m-1")
    assert house.finish("o-1") == 1
    assert 1.7 < time.monotonic() - began_s < 10.0
    with Client(house.house.run_dir) as client:
        assert client.workflow_result("o-1", 1.0) == [{"amount": 3}, None]
        with pytest.raises(WorkflowError, match="it is finished"):
            client.send_to_run("o-1", "paid")
    assert house.notes() == ["slept"]


def test_a_message_wakes_a_run(rooms: Rooms) -> None:
    """It is there before the time is over."""
    house = rooms("Waits")
    house.begin("o-1", 0.0, 3600.0)
    process = house.process("o-1")
    with Client(house.house.run_dir) as client:
        client.send_to_run("o-1", "paid", 1)
        client.send_to_run("o-1", "paid", 2)
        assert client.workflow_result("o-1", 10.0) == [1, 2]
    assert process.wait() == 0


def test_messages_that_a_run_does_not_wait_for(rooms: Rooms) -> None:
    """They stay in its box, and the one that it waits for wakes it all the same."""
    house = rooms("Waits")
    house.begin("o-1", 0.0, 3600.0)
    process = house.process("o-1")
    with Client(house.house.run_dir) as client:
        client.send_to_run("o-1", "other", 0)
        while len(house.shown("o-1")["steps"]) < 3:
            pass  # until it waits for the first one
        client.send_to_run("o-1", "paid", 1)
        while len(house.shown("o-1")["steps"]) < 4:
            pass  # and for the second one
        client.post(process.name, "paid", 2)
        assert client.workflow_result("o-1", 10.0) == [1, 2]
    assert process.wait() == 0


def test_a_stop_leaves_the_run_as_it_is(rooms: Rooms) -> None:
    """The next process goes on, with what comes."""
    house = rooms("Waits")
    house.begin("o-1", 0.0, 3600.0)
    assert house.process("o-1").stop() == 0
    assert house.shown("o-1")["status"] == "running"
    process = house.process("o-1")
    with Client(house.house.run_dir) as client:
        assert client.cancel_workflow("o-1")
        with pytest.raises(RunCancelled):
            client.workflow_result("o-1", 10.0)
        assert not client.cancel_workflow("o-1")
    assert process.wait() == 0


def test_a_step_that_hangs_is_ended(rooms: Rooms) -> None:
    """The kernel kills the process: no handler, no lock and no library can be in the way of that."""
    house = rooms("Late")
    house.begin("o-1", False)
    assert house.finish("o-1") == 2
    assert house.notes() == ["hang", "hang"]


def test_a_second_process_of_a_run_is_not_needed(rooms: Rooms) -> None:
    """Nor is one of a run that is over: it does nothing, and says so."""
    house = rooms("Order")
    house.begin("o-1", "A1")
    args = {"workflow": "order", "target": house.target, "folder": "", "id": "o-1"}
    other = house.house.start(AGENT, "order-o-1.2", args=args, await_ready=False)
    assert other.wait() == 0
    assert other.await_said("X_REGROW_IGNORE") == "1"
    house.finish("o-1")
    late = house.process("o-1", await_ready=False)
    assert late.wait() == 0
    assert late.await_said("X_REGROW_IGNORE") == "1"


def test_nobody_waits_longer_than_the_run(rooms: Rooms) -> None:
    """There is an error for a run that goes on, and one for a run that there is not."""
    house = rooms("Order")
    house.begin("o-1", "A1")
    with Client(house.house.run_dir) as client:
        with pytest.raises(RunTimeout):
            client.workflow_result("o-1", 0.05)
        with pytest.raises(NoRun):
            client.workflow_result("o-2", 0.05)
        with pytest.raises(WorkflowError, match="no workflow refund"):
            client.start_workflow("refund")
        assert client.cancel_workflow("o-1")  # nobody has begun it
        with pytest.raises(RunCancelled):
            client.workflow_result("o-1", 1.0)
