"""Agents, other users and strangers: who may run what, and from where."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from commanding import WORKER, Desk, desk_of
from configs import Config
from harness import REGROW
from tree import SUP, Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc import BadRequest, Client
from regrow.ipc import commands_wire as wire

AGENT = """
import subprocess

from regrow.ipc import MessageError
from regrow.workers import Agent, handler


class Busy(Agent):
    @handler
    def run(self, argv: list[str], env: dict[str, str] = {}, user: str | None = None) -> list:
        return told(lambda: self.run_command(argv, env=env, user=user, timeout=20.0))

    @handler
    def below(self, argv: list[str]) -> str:
        done = subprocess.run([REGROW, "run", "--", *argv], capture_output=True, text=True)
        return done.stdout + done.stderr


def told(call) -> list:
    try:
        result = call()
    except MessageError as error:
        return [type(error).__name__, str(error)]
    return [str(result), result.stdout.decode()]
"""
ASYNC = """
import asyncio

from regrow.workers import Agent, handler


class Async(Agent):
    concurrency = 4

    @handler
    async def run(self, argv: list[str]) -> list:
        result = await self.aio.run_command(argv, input=b"fed")
        return [str(result), result.stdout.decode()]

    @handler
    async def lines(self, argv: list[str]) -> list:
        async with await self.aio.start_command(argv) as command:
            await command.write(b"fed")
            await command.end_input()
            found = [line.decode() async for _, line in command.lines()]
            return [*found, str(await command.wait())]

    @handler
    async def give_up(self, argv: list[str]) -> str:
        task = asyncio.ensure_future(self.aio.run_command(argv))
        done, _ = await asyncio.wait([task], timeout=0.3)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "ended"
"""

ALLOW: list[Any] = [
    "id",
    "cat",
    "/usr/bin/env",
    {"program": "echo", "arguments": ["hello", "--*", "*.txt"], "env": ["WORD_*"]},
]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A tree with agents, one of which is another user."""
    with short_directory() as directory:
        directory.chmod(0o755)
        (directory / "busy.py").write_text(f"REGROW = {REGROW!r}\n{AGENT}")
        (directory / "lazy.py").write_text(ASYNC)
        config = Config(directory)
        config.workers["busy"] = {"agent": "busy:Busy"}
        config.workers["other"] = {"agent": "busy:Busy", "user": "games"}
        config.workers["async"] = {"agent": "lazy:Async"}
        config.supervisor(SUP, "busy other async")
        with desk_of(Tree(directory, config), config) as made:
            yield made.open(allow=ALLOW)


def run(desk: Desk, agent: str, *argv: str, **keys: Any) -> list[str]:
    """What the agent is told."""
    return list(call(desk, agent, "run", list(argv), **keys))


def call(desk: Desk, agent: str, handler: str, argv: list[str], **keys: Any) -> Any:
    """What a handler returns, to a client that is gone afterwards."""
    with Client(desk.tree.run_dir) as client:
        return client.call(agent, handler, argv, timeout=TIMEOUT_S, **keys)


def await_event(desk: Desk, kind: str, *words: str) -> None:
    """Wait for an event whose text has these words."""
    desk.tree.stream.wait_events(
        lambda event: event["event"] == kind and all(word in event["text"] for word in words), what=f"{kind} {words}"
    )


def test_allowed(desk: Desk) -> None:
    """An agent runs what the file names, by name or path, as itself."""
    assert run(desk, "busy", "id", "-un") == ["exit 0", "root\n"]
    assert run(desk, "busy", "/usr/bin/id", "-un") == ["exit 0", "root\n"]
    assert run(desk, "busy", "env", "true")[0] == "exit 0"
    assert run(desk, "other", "id", "-un") == ["exit 0", "games\n"]
    assert "for busy (pid" in desk.events("command_started")[0]


def test_not_allowed(desk: Desk) -> None:
    """It runs nothing else; that it tried is an event."""
    kind, text = run(desk, "busy", "uptime")
    assert (kind, "[commands] allow does not name it" in text) == ("Refused", True)
    assert run(desk, "busy", "/tmp/id")[0] == "Refused"
    assert run(desk, "busy", "id", user="nobody")[0] == "Refused"
    assert "uptime for busy" in desk.tree.wait("command_refused", WORKER)["text"]


