"""The verbs about the store, on a real daemon and on what it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_calls import Cli, Done
from configs import Config
from tree import Tree, short_directory

from regrow.daemon.cli import app

PROGRAMS = Path(__file__).parents[1] / "programs"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the daemon lives."""
    with short_directory() as made:
        (made / "keeping_agents.py").write_text((PROGRAMS / "keeping_agents.py").read_text())
        yield made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `regrow ARGS`."""

    def call(*args: str) -> Done:
        status = app.run(args)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return call


def grown(directory: Path) -> Tree:
    """A tree with an agent that counts, and a group of two."""
    for socket in ("gate.sock", "notify"):  # of the tree before
        (directory / socket).unlink(missing_ok=True)
    config = Config(directory)
    config.supervisor("sup", "counter pair", intensity=1000, period="1s")
    config.workers |= {
        "counter": {"agent": "keeping_agents:Counter"},
        "pair": {"agent": "keeping_agents:Counter", "replicas": 2},
    }
    return Tree(directory, config).grow()


def test_life_of_a_store(directory: Path, run: Cli) -> None:
    """Posted to, looked into, changed, backed up, verified; then the same without the daemon, and restored to it."""
    where, file = ["--run-dir", str(directory / "run")], ["--file", str(directory / "regrow.toml")]
    tree = grown(directory)
    try:
        for _ in range(2):
            assert run("post", *where, "counter", "count", "n=4", "--id", "once").out == "once\n"
        while run("call", *where, "counter", "total").out != "4\n":
            pass
        assert run("state", "get", *where, "counter", "total").out == "4\n"
        assert run("state", "get", *file, "counter", "total").out == "4\n"
        assert "counter runs" in run("state", "set", *where, "counter", "total", "7").err
        assert run("stop", *where, "counter").status == 0
        assert run("post", *where, "counter", "count", "n=1").status == 0
        assert run("state", "boxes", *where).out.split()[:2] == ["counter", "1"]
        assert run("state", "set", *where, "counter", "total", "7").status == 0
        assert run("start", *where, "counter").status == 0
        while run("call", *where, "counter", "total").out != "8\n":
            pass
        assert run("post", *where, "counter", "count", "n=-1", "--delay", "20ms").status == 0
        assert run("post", *where, "counter", "count", "n=-1", "--at", "2020-01-01T00:00").status == 0
        assert run("post", *where, "counter", "count", "n=9", "--at", "2080-01-01T00:00Z", "--id", "far").status == 0
        while run("call", *where, "counter", "total").out != "6\n":
            pass
        assert run("post", *where, "counter", "count", "n=2").status == 0
        while run("call", *where, "counter", "total").out != "8\n":
            pass
        (late,) = json.loads(run("state", "timers", *where, "--format", "json").out)
        assert late == {"at": 3471292800.0, "name": "counter", "handler": "count", "id": "far", "schedule": None}
        assert run("state", "timers", *where).out.endswith("counter           count             id far\n")
        assert run("post", *where, "counter", "count", "--at", "soon").status == 2
        assert run("state", "verify", *where).out.endswith("pages: ok\n")
        assert run("state", "backup", *where, str(directory / "backup")).status == 0
        assert "stop it with `regrow down`" in run("state", "restore", *file, str(directory / "backup")).err
        assert {one["name"] for one in json.loads(run("state", "size", *where, "--format", "json").out)["owners"]} == {
            "counter"
        }
    finally:
        tree.finish()
    assert run("state", "verify", *file).out.endswith("pages: ok\n")
    assert run("state", "set", *file, "counter", "total", "9").status == 0
    assert run("state", "get", *file, "counter", "total").out == "9\n"
    assert run("state", "compact", *file).status == 0
    assert run("state", "restore", *file, str(directory / "backup")).status == 0
    assert run("dead", "list", *file) == (0, "", "regrow: there are no dead letters\n")
    tree = grown(directory)
    try:
        assert run("call", *where, "counter", "total").out == "8\n"
        assert run("post", *where, "counter", "count", "n=4", "--id", "once").out == "once\n"
        assert run("post", *where, "counter", "count", "n=2").status == 0
        while run("call", *where, "counter", "total").out != "10\n":
            pass
    finally:
        tree.finish()
