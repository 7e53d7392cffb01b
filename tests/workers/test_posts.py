"""Posts and state of agents in processes of their own, without a daemon."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from agents import House
from storehouse import make_store

from regrow.ipc.client import Client
from regrow.ipc.errors import RemoteError

AGENTS = "keeping_agents"


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0)
    return house


def test_state_survives_a_kill(kept: House) -> None:
    """What a handler has returned for is there in the next incarnation."""
    agent = kept.start(f"{AGENTS}:Counter")
    assert [kept.call("agent", "count") for _ in range(3)] == [1, 2, 3]
    kept.call("agent", "append", "x")
    agent.signal(signal.SIGKILL)
    agent.wait()
    kept.start(f"{AGENTS}:Counter")
    assert kept.call("agent", "total") == 3
    assert kept.call("agent", "listed") == ["x"]


def test_an_error_rolls_back(kept: House) -> None:
    """Whether it belongs to the caller or ends the agent: nothing of the handler is left."""
    agent = kept.start(f"{AGENTS}:Counter")
    kept.call("agent", "count", 5)
    with pytest.raises(RemoteError):
        kept.call("agent", "refuse")
    assert kept.call("agent", "total") == 5
    kept.send("agent", "crash")
    assert agent.wait() == 1
    kept.start(f"{AGENTS}:Counter")
    assert kept.call("agent", "total") == 5


def test_posts_take_effect(kept: House) -> None:
    """To a running agent, to one that is not there yet, and through another one."""
    kept.start(f"{AGENTS}:Counter")
    with Client(kept.run_dir) as client:
        for _ in range(100):
            client.post("agent", "count", 2)
        client.post("other", "count", 7)
        client.post("agent", "forward", "other", 3)
        client.post("agent", "forward", "other", 1000, last=True)
        client.post("agent", "count", 1)
        while client.call("agent", "total") != 204:
            pass
    kept.start(f"{AGENTS}:Counter", "other")
    while kept.call("other", "total") != 10:
        pass


def test_whole_object(kept: House) -> None:
    """Changed in place, undone by an error, there after a kill."""
    shop = kept.start(f"{AGENTS}:Shop")
    assert kept.call("agent", "add", "a") == 1
    with pytest.raises(RemoteError):
        kept.call("agent", "refuse", "b")
    assert kept.call("agent", "add", "c") == 2
    shop.signal(signal.SIGKILL)
    shop.wait()
    kept.start(f"{AGENTS}:Shop")
    assert kept.call("agent", "lines") == ["a", "c"]


def test_handlers_that_overtake_each_other(kept: House) -> None:
    """Of `async def` handlers that run at once, none loses what another has changed; and posts are counted too."""
    kept.start(f"{AGENTS}:Waiter")
    requests = [kept.submit("agent", "count") for _ in range(50)]
    with Client(kept.run_dir) as client:
        for _ in range(50):
            client.post("agent", "count")
    for request in requests:
        kept.outcome(request)
    while kept.call("agent", "total") != 100:
        pass
