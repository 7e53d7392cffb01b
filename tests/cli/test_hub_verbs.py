"""publish, subscribe and `events -f` over a real hub."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Cli, Done
from configs import Config
from fake_daemon import FakeDaemon
from tree import SUP, Tree, short_directory
from wire import TIMEOUT_S

from regrow.daemon.cli import app, follow
from regrow.ipc.client import Client
from regrow.ipc.control import ControlClient

PROGRAMS = Path(__file__).parents[1] / "programs"
REGROW = str(Path(sys.executable).with_name("regrow"))
HUB = "regrow.hub"


@pytest.fixture
def tree() -> Iterator[Tree]:
    """Two counters, and with them a hub, which serves."""
    with short_directory() as directory:
        (directory / "talkers.py").write_text((PROGRAMS / "talkers.py").read_text())
        config = Config(directory)
        config.supervisor(SUP, "one two", intensity=1000, period="1s")
        config.workers |= {name: {"agent": "talkers:Counter"} for name in ("one", "two")}
        made = Tree(directory, config)
        try:
            made.grow()
            with Client(made.run_dir) as client:
                assert client.subscribe(follow.EVENTS, timeout=TIMEOUT_S)  # its process runs before it serves
            yield made
        finally:
            made.finish()


@pytest.fixture
def cli_of_tree(tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `regrow ARGS` through click, meant for the tree."""
    monkeypatch.setenv("REGROW_RUN_DIR", str(tree.run_dir))

    def run(*args: str) -> Done:
        status = app.run(args)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run


