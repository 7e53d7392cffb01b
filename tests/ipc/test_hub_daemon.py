"""The hub where it belongs: below a real daemon, which restarts it, and beside agents that need not know."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Daemon

from regrow.ipc.errors import ProcessDown
from regrow.ipc.remote import RemoteClient

AGENTS = """
import os
from regrow.workers import Agent, handler

class Shop(Agent):
    def init(self):
        self.heard = []
        self.subscribe("orders.>")

    def on_signal(self, topic, message):
        self.heard.append(message)

    @handler
    def heard_of(self) -> list:
        return self.heard

    @handler
    def announce(self, number: int) -> None:
        self.publish("orders.placed", number)

    @handler
    def die(self) -> None:
        os._exit(3)
"""
TREE = """
[daemon]
name = "hubtest"
run_dir = "{dir}/run"
state_dir = "{dir}/state"
log_dir = "{dir}/log"
[supervisor.app]
children = ["shop"]
[worker.shop]
agent = "hub_agents:Shop"
replicas = 2
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with two agents, ready."""
    (tmp_path / "hub_agents.py").write_text(AGENTS)
    made = Daemon(tmp_path)
    made.file.write_text(TREE.replace("{dir}", str(tmp_path)))
    try:
        made.start()
        yield made
    finally:
        made.dispose()


def heard(client: RemoteClient, name: str, count: int) -> list[int]:
    """What the agent has heard of, once it is `count` signals; the calls that ask go on until then."""
    found: list[int] = []
    while len(found) < count:
        found = client.call(name, "heard_of", returns=list[int])
    return found


def kill_hub(client: RemoteClient) -> None:
    """SIGKILL, by the pid that the daemon tells."""
    rows = client.control.status(all=True)
    os.kill(next(row["pid"] for row in rows if row["name"] == "regrow.hub"), signal.SIGKILL)


@pytest.mark.slow
def test_the_hub_is_killed(daemon: Daemon) -> None:
    """Ten times: the daemon restarts it, agents' signals pass again, and no event is missed or comes twice."""
    seqs: list[int] = []

    def take(timeout_s: float) -> None:
        if (found := client.next_signal(timeout_s)) is not None:
            seqs.append(found.message["seq"])

    with RemoteClient(str(daemon.run_dir), timeout=20) as client:
        client.subscribe("regrow.event.>", since=0)
        for turn in range(10):
            client.call("shop.0", "announce", turn)
            expected = list(range(turn + 1))
            assert heard(client, "shop.0", turn + 1) == heard(client, "shop.1", turn + 1) == expected
            session = client.session
            kill_hub(client)
            while client.session == session:
                take(0.01)
        last = client.control.events()[-1]["seq"]
        while not seqs or seqs[-1] < last:
            take(20)
    assert seqs == list(range(1, seqs[-1] + 1))


def test_death_is_explained(daemon: Daemon) -> None:
    """The reason of a death is the root's, through the hub: exit status 3, once for the call, once for the monitor."""
    with RemoteClient(str(daemon.run_dir), timeout=20) as client:
        monitor = client.monitor("shop.1")
        with pytest.raises(ProcessDown) as raised:
            client.call("shop.1", "die")
        down = monitor.wait(20)
        assert down is not None
        assert [(found.reason, found.code, found.incarnation) for found in (raised.value.down, down)] == [
            ("exit", 3, 1)
        ] * 2
