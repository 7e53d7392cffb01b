"""regrow keys: the keys of clients on other hosts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import fake_daemon
import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon

from regrow.ipc.keys import list_clients, read_client_key

TREE = """
[daemon]
name = "shop"
run_dir = "{run_dir}"
state_dir = "{here}/state"
[hub]
listen = "tcp://127.0.0.1:7311"
clients = ["laptop", "desk"]
operators = ["desk"]
[supervisor.app]
children = ["redis"]
[worker.redis]
command = ["no-such-program-here"]
"""


@pytest.fixture
def file(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the daemon that runs; the present directory is an empty one."""
    file = tmp_path / "shop.toml"
    file.write_text(TREE.format(run_dir=daemon.run_dir, here=tmp_path))
    daemon.handlers["ping"] = lambda _request: {"files": [str(file)]}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return file


def test_add(cli: Cli, file: Path) -> None:
    """The client's file is written here, for its owner alone, and what to do with it is said."""
    done = cli("keys", "add", "laptop")
    assert done.out == (
        "wrote laptop.key: move it to where laptop runs, and nowhere else\n"
        "there: Client('tcp://127.0.0.1:7311', key='laptop.key')\n"
    )
    assert os.stat("laptop.key").st_mode & 0o777 == 0o600
    assert list_clients(str(file.parent / "state"))["laptop"] == read_client_key("laptop.key").public


def test_add_one_that_the_file_does_not_name(cli: Cli, file: Path) -> None:
    """A key alone lets nobody in: what has to be written is said."""
    done = cli("keys", "add", "phone", "--out", "p.key")
    assert done.out.splitlines()[1] == 'now name it in the file, in [hub]: clients = ["phone"]'
    assert Path("p.key").exists()


def test_before_the_daemon_runs(cli: Cli, file: Path, tmp_path: Path) -> None:
    """With --file no daemon is needed, nor the programs that the file names."""
    assert cli("keys", "add", "desk", "--file", str(file), "--run-dir", str(tmp_path)).status == 0
    done = cli("keys", "list", "--run-dir", str(tmp_path))
    assert done.status == 69
    assert done.err.endswith("or name its file: --file FILE\n")


def test_list(cli: Cli, file: Path) -> None:
    """Each client with its public key, and what the file lets it be."""
    for name in ("laptop", "desk", "phone"):
        assert cli("keys", "add", name).status == 0
    rows = json.loads(cli("keys", "list", "--format", "json").out)
    assert {row["name"]: row["admitted_as"] for row in rows} == {"laptop": "client", "desk": "operator", "phone": None}
    lines = cli("keys", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["desk", "laptop", "phone"]
    assert lines[2].endswith("not among the [hub] clients of the file")


def test_make(cli: Cli, file: Path) -> None:
    """The hub's key is made once; its public half is in every client's file."""
    public = cli("keys", "make").out.strip()
    assert cli("keys", "make").out.strip() == public
    cli("keys", "add", "laptop")
    assert read_client_key("laptop.key").server == public.encode()


def test_remove_cuts_off(cli: Cli, file: Path, daemon: FakeDaemon) -> None:
    """The key is gone, and the hub is told to look again."""
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _frame: heard.append(number))
    daemon.entries.append(fake_daemon.entry("regrow.hub", pid=os.getpid()))
    try:
        cli("keys", "add", "laptop")
        assert cli("keys", "remove", "laptop") == (0, "laptop: removed\n", "")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == [signal.SIGHUP]
    assert list_clients(str(file.parent / "state")) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("remove nobody", "cannot remove nobody: there is no such key; see `regrow keys list`"),
        ("add a/b", "'a/b' is no name for a client"),
        ("add laptop", "there is a client laptop already"),
        ("list --file nothing.toml", "nothing.toml"),
    ],
)
def test_refusals(cli: Cli, file: Path, words: str, said: str) -> None:
    """One line, status 1."""
    cli("keys", "add", "laptop")
    done = cli("keys", *words.split())
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err


def test_without_a_word(cli: Cli) -> None:
    """What can be done with keys is said, with the status of a usage error."""
    done = cli("keys")
    assert (done.status, done.out) == (2, "")
    assert "regrow keys [OPTIONS] [COMMAND]" in done.err


def test_address_for_others(cli: Cli, file: Path) -> None:
    """A hub that listens everywhere is found under the host's name."""
    file.write_text(file.read_text().replace("127.0.0.1", "0.0.0.0"))
    assert f"there: Client('tcp://{os.uname().nodename}:7311', key=" in cli("keys", "add", "laptop").out
