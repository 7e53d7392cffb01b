"""start, stop, restart, reload, down: what they ask, print and wait for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_daemon
import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon, Refusal, event
from terminal import OnTerminal

from regrow.daemon.cli import waiting

REGROW = str(Path(sys.executable).with_name("regrow"))


def environ(run_dir: Path) -> dict[str, str]:
    """The environment of a command meant for that daemon."""
    return {**os.environ, "REGROW_RUN_DIR": str(run_dir)}


@pytest.mark.parametrize(("verb", "result"), [("start", "started"), ("stop", "stopped"), ("restart", "restarted")])
def test_asks_and_prints(cli: Cli, daemon: FakeDaemon, verb: str, result: str) -> None:
    """The names and the time limit go to the daemon; each outcome is a line."""
    done = cli(verb, "redis", "pricer", "--timeout", "90s")
    request = daemon.await_request(verb)
    assert (request["names"], request["timeout_s"]) == (["redis", "pricer"], 90.0)
    assert done.status == 0
    assert done.out.splitlines() == [f"{name}: {result} (pid 5000)" for name in ("redis", "pricer.0", "pricer.1")]


def test_outcomes_as_json(cli: Cli) -> None:
    """--format json prints the list of outcomes."""
    assert json.loads(cli("stop", "redis", "--format", "json").out) == [
        {"name": "redis", "result": "stopped", "pid": 5000}
    ]


def test_unknown_name_is_refused_before_anything_is_done(cli: Cli, daemon: FakeDaemon) -> None:
    """An unknown name among known ones: status 1, and no verb was sent."""
    done = cli("stop", "redis", "nobody")
    assert (done.status, done.err) == (1, "regrow: cannot find 'nobody': no child has this name\n")
    while not daemon.requests.empty():
        assert daemon.requests.get()["verb"] != "stop"


def test_one_outcome_refused(cli: Cli, daemon: FakeDaemon) -> None:
    """What one name was refused goes to stderr; the others are printed; the status is 1."""
    daemon.handlers["start"] = lambda request: [
        {"name": "redis", "result": "started", "pid": 1},
        {"name": "pricer.0", "result": "failed", "error": {"code": "start_failed", "message": "exit 1"}},
    ]
    done = cli("start", "redis", "pricer.0")
    assert done.status == 1
    assert done.out == "redis: started (pid 1)\n"
    assert done.err == "regrow: cannot start pricer.0: exit 1\n"


def test_traceback_becomes_one_line(cli: Cli, daemon: FakeDaemon) -> None:
    """An agent whose `init` raises: what it raised is read at once, the rest is for who looks further."""
    text = 'Traceback (most recent call last):\n  File "shop.py", line 3, in init\nValueError: no currency'
    error = {"code": "start_failed", "message": f"a could not be started: exception, code 1, {text}\n"}
    daemon.handlers["restart"] = lambda request: [{"name": "redis", "result": "refused", "error": error}]
    done = cli("restart", "redis")
    line = "a could not be started: exception, code 1, ValueError: no currency; see `regrow why redis`"
    assert done.err.splitlines() == [f"regrow: cannot restart redis: {line}"]


def test_time_over_names_the_culprit(cli: Cli, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is over says which child held it up, and that it goes on."""
    monkeypatch.setattr(waiting, "GRACE_S", 0.0)
    daemon.entries[1]["state"] = "stopping"
    gate = daemon.hold("stop")
    done = cli("stop", "redis", "--timeout", "50ms")
    gate.set()
    assert done.status == 1
    what = "regrow: cannot see the end of `regrow stop redis` within 50ms"
    assert done.err.startswith(f"{what}: still waiting for redis (stopping, ")
    assert done.err.endswith("); it goes on: look with `regrow status`\n")


def test_daemon_says_time_is_over(cli: Cli, daemon: FakeDaemon) -> None:
    """The daemon's own time-out reads like the client's."""

    def over(request: object) -> None:
        raise Refusal("timeout", "not within 5 s")

    daemon.handlers["stop"] = over
    done = cli("stop", "redis", "--timeout", "5s")
    assert (done.status, "within 5s: the daemon has not said that it is done" in done.err) == (1, True)


def test_no_wait_returns_at_the_first_sign(cli: Cli, daemon: FakeDaemon) -> None:
    """--no-wait returns as soon as an event shows that it has begun."""

    def begin(request: object) -> None:
        daemon.emit(event(1, "stopping", "redis"))
        raise Refusal("timeout", "too late to matter")

    daemon.handlers["stop"] = begin
    done = cli("stop", "redis", "--no-wait")
    assert (done.status, done.out, done.err) == (0, "redis: requested\n", "")


def test_no_wait_still_hears_a_refusal(cli: Cli, daemon: FakeDaemon) -> None:
    """--no-wait reports a refusal that comes at once."""

    def refuse(request: object) -> None:
        raise Refusal("forbidden", "you may look, but not stop")

    daemon.handlers["stop"] = refuse
    done = cli("stop", "redis", "--no-wait")
    assert (done.status, done.err) == (1, "regrow: you may look, but not stop\n")


def test_progress_on_a_terminal(daemon: FakeDaemon) -> None:
    """A long wait names on the terminal what holds it up, and takes the line away at the end."""
    gate = daemon.hold("restart")
    command = OnTerminal([REGROW, "restart", "app"], environ(daemon.run_dir), on=[2])
    daemon.await_request("restart")
    daemon.emit(event(1, "stopping", "redis"))
    command.until("waiting for pricer.1 (waiting, ")
    command.until("redis (stopping, ")
    gate.set()
    status, out = command.end()
    assert status == 0
    assert "redis: restarted (pid 5000)" in out
    assert command.said.endswith("\r\x1b[K")


