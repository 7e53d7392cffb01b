"""Workflows in a real tree: places, names, agents that start runs, processes that are stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import Daemon
from tree import short_directory

from regrow.ipc import AsyncClient, Client, NoRun, RemoteError, RunCancelled, RunFailed

PROGRAMS = Path(__file__).parents[1] / "programs"

FILE = """
[daemon]
name = "runs"
run_dir = "{folder}/run"
state_dir = "{folder}/state"
log_dir = "{folder}/log"

[supervisor.app]
children = ["starter", "waits", "order", "late"]

[worker.starter]
agent = "workflows:Starter"

[workflow.waits]
workflow = "workflows:Waits"
limit = 2
env = {{ JOURNAL = "{folder}/journal" }}

[workflow.order]
workflow = "workflows:Order"
keep = "1ms"
env = {{ JOURNAL = "{folder}/{{name}}" }}

[workflow.late]
workflow = "workflows:Late"
preload = ["workflows"]
env = {{ JOURNAL = "{folder}/late" }}
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A tree with three workflows."""
    with short_directory() as folder:
        (folder / "workflows.py").write_text((PROGRAMS / "workflows.py").read_text())
        (folder / "regrow.toml").write_text(FILE.format(folder=folder))
        made = Daemon(folder)
        try:
            made.start()
            yield made
        finally:
            if made.ready:
                made.down()
            made.dispose()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """Who starts runs."""
    with Client(daemon.run_dir) as made:
        yield made


def until(client: Client, id: str, status: str) -> None:
    """Wait until a run has this status."""
    end_s = time.monotonic() + 20.0
    while client.show_workflow(id)["status"] != status:
        assert time.monotonic() < end_s, client.show_workflow(id)


def statuses(client: Client, ids: list[str]) -> list[str]:
    """Where they are."""
    return [client.show_workflow(id)["status"] for id in ids]


def test_no_more_than_there_is_room_for(client: Client) -> None:
    """The others wait, in their order, and come when one is over or cancelled."""
    ids = [f"limit-{number}" for number in range(4)]
    for id in ids:
        client.start_workflow("waits", 0.0, 3600.0, id=id)
    for id in ids[:2]:
        until(client, id, "running")
    assert statuses(client, ids) == ["running", "running", "queued", "queued"]
    for value in (1, 2):
        client.send_to_run(ids[1], "paid", value)
        client.send_to_run(ids[3], "paid", value)  # it is kept for it
    assert client.workflow_result(ids[1], 20.0) == [1, 2]
    until(client, ids[2], "running")
    assert statuses(client, ids) == ["running", "finished", "running", "queued"]
    assert client.cancel_workflow(ids[0])
    with pytest.raises(RunCancelled):
        client.workflow_result(ids[0], 20.0)
    assert client.workflow_result(ids[3], 20.0) == [1, 2]
    client.cancel_workflow(ids[2])


def test_what_a_handler_starts_begins_with_its_commit(client: Client) -> None:
    """And not at all if it raises; messages and cancellations likewise."""
    assert client.call("starter", "start", "by-agent") == "by-agent"
    with pytest.raises(RemoteError):
        client.call("starter", "start", "never", fail=True)
    with pytest.raises(NoRun):
        client.show_workflow("never")
    until(client, "by-agent", "running")
    with pytest.raises(RemoteError):
        client.call("starter", "answer", "by-agent", 1, fail=True)
    client.call("starter", "answer", "by-agent", 2)
    assert client.workflow_result("by-agent", 20.0) == [2, 2]
    assert client.call("starter", "give_up", "by-agent") is False


def test_any_id_will_do(client: Client) -> None:
    """Also one that looks like a placeholder, or like nothing that a process could be called."""
    for id in ("{name}", "Ümläut / ..", "o" * 190, "-"):
        client.start_workflow("waits", 0.0, 0.0, id=id)
        assert client.workflow_result(id, 20.0) == [None, None]


def test_a_process_that_was_stopped_is_started_again(daemon: Daemon, client: Client) -> None:
    """As soon as anything is looked at: to end a run is to cancel it."""
    client.start_workflow("waits", 0.0, 3600.0, id="stopped")
    until(client, "stopped", "running")
    process = client.show_workflow("stopped")["process"]
    client.wait_for(process)
    client.control.terminate_child("waits.runs", process)
    assert client.show_workflow("stopped")["status"] == "running"
    assert client.cancel_workflow("stopped")
    with pytest.raises(RunCancelled):
        client.workflow_result("stopped", 20.0)


def test_a_step_that_hangs_counts_its_attempts(client: Client) -> None:
    """The process is killed for each of them, and the run goes on with the failure."""
    client.start_workflow("late", True, id="late")
    assert client.workflow_result("late", 30.0).startswith("TimeoutError: ")
    (step,) = client.show_workflow("late")["steps"]
    assert (step["state"], step["attempts"]) == ("failed", 2)


def test_the_supervisor_of_the_runs_is_killed(daemon: Daemon, client: Client) -> None:
    """All runs go on below the next one."""
    ids = ["sup-0", "sup-1", "sup-2"]
    for id in ids:
        client.start_workflow("waits", 0.0, 3600.0, id=id)
    until(client, ids[1], "running")
    (entry,) = [entry for entry in client.control.status() if entry["name"] == "waits.runs"]
    os.kill(entry["pid"], signal.SIGKILL)
    for id in ids:
        client.send_to_run(id, "paid", 1)
        client.send_to_run(id, "paid", 2)
    assert [client.workflow_result(id, 20.0) for id in ids] == [[1, 2]] * 3


def test_runs_that_are_over_are_forgotten(daemon: Daemon, client: Client) -> None:
    """After a while, with all that belongs to them, and their ids are free."""
    client.start_workflow("order", "A1", id="old")
    with suppress(NoRun):  # on a busy machine it is forgotten by then
        assert client.workflow_result("old", 20.0) == "shipped for 10"
    client.start_workflow("order", "A1", id="new", fail="ship")
    with pytest.raises((RunFailed, NoRun)):
        client.workflow_result("new", 20.0)
    while "old" in [run["id"] for run in client.list_workflows("order")]:
        pass


def test_an_event_loop_waits_for_many(daemon: Daemon) -> None:
    """Each verb is awaitable."""

    async def order(regrow: AsyncClient, number: int) -> object:
        id = await regrow.start_workflow("waits", 0.0, 3600.0, id=f"aio-{number}")
        for value in (number, -number):
            await regrow.send_to_run(id, "paid", value)
        return await regrow.workflow_result(id, 30.0)

    async def main() -> list[object]:
        async with AsyncClient(daemon.run_dir) as regrow:
            found = await asyncio.gather(*(order(regrow, number) for number in range(8)))
            assert (await regrow.show_workflow("aio-1"))["status"] == "finished"
            assert await regrow.cancel_workflow("aio-1") is False
            return found

    assert asyncio.run(main()) == [[number, -number] for number in range(8)]
