"""What verbs say when there is nothing that they could list."""

from __future__ import annotations

import json
from pathlib import Path

import fake_daemon
import lmdb
import pytest
from cli_calls import Cli
from storehouse import make_store

from regrow.config.spec import Durability
from regrow.ipc.names import FOLDER
from regrow.ipc.store import MAP_BYTES

SAID = {
    "applies": "nothing has been applied yet; `regrow plan` says what would be",
    "events": "there are no such events",
    "logs": "nothing has been printed yet",
    "logs redis": "nothing has been printed yet",
    "dead list": "there are no dead letters",
    "state list": "no agent keeps anything yet",
    "state boxes": "there are no posts, and have been none",
    "state timers": "no post is put off, and there are no schedules",
    "workflow list": "there are no runs",
    "keys list": "there are no keys; `regrow keys add NAME` makes one",
}


@pytest.fixture
def young(cli: Cli, daemon: fake_daemon.FakeDaemon, tmp_path: Path) -> Cli:
    """Run `regrow ARGS` on a daemon that has just been started."""
    file = tmp_path / "shop.toml"
    file.write_text(
        f'[daemon]\nrun_dir = "{daemon.run_dir}"\nstate_dir = "{tmp_path}/state"\n'
        '[supervisor.app]\nchildren = ["redis"]\n[worker.redis]\ncommand = ["true"]\n'
    )
    daemon.handlers["applies"] = lambda _request: []
    facts = {"files": [str(file)], "log_dir": f"{tmp_path}/log", "state_dir": f"{tmp_path}/state"}
    hello = daemon.handlers["ping"]
    daemon.handlers["ping"] = lambda request: {**hello(request), **facts}
    run_dir = Path(daemon.run_dir)
    (run_dir / "mbox").mkdir(exist_ok=True)
    lmdb.open(str(run_dir / FOLDER)).close()
    make_store(run_dir, tmp_path / "state", Durability.PROCESS, MAP_BYTES)
    return cli


@pytest.mark.parametrize("words", SAID)
def test_an_empty_list_is_said(young: Cli, words: str) -> None:
    """In one line on stderr, with the status of a success: who counts lines of the output counts none."""
    done = young(*words.split())
    assert (done.status, done.out, done.err) == (0, "", f"regrow: {SAID[words]}\n")


@pytest.mark.parametrize("words", SAID)
def test_an_empty_list_as_json(young: Cli, words: str) -> None:
    """It is the empty list, and for what prints an object a line, nothing; nobody is told more."""
    done = young(*words.split(), "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out or "[]") == []


def test_who_asks_for_no_line(young: Cli) -> None:
    """Is not told that there is none."""
    assert young("logs", "-n", "0").err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("logs -n -1", "invalid value for '-n' / '--lines': -1 is less than 0; see `regrow logs --help`"),
        ("completion", "Choose from: bash, zsh, fish; see `regrow completion --help`"),
    ],
)
def test_mistakes_in_plain_words(cli: Cli, words: str, said: str) -> None:
    """What click says in signs or over several lines is one line of words."""
    done = cli(*words.split())
    assert (done.status, done.err.count("\n"), said in done.err) == (2, 1, True), done.err
