"""regrow dead: what it shows of posts that could not be handled, and how they are handled after all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import House
from cli_calls import Cli, Done
from fake_daemon import FakeDaemon
from filled_store import TRACE, content, make_filled
from msgspec.structs import replace
from storehouse import make_store

from regrow.daemon.cli import app
from regrow.ipc import deadletters
from regrow.ipc.client import Client
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.store_site import Site


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A store with two dead letters, which no daemon has."""
    return make_filled(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `regrow ARGS`."""

    def call(*args: str) -> Done:
        status = app.run(args)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return call


@pytest.fixture
def dead(run: Cli, place: Place) -> Cli:
    """Run `regrow dead ARGS` on that store."""
    return lambda *args: run("dead", args[0], "--state-dir", place.state_dir, *args[1:])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A run_dir with a store, in which agents can be started."""
    made = House(tmp_path)
    make_store(made.run_dir, tmp_path / "state", agent=0)
    try:
        yield made
    finally:
        made.close()


def test_list(dead: Cli) -> None:
    """The oldest first, each in a line, those of one agent when it is named."""
    lines = dead("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert "counter.crash" in lines[0]
    assert lines[0].endswith("attempts     RuntimeError: crashed on purpose")
    assert lines[1].endswith("expired")
    found = json.loads(dead("list", "other", "--format", "json").out)
    assert [(one["number"], one["to"], one["cause"], one["attempts"]) for one in found] == [(2, "other", "expired", 0)]
    assert json.loads(dead("drop", "--all", "other", "--format", "json").out)[0]["number"] == 2
    assert json.loads(dead("list", "other", "--format", "json").out) == []


@pytest.mark.parametrize("args", [("list",), ("list", "--format", "json"), ("drop", "--all"), ("retry", "--all")])
def test_names_that_nobody_has(dead: Cli, args: tuple[str, ...]) -> None:
    """Are said, and whose name may have been meant; a name that has no letter is no mistake."""
    done = dead(*args, "conter")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"regrow: cannot {args[0]} dead letters to 'conter': no agent has that name; did you mean counter?\n"
    )
    assert dead(*args, "zzz").err.endswith("no agent has that name; see `regrow status`\n")


def test_damaged(dead: Cli, place: Place) -> None:
    """The row is named with what to do, and that is what helps; all others are told of then."""
    with Site(place).writing() as store:
        store.write(lambda txn: txn.put(deadletters.key_of(1), b"?", db=store.messages))
    for args in (("list",), ("show", "1"), ("retry", "1"), ("retry", "--all")):
        done = dead(*args)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("regrow: cannot read dead letter 1 in the store, row b'd")
        assert "`regrow dead drop 1` forgets it" in done.err
    assert dead("drop", "1").status == 0
    assert [line.split()[0] for line in dead("list").out.splitlines()] == ["2"]
    with Site(place).writing() as store:
        store.write(lambda txn: txn.put(deadletters.key_of(2), b"?", db=store.messages))
    assert dead("drop", "--all").status == 0
    assert dead("list").out == ""


def test_a_handler_with_control_characters(dead: Cli, place: Place) -> None:
    """Whoever posts chooses the name: a terminal gets none of them, a program gets it as it is."""
    with Site(place).writing() as store:

        def rename(txn: Any) -> None:
            letter = deadletters.get(txn, store.messages, 1)
            assert letter is not None
            odd = replace(letter, post=replace(letter.post, handler="\x1b]0;x\x07"))
            txn.put(deadletters.key_of(1), deadletters.encode(odd), db=store.messages)

        store.write(rename)
    for args in (("list",), ("show", "1"), ("retry", "1")):
        done = dead(*args)
        assert done.status == 0
        assert "]0;x" in done.out
        assert not {"\x1b", "\x07"} & set(done.out)


def test_show(dead: Cli) -> None:
    """Each attempt with its time, incarnation, reason and traceback."""
    lines = dead("show", "1").out.splitlines()
    assert lines[0] == "dead letter 1: counter crash"
    assert "  args      [1]" in lines
    assert '  kwargs    {"why": "x"}' in lines
    attempts = [line for line in lines if line.startswith("  attempt")]
    assert [line.rpartition(", ")[2] for line in attempts] == [f"incarnation {n}: exception" for n in (1, 2, 3)]
    assert lines.count("    RuntimeError: crashed on purpose") == 3
    found = json.loads(dead("show", "1", "--format", "json").out)
    assert found["post"]["args"] == [1]
    assert [failure["text"] for failure in found["post"]["failures"]] == [TRACE] * 3
    assert "expired" in dead("show", "2").out


def test_retry_and_drop_without_a_daemon(dead: Cli, place: Place) -> None:
    """Numbers, all of an agent, all: what is posted again is in its box, what is dropped is nowhere."""
    before = content(place)["messages"]
    done = dead("retry", "1", "7")
    assert (done.status, done.out) == (1, "")
    assert "cannot retry 7: there is no such dead letter" in done.err
    assert content(place)["messages"] == before
    assert dead("retry", "--all", "counter").out == "1: counter crash posted again\n"
    assert len(content(place)["messages"]) == len(before)
    found = json.loads(dead("drop", "2", "2", "--format", "json").out)
    assert found == [{"number": 2, "to": "other", "result": "dropped"}]
    for nothing in (("drop", "--all"), ("list",)):
        assert dead(*nothing) == (0, "", "regrow: there are no dead letters\n")


@pytest.mark.parametrize("args", ["retry", "drop x", "drop 0", "retry --all a b", "show x"])
def test_usage(dead: Cli, args: str) -> None:
    """What is no number is said to be none."""
    done = dead(*args.split())
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)


