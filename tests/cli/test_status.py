"""`regrow status`: both ways through the code say the same, and the fast one is fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon, event

from regrow.daemon.cli import app, fast
from regrow.daemon.cli.lines import ADDED_KEYS, CONTRACT_KEYS

REGROW = str(Path(sys.executable).with_name("regrow"))

PLAIN = [
    [],
    ["redis"],
    ["pricer"],
    ["pricing"],
    ["redis", "pricer.1"],
    ["--all"],
    ["--format", "json"],
    ["--format=json", "redis"],
    ["--format", "text", "pricer.0"],
    ["nobody"],
    ["--name", "nobody"],
    ["--run-dir", "/nonexistent"],
]


def run(daemon: FakeDaemon, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The installed command."""
    return subprocess.run(
        [REGROW, *args],
        capture_output=True, text=True, check=False, timeout=20,
        env={**os.environ, "REGROW_RUN_DIR": str(daemon.run_dir), **environ},
    )  # fmt: skip


@pytest.mark.parametrize("args", PLAIN, ids=" ".join)
def test_fast_path_and_click_agree(
    daemon: FakeDaemon, args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fast path takes every plain use and prints what click's path prints, errors and status included."""
    monkeypatch.setenv("REGROW_RUN_DIR", str(daemon.run_dir))
    daemon.events = [event(1, "restarting", "pricer.0", used=2, intensity=3, period_s=5.0)]
    by_click = (app.run(["status", *args]), *capsys.readouterr())
    by_fast = (fast.status(args), *capsys.readouterr())
    assert by_fast == by_click


@pytest.mark.parametrize(
    "args",
    [["--help"], ["-h"], ["--nonsense"], ["--format"], ["--format", "xml"], ["--debug"], ["--", "-x"], ["--al"]],
    ids=" ".join,
)
def test_fast_path_leaves_the_rest_to_click(args: list[str]) -> None:
    """Help, mistakes and everything unusual go to click, before anything has been done."""
    assert fast.status(args) is None


def test_installed_command(daemon: FakeDaemon) -> None:
    """The command as installed prints a line for each child, without colour into a pipe."""
    done = run(daemon, "status")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "app", "redis", "pricing", "pricer.0", "pricer.1",
    ]  # fmt: skip
    assert "\x1b" not in done.stdout


def test_fast_path_imports_little(daemon: FakeDaemon) -> None:
    """Plain status never imports what is slow to import: click, rich, msgspec, typing, dataclasses, config's loader."""
    source = (
        "import sys\n"
        "sys.argv = ['regrow', 'status']\n"
        "from regrow.daemon.cli.main import main\n"
        "assert main() == 0\n"
        "slow = {'click', 'rich', 'msgspec', 'typing', 'dataclasses', 'importlib.metadata', 'asyncio', 'pathlib',"
        " 'subprocess', 'logging', 'argparse', 'inspect', 'regrow.config.load', 'regrow.config.spec'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True, text=True, check=True, env={**os.environ, "REGROW_RUN_DIR": str(daemon.run_dir)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "slow: []"


def test_json_is_the_contract(cli: Cli) -> None:
    """--format json prints a list in tree order with every key of the contract."""
    entries = json.loads(cli("status", "--format", "json").out)
    assert [entry["path"] for entry in entries] == [
        "app", "app/redis", "app/pricing", "app/pricing/pricer.0", "app/pricing/pricer.1",
    ]  # fmt: skip
    assert {tuple(entry) for entry in entries} == {(*CONTRACT_KEYS, *ADDED_KEYS)}


def test_one_name_gets_the_block(cli: Cli, daemon: FakeDaemon) -> None:
    """One name shows everything: last exit with its text, budget, and the end of its log."""
    daemon.log_dir.mkdir()
    (daemon.log_dir / "pricer.0.log").write_text("".join(f"line {number}\n" for number in range(20)))
    daemon.events = [event(1, "restarting", "pricer.0", used=2, intensity=3, period_s=5.0)]
    out = cli("status", "pricer.0").out
    assert out.startswith("● pricer.0  running (ready)  since ")
    for words in ("2 of 3 in 5 s", "SIGKILL (out of memory)", "│ line two", f"{daemon.log_dir}/pricer.0.log"):
        assert words in out
    assert out.splitlines()[-1].endswith("│ line 19")
    assert "line 9" not in out


def test_supervisor_gets_block_and_children(cli: Cli) -> None:
    """A supervisor's name shows it whole, then a line for each below it."""
    lines = cli("status", "pricing").out.splitlines()
    assert lines[0].startswith("● pricing  running (ready)")
    assert [line.split()[0] for line in lines[-2:]] == ["pricer.0", "pricer.1"]


def test_unknown_name(cli: Cli) -> None:
    """A name that nobody has is refused in one line."""
    done = cli("status", "nobody")
    assert (done.status, done.out) == (1, "")
    assert done.err == "regrow: cannot find 'nobody': no child has this name\n"


def test_daemon_away(daemon: FakeDaemon) -> None:
    """Without a daemon the status is 69 and one line says what, where and what to do."""
    done = run(daemon, "status", "--run-dir", "/nonexistent")
    assert done.returncode == 69
    assert done.stderr == (
        "regrow: cannot reach the daemon at /nonexistent: nothing listens at /nonexistent/control.sock; "
        "start it with `regrow up FILE`\n"
    )


def test_reader_has_seen_enough(daemon: FakeDaemon) -> None:
    """A closed pipe (`regrow status | head -0`) ends the command without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [REGROW, "status"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=20,
        env={**os.environ, "REGROW_RUN_DIR": str(daemon.run_dir)},
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
