"""Messages of a megabyte are answered in memory that the agent has already."""

from __future__ import annotations

import os
from pathlib import Path

from agents import House

LARGE = "x" * (1 << 20)
CALLS = 40


def faults(pid: int) -> int:
    """How often the process has touched a page that it did not have yet."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_large_messages_reuse_memory(house: House) -> None:
    """After the first few, a large call costs neither side the page faults of fresh buffers: a thousand for each."""
    agent = house.start("talkers:Odd", "agent")
    for _ in range(5):
        assert house.call("agent", "echo", LARGE) == LARGE
    before = faults(agent.pid), faults(os.getpid())
    for _ in range(CALLS):
        house.call("agent", "echo", LARGE)
    assert faults(agent.pid) - before[0] < 100 * CALLS
    assert faults(os.getpid()) - before[1] < 400 * CALLS