def test_retry_rings(house: House, run: Cli) -> None:
    """An agent that runs handles at once what is posted to it again, and what was posted from the command line."""
    daemon = FakeDaemon(house.run_dir)
    where = ["--run-dir", str(house.run_dir)]
    try:
        house.start("keeping_agents:Counter")
        assert run("post", *where, "agent", "count", "n=5", "--id", "a").out == "a\n"
        done = run("post", *where, "agent", "nothing", "--format", "json")
        assert set(json.loads(done.out)) == {"name", "id"}
        run("post", *where, "agent", "count", "n=5", "--id", "a")
        with Client(house.run_dir) as client:
            while client.call("agent", "total") != 5:
                pass
            while not (found := json.loads(run("dead", "list", *where, "--format", "json").out)):
                client.call("agent", "total")
            assert [(one["handler"], one["cause"]) for one in found] == [("nothing", "bad_request")]
            assert "no handler nothing" in run("dead", "show", *where, "1").out
            assert run("dead", "retry", *where, "1").out == "1: agent nothing posted again\n"
            while not json.loads(run("dead", "list", *where, "--format", "json").out):
                client.call("agent", "total")
        assert "cannot post to nobody" in run("post", *where, "nobody", "count").err
        assert run("post", *where, "agent", "count", "--expires", "0s").status == 2
    finally:
        daemon.close()


def test_state_of_a_running_agent(house: House, run: Cli) -> None:
    """It is looked at while the agent runs, and changed when it does not; what concerns the whole store is refused."""
    daemon = FakeDaemon(house.run_dir)
    where = ["--run-dir", str(house.run_dir)]
    try:
        agent = house.start("keeping_agents:Counter")
        house.call("agent", "count", 3)
        assert run("state", "get", *where, "agent", "total").out == "3\n"
        for args in (("set", "agent", "total", "9"), ("delete", "agent", "total")):
            done = run("state", args[0], *where, *args[1:])
            assert done.status == 1
            assert f"agent runs (pid {agent.pid})" in done.err
            assert "regrow stop agent" in done.err
        for verb, *more in (["compact"], ["restore", str(house.run_dir / "store")]):
            done = run("state", verb, *where, *more)
            assert done.status == 1
            assert "stop it with `regrow down`" in done.err
        backup = house.folder / "backup"
        assert run("state", "backup", *where, str(backup)).status == 0
        assert backup.stat().st_size > 4096
        agent.stop()
        assert run("state", "set", *where, "agent", "total", "40").status == 0
        house.start("keeping_agents:Counter")
        assert house.call("agent", "count", 2) == 42
        facts = json.loads(run("state", "boxes", *where, "--format", "json").out)
        assert facts == []
    finally:
        daemon.close()
