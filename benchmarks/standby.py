"""
An agent whose module takes two seconds to import is killed: how long until a call is answered again?

The first column is the agent without a spare, the second with one that is ready.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from benchmarks.contenders import STANDBY, UNLIMITED, Daemon, agent, await_spare, supervisor, workspace
from benchmarks.measure import Row, Sample, Size, interleave
from regrow.ipc import Client, NoProcess, ProcessDown

IMPORT_S = 2.0

MODULE = """
import time

began_s = time.monotonic()
while time.monotonic() - began_s < {import_s}:
    pass

from agents import *
"""


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    import_s = 0.2 if size.quick else IMPORT_S
    tables = (
        supervisor("app", ["plain", "spare"], UNLIMITED)
        + agent("plain", "slow_agents:Echo")
        + agent("spare", "slow_agents:Echo")
        + STANDBY
    )
    with workspace() as directory:
        Path(directory, "slow_agents.py").write_text(MODULE.format(import_s=import_s))
        with Daemon(directory, tables) as daemon, Client(daemon.run_dir) as client:
            contenders = {name: answered(daemon, client, name) for name in ("plain", "spare")}
            found = interleave(contenders, size.of(20, 2), settle_s=0.2)
    name = f"agent with an import of {import_s:g} s killed → first call answered, by a spare"
    return [Row(name, "ms", found["plain"], found["spare"])]


def answered(daemon: Daemon, client: Client, name: str) -> Sample:
    """Kill the agent; the sample is the time until its successor has answered a call, in ms."""

    def sample() -> float:
        if name == "spare":
            await_spare(daemon, name)
        where = client.wait_for(name, timeout=30.0)
        began_s = time.perf_counter()
        os.kill(where.pid, signal.SIGKILL)
        while True:
            try:
                client.wait_for(name, timeout=30.0)
                client.call(name, "echo", "hello", timeout=30.0)
                return (time.perf_counter() - began_s) * 1e3
            except (NoProcess, ProcessDown):
                pass

    return sample
