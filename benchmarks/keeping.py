"""
A daemon whose agents keep state, and what stands for it without regrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import Daemon, agent, supervisor, workspace
from benchmarks.programs import Announcements
from regrow.config.spec import Durability

FLOORS = {Durability.PROCESS: "nosync", Durability.SYSTEM: "nometasync", Durability.FULL: "sync"}
"""
What bare LMDB is opened with that survives as much: see raw_queue.py. For `system` it syncs each commit; regrow syncs a
few times a second, and loses as much of the last moment as it says.
"""


class House:
    """The daemon, and in it the agent `ledger` with the FIFO that it writes into; `ask` is another agent."""

    def __init__(self, daemon: Daemon, heard: Announcements, directory: Path) -> None:
        self.daemon = daemon
        self.heard = heard
        self.directory = directory
        self.pid = heard.next()[0]

    @property
    def run_dir(self) -> Path:
        return self.daemon.run_dir


@contextmanager
def keeping(level: Durability, *keys: str) -> Iterator[House]:
    """A daemon of this durability. `keys`: more of its supervisor's table."""
    with workspace() as directory:
        heard = Announcements(directory / "fifo")
        tables = supervisor("app", ["ledger", "ask"], *keys)
        tables += agent("ledger", "agents:Ledger", args=f'{{ fifo = "{heard.path}" }}') + agent("ask", "agents:Asking")
        with Daemon(directory, tables, f'durability = "{level}"') as daemon:
            yield House(daemon, heard, directory)
        heard.close()
