"""tree, top, events, why, logs, replay: what they print of what the daemon knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Generator
from pathlib import Path

import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon, event, last_exit
from terminal import OnTerminal

REGROW = str(Path(sys.executable).with_name("regrow"))


def following(daemon: FakeDaemon, *args: str) -> subprocess.Popen[str]:
    """A command that goes on until it is interrupted."""
    return subprocess.Popen(
        [REGROW, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "REGROW_RUN_DIR": str(daemon.run_dir)},
    )  # fmt: skip


def test_tree(cli: Cli) -> None:
    """Tree draws every child below its supervisor."""
    lines = cli("tree").out.splitlines()
    assert lines[0].startswith("app [rest_for_one] ")
    assert lines[-1].startswith("   └─ pricer.1 ")


def test_tree_as_json(cli: Cli) -> None:
    """As JSON the tree is nested: every entry has a list `children`."""
    (app,) = json.loads(cli("tree", "--format", "json").out)
    assert [child["name"] for child in app["children"]] == ["redis", "pricing"]
    assert [child["name"] for child in app["children"][1]["children"]] == ["pricer.0", "pricer.1"]


def test_events(cli: Cli, daemon: FakeDaemon) -> None:
    """Events prints a line each, and as JSON one object a line."""
    daemon.events = [event(1, "exited", "redis", reason=last_exit()), event(2, "restarting", "redis", cause=1)]
    lines = cli("events").out.splitlines()
    words = [line.split("#")[1].split()[:3] for line in lines]
    assert words == [["1", "exited", "redis"], ["2", "restarting", "redis"]]
    assert lines[1].endswith("because of #1")
    objects = [json.loads(line) for line in cli("events", "--format", "json").out.splitlines()]
    assert objects == daemon.events


def test_events_chosen(cli: Cli, daemon: FakeDaemon) -> None:
    """Names, --since and -n are the daemon's to apply."""
    cli("events", "redis", "--since", "4", "-n", "2")
    request = daemon.await_request("events")
    assert (request["names"], request["since"], request["limit"]) == (["redis"], 4, 2)


def test_events_followed(daemon: FakeDaemon) -> None:
    """-f goes on with what happens, each line at once, until ^C, which is a good end."""
    daemon.events = [event(1, "starting", "redis")]
    with following(daemon, "events", "-f", "--format", "json") as command:
        assert command.stdout is not None
        assert json.loads(command.stdout.readline())["seq"] == 1
        daemon.emit(event(2, "ready", "redis"))
        assert json.loads(command.stdout.readline())["seq"] == 2
        command.send_signal(signal.SIGINT)
        assert command.wait() == 0


def test_events_followed_to_the_end_of_the_daemon(daemon: FakeDaemon) -> None:
    """When the daemon goes, -f ends with status 69 and says so."""
    with following(daemon, "events", "-f") as command:
        daemon.await_request("events")
        daemon.close()
        assert command.stderr is not None
        assert "it closed the connection" in command.stderr.read()
        assert command.wait() == 69


def test_why(cli: Cli, daemon: FakeDaemon) -> None:
    """Why prints the daemon's sentences; as JSON the whole answer with the chain."""
    daemon.events = [event(1, "exited", "redis")]
    assert cli("why", "redis").out == "it runs\nbecause\n"
    answer = json.loads(cli("why", "redis", "--format", "json").out)
    assert set(answer) == {"name", "status", "text", "chain"}
    assert answer["chain"][0]["seq"] == 1


def logged(daemon: FakeDaemon, name: str, text: str) -> Path:
    """A child has printed `text`."""
    daemon.log_dir.mkdir(exist_ok=True)
    path = daemon.log_dir / f"{name}.log"
    path.write_text(text)
    return path


def test_logs_of_one(cli: Cli, daemon: FakeDaemon) -> None:
    """One child's lines are printed as they are, the last -n of them."""
    logged(daemon, "redis", "one\ntwo\nthree\n")
    assert cli("logs", "redis", "-n", "2").out == "two\nthree\n"


def test_logs_of_several(cli: Cli, daemon: FakeDaemon) -> None:
    """Several children's lines carry their names; a supervisor's or a group's name means all below it."""
    logged(daemon, "redis", "up\n")
    logged(daemon, "pricer.0", "zero\n")
    logged(daemon, "pricer.1", "one\n")
    assert cli("logs").out == "pricer.0 | zero\npricer.1 | one\nredis | up\n"
    assert cli("logs", "pricer").out == cli("logs", "pricing").out == "pricer.0 | zero\npricer.1 | one\n"


