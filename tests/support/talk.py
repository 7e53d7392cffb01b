"""A tree of agents from tests/programs/scenario_agents.py, and a client that talks to them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from configs import Config
from tree import SUP, Tree
from wire import TIMEOUT_S

from regrow.ipc import Client

PROGRAM = Path(__file__).parents[1] / "programs" / "scenario_agents.py"
T = TypeVar("T")


class Talk:
    """
    The supervisor `sup` with agents: `"a:P o:M=Observer"` is a permanent Server `a` and a temporary Observer `o`.

    A restart waits for a minute where `patient`, so that what a death has left can be looked at.
    """

    def __init__(self, directory: Path, config: Config, tree: Tree) -> None:
        self.directory = directory
        self.config = config
        self.tree = tree
        self._client: Client | None = None

    def grow(self, children: str, *, patient: bool = False, **keys: Any) -> Talk:
        """Start it."""
        shutil.copy(PROGRAM, self.directory)
        restarts = {"P": "permanent", "T": "transient", "M": "temporary"}
        names = []
        for word in children.split():
            name, _, rest = word.partition(":")
            kind, _, agent = rest.partition("=")
            names.append(name)
            agent = f"scenario_agents:{agent or 'Server'}"
            self.config.workers[name] = {"agent": agent, "restart": restarts[kind], "shutdown": "1s"}
        if patient:
            keys |= {"backoff": {"first": "60s", "max": "60s", "jitter": 0.0}, "escalate": "never"}
        self.config.supervisor("top", SUP)
        self.config.supervisor(SUP, " ".join(names), **keys)
        self.tree.grow()
        return self

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self.tree.run_dir)
        return self._client

    def call(self, to: str, handler: str, *args: Any, timeout: float = TIMEOUT_S) -> Any:
        return self.client.call(to, handler, *args, timeout=timeout)

    def fifo(self) -> str:
        """Something that a handler is held at; it is never opened by the test."""
        path = self.directory / f"fifo-{os.urandom(4).hex()}"
        os.mkfifo(path)
        return str(path)

    def until(self, found: Callable[[], T | None]) -> T:
        """Ask until something comes of it."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not (result := found()):
            assert time.monotonic() < deadline_s, "it does not happen"
        return result

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