class Listener:
    """A `regrow ARGS` that goes on printing lines."""

    def __init__(self, tree: Tree, *args: str) -> None:
        command = [REGROW, *args, "--run-dir", str(tree.run_dir)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._buffer = b""
        self.lines: list[str] = []

    def until(self, wanted: Callable[[str], bool]) -> str:
        """Read until a line is as wanted."""
        deadline_s = time.monotonic() + TIMEOUT_S
        assert self.process.stdout is not None
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                self.lines.append(line.decode())
                if wanted(self.lines[-1]):
                    return self.lines[-1]
            assert select.select([self.process.stdout], [], [], max(deadline_s - time.monotonic(), 0))[0], self.lines
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            assert chunk, self.lines
            self._buffer += chunk

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Its exit status and what it said on stderr; with `number`, after that signal."""
        if number is not None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, err.decode()


@pytest.fixture
def listen(tree: Tree) -> Iterator[Callable[..., Listener]]:
    """Start a Listener; all are ended afterwards."""
    with contextlib.ExitStack() as stack:

        def start(*args: str) -> Listener:
            listener = Listener(tree, *args)
            stack.callback(listener.process.wait)
            stack.callback(listener.process.kill)
            stack.callback(listener.process.communicate)
            stack.callback(listener.process.kill)
            return listener

        yield start


def warm(tree: Tree, topic: str) -> None:
    """Publish until somebody listens."""
    deadline_s = time.monotonic() + TIMEOUT_S
    with Client(tree.run_dir) as client:
        while not client.publish(topic, "warm", timeout=TIMEOUT_S):
            assert time.monotonic() < deadline_s


def test_publish_and_subscribe(cli_of_tree: Cli, tree: Tree, listen: Callable[..., Listener]) -> None:
    """What is published is printed by who has subscribed, and by nobody else; -n ends it."""
    listener = listen("subscribe", "shop.>", "lab.*", "-n", "5")
    warm(tree, "shop.warm")
    assert cli_of_tree("publish", "shop.sold", '{"sku": "A1"}') == (0, "shop.sold: for 1 subscriber\n", "")
    assert cli_of_tree("publish", "lab.a.b", "1") == (0, "lab.a.b: for 0 subscribers\n", "")
    assert json.loads(cli_of_tree("publish", "lab.a", "two words", "--format", "json").out) == {
        "topic": "lab.a", "subscribers": 1,
    }  # fmt: skip
    assert cli_of_tree("publish", "shop.x.y").status == 0
    assert cli_of_tree("publish", "shop.x", "a\u001b[2J\nb").status == 0
    listener.until(lambda line: line.startswith("shop.x  "))
    assert listener.lines == [
        "shop.warm  warm", 'shop.sold  {"sku": "A1"}', "lab.a  two words", "shop.x.y  null", "shop.x  a [2J b",
    ]  # fmt: skip
    assert listener.end() == (0, "")


def test_subscribe_as_json(tree: Tree, listen: Callable[..., Listener]) -> None:
    """One object a line; ^C is the way to end it."""
    listener = listen("subscribe", "shop.*", "--format", "json")
    warm(tree, "shop.warm")
    line = listener.until(lambda _line: True)
    assert json.loads(line) == {"topic": "shop.warm", "message": "warm", "lost": 0}
    assert listener.end(signal.SIGINT) == (0, "")


def test_subscriber_notices_the_end(tree: Tree, listen: Callable[..., Listener]) -> None:
    """When the daemon ends, so does who listens: 69."""
    listener = listen("subscribe", "shop.*")
    warm(tree, "shop.warm")
    tree.call("down")
    status, said = listener.end()
    assert (status, said.count("\n")) == (69, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("publish", "regrow.event.x", "1"), "cannot publish: 'regrow.event.x' is not free"),
        (("publish", "a b", "1"), "cannot publish: 'a b' is no topic"),
        (("subscribe", "a..b"), "cannot subscribe: 'a..b' is no pattern"),
    ],
)
def test_refusals(cli_of_tree: Cli, words: tuple[str, ...], said: str) -> None:
    """One line, status 1."""
    done = cli_of_tree(*words)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err


def test_no_hub(cli: Cli, daemon: FakeDaemon) -> None:
    """In a tree without agents there is nobody to publish through; what would change that is said."""
    done = cli("publish", "a", "1")
    assert (done.status, done.out) == (1, "")
    assert "has no hub; the hub comes with the first agent" in done.err


def numbers(lines: list[str]) -> list[int]:
    """The numbers of events as JSON lines."""
    return [json.loads(line)["seq"] for line in lines]


def is_about(name: str, kind: str, incarnation: int) -> Callable[[str], bool]:
    """Whether a line is that event."""

    def check(line: str) -> bool:
        event = json.loads(line)
        return (event["name"], event["event"], event["incarnation"]) == (name, kind, incarnation)

    return check


def test_events_over_the_hub(tree: Tree, listen: Callable[..., Listener]) -> None:
    """The past and what happens, each event once, in order."""
    with ControlClient(tree.run_dir) as control:
        client = follow.hub_client(control)
        assert client is not None
        client.close()
    listener = listen("events", "-f", "--format", "json")
    listener.until(is_about(HUB, "ready", 1))
    tree.crash("one")
    listener.until(is_about("one", "ready", 2))
    tree.call("restart", names=["two"])
    listener.until(is_about("two", "ready", 2))
    seen = numbers(listener.lines)
    assert seen == list(range(1, seen[-1] + 1))
    assert listener.end(signal.SIGINT) == (0, "")


def test_hub_dies_while_events_are_followed(tree: Tree, listen: Callable[..., Listener]) -> None:
    """The change-over to the daemon's socket loses none and doubles none."""
    listener = listen("events", "-f", "--format", "json")
    listener.until(is_about(HUB, "ready", 1))
    for incarnation in (2, 3, 4):
        tree.crash("one")
        if incarnation == 3:
            tree.crash(HUB)
        tree.call("restart", names=["two"])
        listener.until(is_about("two", "ready", incarnation))
    tree.wait("ready", HUB, count=2)
    tree.call("restart", names=["two"])
    listener.until(is_about("two", "ready", 5))
    seen = numbers(listener.lines)
    assert seen == list(range(1, seen[-1] + 1))


def test_events_of_names(tree: Tree, listen: Callable[..., Listener]) -> None:
    """Only what was asked for; the last N of the past."""
    listener = listen("events", "one", "-f", "-n", "1", "--format", "json")
    listener.until(is_about("one", "ready", 1))
    tree.call("restart", names=["two"])
    tree.crash("one")
    listener.until(is_about("one", "ready", 2))
    assert {json.loads(line)["name"] for line in listener.lines} == {"one"}
    assert [json.loads(line)["event"] for line in listener.lines][:2] == ["ready", "exited"]


@pytest.mark.parametrize(
    ("name", "path", "asked", "is_shown"),
    [
        ("web", "app/web", [], True),
        ("web", "app/web", ["web"], True),
        ("web", "app/web", ["app"], True),
        ("web", "app/web", ["we", "redis"], False),
        ("pricer.0", "app/pricing/pricer.0", ["pricer"], True),
        ("pricer.0", "app/pricing/pricer.0", ["pricer.1"], False),
        ("regrow.hub", "regrow.system/regrow.hub", ["regrow"], False),
    ],
)
def test_whom_an_event_concerns(name: str, path: str, asked: list[str], is_shown: bool) -> None:
    """A name means itself, its subtree, its replicas."""
    event: Any = {"name": name, "path": path}
    assert follow.concerns(event, asked) is is_shown


def test_gap_is_filled_by_the_root(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that the hub had to drop, as it does when they are read too slowly, are asked of the root."""
    real = follow.signals

    def holes(*args: Any) -> Iterator[Any]:
        for number, one in enumerate(real(*args)):
            if number not in (1, 2):
                yield one

    monkeypatch.setattr(follow, "signals", holes)
    with ControlClient(tree.run_dir) as control:
        stream = follow.follow(control, [], limit=1)
        first = next(stream)["seq"]
        tree.crash("one")  # exited, restarting, starting, ready
        tree.wait("ready", "one", count=2)
        assert [next(stream)["seq"] for _ in range(4)] == [first + number for number in (1, 2, 3, 4)]
        stream.close()  # type: ignore[attr-defined]