def test_logs_of_all_are_those_of_children(cli: Cli, daemon: FakeDaemon) -> None:
    """What supervisors decided is in the same directory, and is not what children printed."""
    logged(daemon, "app.steps", '{"record": "step"}\n')
    logged(daemon, "regrow.hub", "internal\n")
    logged(daemon, "redis", "up\n")
    assert cli("logs").out == "redis | up\n"


def test_logs_of_one_that_has_left(cli: Cli, daemon: FakeDaemon) -> None:
    """What a child printed that an apply took away, or never came to be, is there as long as its log is."""
    logged(daemon, "gone", "cannot read my settings\n")
    assert cli("logs", "gone").out == "cannot read my settings\n"
    logged(daemon, "many.0", "zero\n")
    logged(daemon, "redis", "up\n")
    assert cli("logs", "many", "redis").out == "many.0 | zero\nredis | up\n"


def test_logs_as_json(cli: Cli, daemon: FakeDaemon) -> None:
    """As JSON each line is an object with name and line."""
    logged(daemon, "redis", 'said "hello"\n')
    assert json.loads(cli("logs", "redis", "--format", "json").out) == {"name": "redis", "line": 'said "hello"'}


def test_logs_followed(daemon: FakeDaemon) -> None:
    """-f goes on with what is printed, until ^C, which is a good end."""
    path = logged(daemon, "redis", "one\n")
    with following(daemon, "logs", "-f", "redis") as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "one\n"
        with path.open("a") as file:
            file.write("two\n")
        assert command.stdout.readline() == "two\n"
        command.send_signal(signal.SIGINT)
        assert command.wait() == 0


def test_logs_of_an_unknown_name(cli: Cli) -> None:
    """An unknown name is refused rather than waited for."""
    assert cli("logs", "nobody").status == 1


def test_top_into_a_pipe(cli: Cli, daemon: FakeDaemon) -> None:
    """Without a terminal top prints one picture; memory is read from the kernel."""
    daemon.entries[1]["pid"] = os.getpid()
    lines = cli("top").out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "PID", "UP", "CPU", "MEMORY", "RESTARTS", "LAST", "EXIT", "DETAIL"]
    (redis,) = [line for line in lines if "─ redis" in line]
    assert redis.split()[2:6] == ["running", "(ready)", str(os.getpid()), "3:02:11"]
    assert redis.split()[7].endswith("M")


def test_top_on_a_terminal(daemon: FakeDaemon) -> None:
    """Top repaints when something happens, and q ends it."""
    environ = {**os.environ, "REGROW_RUN_DIR": str(daemon.run_dir)}
    command = OnTerminal([REGROW, "top", "--interval", "1h"], environ, columns=120)
    command.until("12 clients")
    daemon.entries[1]["detail"] = "99 clients"
    daemon.emit(event(1, "status", "redis"))
    command.until("99 clients")
    command.type("q")
    assert command.end()[0] == 0


def test_colour_on_a_terminal_only(daemon: FakeDaemon) -> None:
    """On a terminal states are painted and lines cut to its width; NO_COLOR takes the paint away."""
    environ = {**os.environ, "REGROW_RUN_DIR": str(daemon.run_dir)}
    painted = OnTerminal([REGROW, "status"], environ, columns=60)
    assert painted.end()[0] == 0
    assert "\x1b[32mrunning (ready)\x1b[0m" in painted.said
    plain = OnTerminal([REGROW, "status"], {**environ, "NO_COLOR": "1"}, columns=60)
    assert plain.end()[0] == 0
    assert "\x1b" not in plain.said
    assert max(map(len, plain.said.splitlines())) == 60


def test_replay(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay prints what the replayer says, and its verdict is the exit status."""

    def replayed(path: str) -> Generator[str, None, int]:
        yield f"read {Path(path).name}"
        yield "differs"
        return 1

    module = types.ModuleType("regrow.daemon.replay")
    module.__dict__["replay"] = replayed
    monkeypatch.setitem(sys.modules, "regrow.daemon.replay", module)
    log = tmp_path / "events.log"
    log.touch()
    assert cli("replay", str(log)) == (1, "read events.log\ndiffers\n", "")
    assert cli("replay", str(tmp_path / "none")).status == 2
