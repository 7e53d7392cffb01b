"""Calls to agents that an apply replaces, moves or removes: each has exactly one outcome, and it is the right one."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from applystorm import BAD, Storm, bad, rolling
from cli import regrow
from tree import short_directory
from wire import TIMEOUT_S

from regrow.ipc.client import Client
from regrow.ipc.control import ControlClient
from regrow.ipc.errors import MessageError, NoProcess, Refused
from regrow.ipc.groups import by_key

CALLS = int(os.environ.get("REGROW_STORM_CALLS") or 400)

SLOW = """
import os, socket
from regrow.workers import Agent, handler

class Slow(Agent):
    @handler
    def work(self, number: int) -> list:
        bell = socket.socket(socket.AF_UNIX)
        bell.connect(os.environ["BELL"])
        bell.recv(1)
        return [number, os.getpid()]

    @handler
    def quick(self, number: int) -> int:
        return number
"""

FILE = """
[daemon]
name = "slow"
run_dir = "{directory}/run"
state_dir = "{directory}/state"
log_dir = "{directory}/log"
[supervisor.app]
children = {children}
[worker.slow]
agent = "slow:Slow"
replicas = {replicas}
env = {{ BELL = "{directory}/bell", VERSION = "{version}" }}
shutdown = "30s"
[worker.other]
command = ["tail", "-f", "/dev/null"]
"""


@pytest.fixture
def storm() -> Iterator[Storm]:
    """A group of four that answers at once."""
    with short_directory() as directory:
        storm = Storm(directory)
        yield storm
        storm.stop()


def test_no_call_fails(storm: Storm) -> None:
    """Callers never notice that all of them are replaced, twice."""
    seen = rolling(storm, CALLS, 2)
    assert seen.failures == []
    assert seen.wrong == 0
    assert seen.answered >= CALLS


@pytest.mark.parametrize("kind", ["fails in init", "never ready"])
def test_a_bad_version_costs_no_call(storm: Storm, kind: str) -> None:
    """What cannot be started has never been in the group."""
    assert kind in BAD
    seen, _told = bad(storm, CALLS, kind)
    assert (seen.failures, seen.wrong) == ([], 0)


class Slowly:
    """A daemon whose agents work until the test lets them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bell = socket.socket(socket.AF_UNIX)
        self.bell.bind(str(directory / "bell"))
        self.bell.listen()
        (directory / "slow.py").write_text(SLOW)
        self.write()
        assert regrow("up", "--detach", directory / "slow.toml").returncode == 0
        self.run_dir = str(directory / "run")
        self.control = ControlClient(self.run_dir, timeout_s=TIMEOUT_S)

    def write(self, children: str = '["slow", "other"]', replicas: int = 2, version: str = "1") -> None:
        """The next file."""
        text = FILE.format(directory=self.directory, children=children, replicas=replicas, version=version)
        if '"slow"' not in children:
            head, _, tail = text.partition("[worker.slow]")
            text = head + "[worker.other]" + tail.partition("[worker.other]")[2]
        (self.directory / "slow.toml").write_text(text)

    def await_event(self, event: str, name: str) -> None:
        """Wait until it has happened."""
        with ControlClient(self.run_dir, timeout_s=TIMEOUT_S) as control:
            for seen in control.follow("events"):
                if (seen["event"], seen["name"]) == (event, name):
                    return
        pytest.fail(f"no event {event} of {name}")

    def close(self) -> None:
        """End it."""
        self.control.close()
        regrow("down", "--run-dir", self.run_dir)
        processes.await_no_children()
        self.bell.close()


@pytest.fixture
def slowly() -> Iterator[Slowly]:
    """Two agents that work until the test lets them."""
    with short_directory() as directory:
        made = Slowly(directory)
        yield made
        made.close()


def calling(run_dir: str, to: str, handler: str, number: int, seen: list[Any]) -> threading.Thread:
    """Call in a thread of its own; what came of it."""

    def call() -> None:
        with Client(run_dir) as client:
            try:
                seen.append(client.call(to, handler, number, timeout=TIMEOUT_S))
            except MessageError as error:
                seen.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_the_agent_that_handles_a_call_is_removed(slowly: Slowly) -> None:
    """The call that it is in is answered, what waited for it is refused once, and only then it is gone."""
    seen: list[Any] = []
    working = calling(slowly.run_dir, "slow.0", "work", 1, seen)
    held, _ = slowly.bell.accept()
    with Client(slowly.run_dir) as client:
        queued = client.send_request("slow.0", "quick", 2)
        sent = client.send("slow.0", "quick", 3)
        sent.wait(TIMEOUT_S)  # what came before it is in the mailbox as well
        slowly.write('["other"]')
        request = slowly.control.submit("apply")
        slowly.await_event("stopping", "slow.0")
        held.close()
        with pytest.raises(Refused) as caught:
            queued.wait_response(TIMEOUT_S)
        told = slowly.control.answer(request, TIMEOUT_S)
        with pytest.raises(NoProcess):
            client.call("slow.0", "quick", 4)
    working.join(TIMEOUT_S)
    assert (told["outcome"], caught.value.code) == ("done", "shutdown")
    assert [answer[0] for answer in seen] == [1]


def _await_replicas(client: Client, replicas: int) -> None:
    """The keeper tells the new number a moment after the apply."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while client._node.replicas("slow") != replicas:
        assert time.monotonic() < deadline_s
        select.select([], [], [], 0.01)


def test_what_waits_for_a_member_goes_to_another(slowly: Slowly) -> None:
    """A call to the group that waits behind a long one is answered by the other member, once."""
    seen: list[Any] = []
    working = calling(slowly.run_dir, "slow.0", "work", 1, seen)
    held, _ = slowly.bell.accept()
    with Client(slowly.run_dir) as client:
        requests = [client.send_request("slow", "quick", number) for number in range(4)]
        client.send("slow.0", "quick", 0).wait(TIMEOUT_S)
        slowly.write(version="2")
        request = slowly.control.submit("apply")
        slowly.await_event("stopping", "slow.0")
        held.close()
        assert [request.wait_response(TIMEOUT_S) for request in requests] == [0, 1, 2, 3]
        assert slowly.control.answer(request, TIMEOUT_S)["outcome"] == "done"
    working.join(TIMEOUT_S)
    assert [answer[0] for answer in seen] == [1]


def test_keys_follow_the_number_of_replicas(slowly: Slowly) -> None:
    """More or fewer members: those that stay keep their process, and keys go by the new number."""
    with Client(slowly.run_dir) as client:
        pids = {name: client.whereis(name) for name in ("slow.0", "slow.1")}
        for replicas in (4, 3, 1):
            slowly.write(replicas=replicas)
            assert slowly.control.request("apply", within_s=TIMEOUT_S)["outcome"] == "done"
            _await_replicas(client, replicas)
            for key in range(8):
                assert client.call(by_key("slow", key), "quick", key, timeout=TIMEOUT_S) == key
                assert client.send(by_key("slow", key), "quick", key)._to == f"slow.{key % replicas}"
        assert client.whereis("slow.0") == pids["slow.0"]
