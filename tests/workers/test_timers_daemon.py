"""Timers of a whole daemon."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from configs import Config
from tree import SUP, Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc import Client, MessageError

PROGRAM = Path(__file__).parents[1] / "programs" / "timing_agents.py"


@pytest.fixture
def config() -> Iterator[Config]:
    """One agent that ticks once an hour."""
    with short_directory() as directory:
        shutil.copy(PROGRAM, directory)
        made = Config(directory)
        made.workers["agent"] = {"agent": "timing_agents:Ticker", "shutdown": "1s"}
        made.supervisor("top", SUP)
        made.supervisor(SUP, "agent")
        yield made


def await_ticks(client: Client, count: int) -> None:
    """Wait until so many have come; never more."""
    end_s = time.monotonic() + TIMEOUT_S
    while (ticks := _ticks(client)) != count:
        assert ticks is None or ticks < count
        assert time.monotonic() < end_s


def _ticks(client: Client) -> Any:
    try:
        client.wait_for("agent")
        return client.call("agent", "ticks")
    except MessageError:  # it is being killed
        return None


def test_timers_outlive_whoever_is_killed(config: Config) -> None:
    """Keeper and agent are killed while posts wait for their time, and the daemon is stopped: each comes once."""
    first = Tree(config.directory, config).grow()
    try:
        with Client(first.run_dir) as client:
            client.wait_for("agent")
            for number in range(20):
                client.post("agent", "tick", delay=0.05 * number)
            for name in ("regrow.keeper", "agent"):
                first.crash_until_new(name)
            await_ticks(client, 20)
            client.post("agent", "tick", 1000, delay=3600, id="late")
            client.post("agent", "tick", 100, delay=0.2)
    finally:
        first.finish()
    for socket in ("gate.sock", "notify"):
        (config.directory / socket).unlink()
    second = Tree(config.directory, config).grow()
    try:
        with Client(second.run_dir) as client:
            await_ticks(client, 120)
            assert client.cancel("agent", "late")
            assert client.call("agent", "end", "tick") == [True]
    finally:
        second.finish()