def test_no_progress_into_a_pipe(cli: Cli) -> None:
    """Without a terminal nothing is written but the outcome."""
    assert cli("restart", "redis").err == ""


def test_interrupted_wait(daemon: FakeDaemon) -> None:
    """^C during a wait ends the command with one line and status 130; the daemon goes on, and the line says so."""
    gate = daemon.hold("stop")
    command = OnTerminal([REGROW, "stop", "redis"], environ(daemon.run_dir), on=[2])
    command.until("waiting for the daemon")
    command.process.send_signal(signal.SIGINT)
    status, _ = command.end()
    gate.set()
    assert status == 130
    assert command.said.endswith("regrow: interrupted; `regrow stop redis` goes on: look with `regrow status`\r\n")


def test_reload_says_what_changed(cli: Cli, daemon: FakeDaemon) -> None:
    """Reload prints what was added, removed and changed."""
    assert cli("reload").out == "reloaded: nothing has changed\n"
    daemon.handlers["reload"] = lambda request: {"added": ["a", "b"], "removed": [], "changed": ["c"]}
    assert cli("reload").out == "reloaded: added a b, changed c\n"
    assert json.loads(cli("reload", "--format", "json").out)["changed"] == ["c"]
    daemon.handlers["reload"] = lambda request: {"supervisors": ["app"], "tables": ["access", "hub"]}
    assert cli("reload").out == "reloaded: supervisors app, [access] [hub] hold from now on\n"
    daemon.handlers["reload"] = lambda request: {"supervisors": [], "tables": ["access"]}
    assert cli("reload").out == "reloaded: [access] holds from now on\n"


def test_reload_of_bad_files(cli: Cli, daemon: FakeDaemon) -> None:
    """Problems of the files are printed as check prints them; status 78."""
    problem = {"file": "a.toml", "line": 3, "key": "worker.web.user", "problem": "no such user", "hint": "", "code": ""}

    def refuse(request: object) -> None:
        raise Refusal("bad_request", "the files have 1 problem", problems=[problem])

    daemon.handlers["reload"] = refuse
    done = cli("reload")
    assert done.status == 78
    assert done.err == (
        "a.toml:3: worker.web.user: no such user\nregrow: nothing has changed\n"
    )
    assert json.loads(cli("reload", "--format", "json").out) == [problem]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A fake root process of its own, which after `down` stays until its stdin is closed."""
    command = [sys.executable, fake_daemon.__file__, str(tmp_path / "lab")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process
        process.kill()


def test_down_waits_for_the_root(root: subprocess.Popen[str], tmp_path: Path) -> None:
    """Down shows who is still stopping and returns when the root process is gone, not before."""
    command = OnTerminal([REGROW, "down"], environ(tmp_path / "lab"), on=[2])
    command.until("waiting for redis (stopping, ")
    assert root.stdin is not None
    root.stdin.close()
    assert command.end() == (0, "shop: stopped\n")
    assert root.wait() == 0
    assert not (tmp_path / "lab").exists()


def test_down_of_a_root_that_is_killed(root: subprocess.Popen[str], tmp_path: Path) -> None:
    """A root that dies before all is stopped is not reported as a good end."""
    command = OnTerminal([REGROW, "down"], environ(tmp_path / "lab"), on=[2])
    command.until("waiting for redis (stopping, ")
    root.kill()
    assert command.end() == (1, "")
    assert "was killed before it was done" in command.said


def test_down_time_over(root: subprocess.Popen[str], tmp_path: Path) -> None:
    """Down that takes too long names who holds it up and how to end it at once."""
    done = subprocess.run(
        [REGROW, "down", "--timeout", "300ms"],
        capture_output=True, text=True, check=False, env=environ(tmp_path / "lab"),
    )  # fmt: skip
    assert done.returncode == 1
    assert "within 300ms: still waiting for redis (stopping, " in done.stderr
    assert done.stderr.endswith("; it goes on; `regrow down --now` kills what is left\n")


def test_down_without_waiting(cli: Cli, daemon: FakeDaemon) -> None:
    """--no-wait asks and returns; --now is passed on."""
    assert cli("down", "--no-wait", "--now").out == "shop: stopping\n"
    assert daemon.await_request("down")["now"] is True
    fact = json.loads(cli("down", "--no-wait", "--format", "json").out)
    assert fact == {"name": "shop", "result": "stopping", "pid": os.getpid()}


def test_down_of_nobody(cli: Cli) -> None:
    """Without a daemon there is nothing to stop: status 69."""
    assert cli("down", "--run-dir", "/nonexistent").status == 69


@pytest.mark.parametrize("time", ["0s", "-1s", "soon", "5 parsecs", "", "1e9h"])
def test_time_that_is_none(cli: Cli, time: str) -> None:
    """--timeout takes a time above zero; anything else is a usage error in one line."""
    done = cli("stop", "redis", "--timeout", time)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("regrow: invalid value for '--timeout': ")


def test_plain_number_is_seconds(cli: Cli, daemon: FakeDaemon) -> None:
    """On the command line a plain number is seconds."""
    cli("stop", "redis", "--timeout", "2.5")
    assert daemon.await_request("stop")["timeout_s"] == 2.5
