"""What a verb prints and nobody can take: one line and status 1, as for any other file that cannot be written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon

from regrow.daemon.cli import report

TIMEOUT_S = 30.0
VERBS = (("schema",), ("--help",), ("schema", "--debug"), ("systemd", "show"), ("init", "--help"))


def into_full_disk(*args: str) -> subprocess.CompletedProcess[str]:
    """Run `regrow ARGS`, with a full disk as its output."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "regrow.daemon.cli.main", *args]
        return subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize("args", VERBS, ids=" ".join)
def test_full_disk(args: tuple[str, ...]) -> None:
    """No internal error, and nothing of the interpreter's at its end."""
    done = into_full_disk(*args)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "regrow: cannot write the output: No space left on device"
    assert "--debug" in args or done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [("status",), ("status", "--format", "json"), ("tree",)], ids=" ".join)
def test_full_disk_of_who_asks_a_daemon(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    """The fast path too."""
    done = into_full_disk(*args, "--run-dir", str(daemon.run_dir))
    assert (done.returncode, done.stderr) == (1, "regrow: cannot write the output: No space left on device\n")


@pytest.mark.parametrize("verb", ["status", "why", "stop", "tree"])
def test_a_name_that_is_too_long(daemon: FakeDaemon, cli: Cli, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    """Is not repeated in full, and how long it is is said; a long path is."""
    done = cli(verb, "x" * 3000)
    assert done.status != 0
    assert "x" * 140 in done.err
    assert re.search(r"x…\(300\d characters\)", done.err)  # quotes and colons are part of the word
    assert len(done.err) < 600
    path = "/a" * 120
    report.say(f"cannot use {path}: no")
    assert capsys.readouterr().err == f"regrow: cannot use {path}: no\n"
