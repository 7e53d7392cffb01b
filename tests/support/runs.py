"""Runs of workflows in processes of their own, without a daemon: what the desk and the supervisor would start."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from agents import House, Running
from storehouse import make_store

from regrow.config.spec import Durability
from regrow.ipc.client import Client
from regrow.ipc.store import MAP_BYTES
from regrow.ipc.workflow_rows import process_of

AGENT = "regrow.workers.workflow_run:RunAgent"
PROGRAMS = Path(__file__).parents[1] / "programs"


class RunHouse:
    """A house with a store and the workflow `order`, of which `target` is the class."""

    def __init__(self, house: House, folder: Path, target: str) -> None:
        self.house = house
        self.target = target
        self.journal = folder / "journal"
        make_store(house.run_dir, folder / "state", Durability.PROCESS, MAP_BYTES, **{"order.desk": 0, "agent": 0})

    def begin(self, id: str, *args: Any, **kwargs: Any) -> None:
        """Put a run into the queue."""
        with Client(self.house.run_dir) as client:
            client.start_workflow("order", *args, id=id, **kwargs)

    def process(self, id: str, **options: Any) -> Running:
        """Its next process."""
        args = {"workflow": "order", "target": self.target, "folder": str(PROGRAMS), "id": id}
        environ = {"JOURNAL": str(self.journal)}
        return self.house.start(AGENT, process_of("order", id), args=args, environ=environ, **options)

    def finish(self, id: str, most: int = 50) -> int:
        """Start one process after the other until one ends by itself; how many it took."""
        for count in range(1, most + 1):
            process = self.process(id, await_ready=False)
            status = process.wait()
            if status == 0:
                return count
            assert status in (-signal.SIGKILL, -signal.SIGALRM), process.printed()
        raise AssertionError(f"{id} is not over after {most} processes")

    def notes(self) -> list[str]:
        """What the steps have noted."""
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def shown(self, id: str) -> dict[str, Any]:
        with Client(self.house.run_dir) as client:
            return client.show_workflow(id)
