"""What a verb prints and nobody can take: one line and status 1, as for any other file that cannot be written."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import fake_daemon
import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon

from regrow.config.exits import USAGE
from regrow.daemon.cli import report, state_store
from regrow.daemon.cli.streams import OutputLost

COMMAND = (sys.executable, "-m", "regrow.daemon.cli.main")
TIMEOUT_S = 30.0
VERBS = (("schema",), ("--help",), ("schema", "--debug"), ("systemd", "show"), ("init", "--help"))


def into_full_disk(*args: str) -> subprocess.CompletedProcess[str]:
    """Run `regrow ARGS`, with a full disk as its output."""
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, *args]
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


@pytest.mark.parametrize("args", [("status",), ("tree",), ("events", "--follow"), ("schema",)], ids=" ".join)
def test_a_reader_who_has_seen_enough(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    """Nothing is said, and the status is what a shell shows of SIGPIPE, at the end of the output or within."""
    reader, writer = os.pipe()
    os.close(reader)
    daemon.emit(fake_daemon.event(1, "ready", "redis"))
    done = subprocess.run(
        [*COMMAND, *args, *(() if args == ("schema",) else ("--run-dir", str(daemon.run_dir)))],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("args", [("status",), ("tree",), ("nope",)], ids=" ".join)
def test_streams_that_are_closed(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    """They lead nowhere: not into what is opened next, and an error is no output."""
    line = shlex.join([*COMMAND, *args, *(() if args == ("nope",) else ("--run-dir", str(daemon.run_dir)))])
    status = 2 if args == ("nope",) else 0
    for closed in (">&-", "<&-", "2>&-", "<&- >&- 2>&-"):
        command = ["sh", "-c", f"{line} {closed}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == status, (closed, done.stderr)
        assert bool(done.stdout) == (status == 0 and ">&-" not in closed.split()), closed
        assert bool(done.stderr) == (status != 0 and "2>&-" not in closed), closed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No room", "/a/file"), "cannot use /a/file: No room"),
        (OSError(errno.EIO, "Fault"), "cannot go on: Fault; it is not the output, and --debug shows where it was"),
        (OutputLost(OSError(errno.ENOSPC, "No room")), "cannot write the output: No room"),
        (PermissionError(errno.EACCES, "Denied", "/"), "cannot use /: Denied; it is for root"),
    ],
)
def test_what_has_no_room(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is blamed for its own faults only; anything else is named."""
    monkeypatch.setattr(report, "drop_output", lambda: None)
    assert report.fail(error) == 1
    assert capsys.readouterr().err == f"regrow: {said}\n"


def test_a_temporary_file_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it lies is said."""
    with pytest.raises(OSError, match="No room") as raised, state_store.spooled():
        raise OSError(errno.ENOSPC, "No room")
    assert raised.value.filename.startswith(tempfile.gettempdir())
    with pytest.raises(OSError, match="No room") as raised, state_store.spooled():
        raise OSError(errno.ENOSPC, "No room", "/a/file")
    assert raised.value.filename == "/a/file"


NOT_UTF8 = os.fsdecode(b"w\xff")


@pytest.mark.parametrize("verb", ["status", "why", "stop", "tree", "plan"])
def test_a_name_that_is_not_utf8(daemon: FakeDaemon, cli: Cli, verb: str) -> None:
    """Is said to be so, and asks nobody."""
    done = cli(verb, NOT_UTF8)
    assert (done.status, done.err.count("\n")) == (USAGE, 1)
    assert "'w\\xff' is not UTF-8" in done.err
    assert daemon.requests.empty()


def test_a_text_that_is_not_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever it is noticed: usage."""
    with pytest.raises(UnicodeEncodeError) as raised:
        NOT_UTF8.encode()
    assert report.fail(raised.value) == 2
    said = "'w\\xff' is not UTF-8, and cannot be such a name or text"
    assert capsys.readouterr().err == f"regrow: {said}\n"


@pytest.mark.parametrize("verb", ["status", "tree", "why", "stop", "events"])
def test_who_was_meant(daemon: FakeDaemon, cli: Cli, verb: str) -> None:
    """The nearest name of the tree is suggested, a group too; not one that is far."""

    def unknown(name: str) -> None:
        def refuse(request: fake_daemon.Fact) -> object:
            if "names" not in request and "name" not in request:
                return daemon_status(request)
            raise fake_daemon.Refusal("not_found", f"there is no {name} in this tree")

        daemon.handlers.update(dict.fromkeys(("status", "why", "stop", "events"), refuse))

    daemon_status = daemon.handlers["status"]
    unknown("rediss")
    assert cli(verb, "rediss").err == "regrow: there is no rediss in this tree; did you mean redis?\n"
    unknown("pricr")
    assert cli(verb, "pricr").err == "regrow: there is no pricr in this tree; did you mean pricer?\n"
    unknown("zzz")
    assert cli(verb, "zzz").err == "regrow: there is no zzz in this tree\n"


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
