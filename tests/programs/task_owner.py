"""A program that owns a task until it is killed: `python task_owner.py RUN_DIR METHOD FUNCTION ARGUMENT`."""

from __future__ import annotations

import select
import sys

from regrow.ipc import Client
from regrow.ipc.tasks import TaskSupervisor


def main() -> None:
    """Start it, say so, and wait for the end."""
    run_dir, method, function, argument = sys.argv[1:]
    with Client(run_dir) as client:
        getattr(TaskSupervisor(client, "jobs"), method)(function, argument)
        sys.stdout.write("started\n")
        sys.stdout.flush()
        select.select([], [], [])


if __name__ == "__main__":
    main()
