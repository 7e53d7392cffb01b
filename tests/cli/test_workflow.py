"""regrow workflow: what it prints and how it fails, against a daemon of straw and a real store."""

from __future__ import annotations

import json
from pathlib import Path

import fake_daemon
import lmdb
import pytest
from cli_calls import Cli
from msgspec import Raw
from msgspec.structs import replace
from storehouse import make_store

from regrow.config.spec import Durability
from regrow.ipc import Client
from regrow.ipc import workflow_rows as rows
from regrow.ipc.names import FOLDER
from regrow.ipc.store import MAP_BYTES, Store
from regrow.ipc.workflow_rows import Fault, Status, Step, StepState


@pytest.fixture
def store(daemon: fake_daemon.FakeDaemon, tmp_path: Path) -> Path:
    """The run_dir of the daemon, with names, a store and the workflow `order`."""
    run_dir = Path(daemon.run_dir)
    (run_dir / "mbox").mkdir(exist_ok=True)
    lmdb.open(str(run_dir / FOLDER)).close()
    make_store(run_dir, tmp_path / "state", Durability.PROCESS, MAP_BYTES, **{"order.desk": 0})
    return run_dir


def come_to(run_dir: Path, id: str, status: Status, fault: Fault | None = None, value: bytes = b"\xc0") -> None:
    """What the process of a run would have kept."""
    store = Store.open(str(run_dir))
    try:
        run = store.read(lambda txn: rows.get(txn, store.messages, id))
        assert run is not None
        over = replace(run, status=status, fault=fault, value=Raw(value))
        step = Step("reserve", state=StepState.DONE, began_at=1.0, value=Raw(value))
        store.write(lambda txn: rows.put_step(txn, store.messages, id, 0, step))
        failed = Step("charge", state=StepState.FAILED, attempts=3, began_at=1.0, fault=fault)
        store.write(lambda txn: rows.put_step(txn, store.messages, id, 1, failed))
        store.write(lambda txn: rows.end(txn, store.messages, id, over, run.created_at + 61.0))
    finally:
        store.close()


def test_start_prints_the_id(cli: Cli, store: Path) -> None:
    """Of several with one id there is one run."""
    assert cli("workflow", "start", "order", "sku=apple", "pieces=3", "--id", "o-1").out == "o-1\n"
    assert cli("workflow", "start", "order", "sku=pear", "--id", "o-1").out == "o-1\n"
    assert json.loads(cli("workflow", "start", "order", "apple", "--id", "o-2", "--format", "json").out) == {
        "id": "o-2",
        "workflow": "order",
    }
    shown = json.loads(cli("workflow", "show", "o-1", "--format", "json").out)
    assert (shown["args"], shown["kwargs"], shown["status"]) == ([], {"sku": "apple", "pieces": 3}, "queued")
    assert [run["id"] for run in json.loads(cli("workflow", "list", "--format", "json").out)] == ["o-1", "o-2"]
    assert cli("workflow", "list", "refund").err.startswith("regrow: there is no workflow refund: ")


def test_a_failed_run_is_shown_and_retried(cli: Cli, store: Path) -> None:
    """Where it has failed, why, and how often that was tried."""
    cli("workflow", "start", "order", "apple", "--id", "o-1")
    come_to(store, "o-1", Status.FAILED, Fault("Declined", "no\nmoney", "charge", 1, "Traceback"))
    (line,) = cli("workflow", "list").out.splitlines()
    assert line.split(maxsplit=4) == ["o-1", "order", "failed", "0:01:01", "charge: Declined: no money"]
    shown = cli("workflow", "show", "o-1").out
    assert "0  done    reserve" in shown
    assert "1  failed  charge                attempt 3, Declined: no money" in shown
    assert "  error: Declined: no money\n    Traceback\n" in shown
    assert cli("workflow", "retry", "o-1").out == "o-1: goes on\n"
    assert json.loads(cli("workflow", "show", "o-1", "--format", "json").out)["status"] == "queued"
    assert cli("workflow", "retry", "o-1").err == "regrow: cannot retry run o-1: it is queued\n"


def test_cancel_and_send(cli: Cli, store: Path) -> None:
    """To a run that waits; one that is over is said to be."""
    cli("workflow", "start", "order", "--id", "o-1")
    assert cli("workflow", "send", "o-1", "paid", '{"amount": 3}').status == 0
    assert cli("workflow", "cancel", "o-1").out == "o-1: is being cancelled\n"
    assert cli("workflow", "cancel", "o-1").err == "regrow: cannot cancel o-1: it is cancelled\n"
    assert cli("workflow", "send", "o-1", "paid").err == "regrow: cannot send to run o-1: it is cancelled\n"


def test_waiting_for_the_result(cli: Cli, store: Path) -> None:
    """What it returns is printed; a failure is one line."""
    cli("workflow", "start", "order", "--id", "o-1")
    come_to(store, "o-1", Status.FINISHED, value=b"\x03")
    assert cli("workflow", "start", "order", "--id", "o-1", "--wait").out == "3\n"
    cli("workflow", "start", "order", "--id", "o-2")
    late = cli("workflow", "start", "order", "--id", "o-2", "--wait", "--timeout", "50ms")
    said = "regrow: run o-2 was not over within 0.05 s; it goes on while its daemon runs\n"
    assert (late.status, late.err) == (1, said)


def test_what_there_is_not(cli: Cli, store: Path) -> None:
    """Neither such a workflow, nor such a run."""
    assert cli("workflow", "start", "refund").err.startswith("regrow: there is no workflow refund: write [workflow.ref")
    assert cli("workflow", "show", "o-9").err.startswith("regrow: there is no run o-9; ")
    with Client(store) as client:
        assert client.list_workflows() == []