def test_arguments(desk: Desk) -> None:
    """Each argument and variable must fit a pattern, where the file has any."""
    assert run(desk, "busy", "echo", "hello", "--any", "a.txt")[0] == "exit 0"
    assert run(desk, "busy", "echo", "hello", env={"WORD_A": "1"})[0] == "exit 0"
    assert "the argument a.exe" in run(desk, "busy", "echo", "hello", "a.exe")[1]
    assert "the variable LD_PRELOAD" in run(desk, "busy", "echo", env={"LD_PRELOAD": "x"})[1]


def test_reload() -> None:
    """Changed rules hold from the reload on: a new worker has them, and what ran is ended."""
    with short_directory() as directory:
        config = Config(directory)
        with desk_of(Tree(directory, config), config) as made:
            made.open()
            running = made.start("tail", "-f", "/dev/null")
            running.wait_started()
            made.tree.reload()
            assert not running.done
            config.sections["commands"] = {"max_timeout": "5s"}
            made.tree.reload()
            assert running.wait().reason == "cancelled"
            made.tree.wait("ready", WORKER, count=2)
            with pytest.raises(BadRequest, match="at most 5s"):
                made.client.run_command(["true"])
            assert made.client.run_command(["true"], timeout=5.0).ok


def test_below_an_agent(desk: Desk) -> None:
    """What an agent starts by itself is bound as it is: `regrow run` is no way around."""
    said = call(desk, "busy", "below", ["uptime"])
    assert "does not name it" in said


def test_async(desk: Desk) -> None:
    """The same from an event loop: results, lines, input, and cancelling."""
    assert run(desk, "async", "cat") == ["exit 0", "fed"]
    assert call(desk, "async", "lines", ["cat"]) == ["fed", "exit 0"]
    assert call(desk, "async", "give_up", ["env", "tail", "-f", "/dev/null"]) == "cancelled"
    await_event(desk, "command_ended", "cancelled", "env tail -f /dev/null for async")


def test_agent_killed(desk: Desk) -> None:
    """What an agent waits for ends with it."""
    with Client(desk.tree.run_dir) as client:
        client.send("busy", "run", ["env", "tail", "-n", "1001", "-f", "/dev/null"]).wait(TIMEOUT_S)
        await_event(desk, "command_started", "env tail -n 1001 -f /dev/null", "for busy")
        desk.tree.crash("busy")
        await_event(desk, "command_ended", "cancelled", "env tail -n 1001 -f /dev/null for busy")
        client.wait_for("busy", TIMEOUT_S)


def test_stranger(desk: Desk) -> None:
    """Another user outside of the tree runs nothing."""
    script = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from regrow.ipc.commands import run_command\n"
        "try: print(run_command(sys.argv[1], '', ['id'], None))\nexcept Exception as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", f"import regrow.ipc.commands\n{script}", str(desk.tree.run_dir)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "only operators" in said.stdout, said


GARBAGE = [
    b"",
    b"\0",
    os.urandom(5000),
    wire.HEADER.pack(wire.RUN, 1 << 31),
    wire.frame(wire.RUN, b"\xc1"),
    wire.frame(wire.RUN, os.urandom(300)),
    wire.frame(wire.INPUT, b"x"),
    wire.HEADER.pack(wire.RUN, 100),
    wire.pack(wire.RUN, {"argv": ["a"], "timeout_s": "soon"}),
]


@pytest.mark.parametrize("sent", GARBAGE)
def test_garbage(desk: Desk, sent: bytes) -> None:
    """Whatever is sent, its sender is answered or left; nobody else notices."""
    pid = desk.tree.pid(WORKER)
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.connect(str(desk.tree.run_dir / wire.SOCKET))
            stranger.settimeout(TIMEOUT_S)
            stranger.sendall(sent)
            stranger.shutdown(socket.SHUT_WR)
            answer = stranger.recv(1 << 16)
            assert answer == b"" or answer[0] == wire.REFUSED
    assert desk.client.run_command(["true"]).ok
    assert desk.tree.pid(WORKER) == pid
