"""
Where the tasks of a test ask what to do next, and a daemon whose supervisor `jobs` runs them.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import procs
from configs import Config
from tree import Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc import Client
from regrow.ipc.tasks import TaskSupervisor

PROGRAM = Path(__file__).parents[1] / "programs" / "taskwork.py"
JOBS = "jobs"


class Asker:
    """One task at the desk; its process is known by a descriptor, since it was alive when it asked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        pid, _, self.word = connection.recv(1000).decode().partition(" ")
        self.pid = int(pid)
        self._pidfd = os.pidfd_open(self.pid)

    def answer(self, text: str) -> None:
        """Let it go on with this."""
        self._connection.send(text.encode())

    @property
    def is_dead(self) -> bool:
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def wait_dead(self) -> None:
        """Wait until its process has ended."""
        assert select.select([self._pidfd], [], [], TIMEOUT_S)[0], f"{self.word} lives on"

    def kill(self) -> None:
        procs.kill(self.pid)

    def close(self) -> None:
        self._connection.close()
        os.close(self._pidfd)


class Desk:
    """A socket in the test's directory, which is the tasks' working directory."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "desk")
        self.askers: list[Asker] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(64)

    def next(self, timeout_s: float = TIMEOUT_S) -> Asker:
        """The next task that asks."""
        assert select.select([self._listener], [], [], timeout_s)[0], "nobody asks"
        asker = Asker(self._listener.accept()[0])
        self.askers.append(asker)
        return asker

    def is_empty(self) -> bool:
        """Whether nobody waits to be let in."""
        return not select.select([self._listener], [], [], 0)[0]

    def forget(self) -> None:
        """Those who have asked are let go."""
        for asker in self.askers:
            asker.close()
        self.askers.clear()

    def close(self) -> None:
        self.forget()
        self._listener.close()


class Jobs:
    """A tree with the dynamic supervisor `jobs`, a client of it, and the desk."""

    def __init__(self, directory: Path, config: Config, tree: Tree, **keys: Any) -> None:
        shutil.copy(PROGRAM, directory / "taskwork.py")
        config.supervisor(JOBS, strategy="dynamic", **keys)
        self.directory = directory
        self.tree = tree.grow()
        self.desk = Desk(directory)
        self.client = Client(tree.run_dir)
        self.tasks = TaskSupervisor(self.client, JOBS)

    def reopen(self) -> None:
        """A new client."""
        self.let_go()
        self.client = Client(self.tree.run_dir)
        self.tasks = TaskSupervisor(self.client, JOBS)

    def listed(self) -> list[str]:
        """The children of `jobs`."""
        return [name for name, _ in self.tree.children(JOBS)]

    def running(self) -> dict[str, int]:
        """The pids of those that have a process."""
        children = self.tree.call("which_children", supervisor=JOBS)
        return {child["id"]: child["pid"] for child in children if child["pid"] is not None}

    def wait_gone(self, name: str) -> None:
        """Wait until the supervisor has forgotten that child."""
        ends = ("exited", "stopped")
        wire = self.tree.stream
        wire.wait_events(lambda event: event["name"] == name and event["event"] in ends, what=f"end of {name}")
        assert name not in self.listed()

    def let_go(self) -> None:
        """Close the client, and let those go who have asked."""
        self.tasks.close()
        self.client.close()
        self.desk.forget()

    def close(self) -> None:
        self.let_go()
        self.desk.close()


@contextmanager
def jobs_tree(describe: Callable[[Config], None] = lambda config: None, **keys: Any) -> Iterator[Jobs]:
    """A tree of its own, with what else `describe` puts into the file; it must leave nothing."""
    with short_directory() as directory:
        config = Config(directory)
        describe(config)
        tree = Tree(directory, config)
        jobs = Jobs(directory, config, tree, **keys)
        try:
            yield jobs
        finally:
            jobs.close()
            tree.finish()
