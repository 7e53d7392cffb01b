"""A tree that runs commands, a client that asks for them, and programs that are hard to get rid of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
import procs
from configs import Config
from tree import SUP, Tree
from wire import TIMEOUT_S

from regrow.ipc import Client
from regrow.ipc.commands import Command
from regrow.workers.system.commands_below import children_of

WORKER = "regrow.commands"
MODES = {"own": False, "shared": True}
"""Commands with process numbers of their own, and without: `share_processes`."""


class Desk:
    """`client` asks the daemon of `tree`."""

    def __init__(self, tree: Tree, config: Config) -> None:
        self.tree = tree
        self.config = config
        self.client: Client

    def open(self, **keys: Any) -> Desk:
        """Start a tree with these keys of [commands]."""
        self.config.sections["commands"] = keys
        self.config.supervisors.setdefault(SUP, {"children": []})
        self.tree.grow()
        self.client = Client(self.tree.run_dir)
        return self

    def close(self) -> None:
        if hasattr(self, "client"):
            self.client.close()

    def start(self, *argv: str, shared: bool = False, **options: Any) -> Command:
        """A command under way, or waiting."""
        return self.client.start_command(argv, share_processes=shared, **{"timeout": TIMEOUT_S, **options})

    def tangle(self, *, shared: bool = False, **options: Any) -> tuple[Command, str]:
        """A command with children of all kinds, all of them up; and what they carry in their arguments."""
        sign = f"9{int.from_bytes(os.urandom(6), 'big')}"
        command = self.start("sh", "-c", TANGLE, "tangle", sign, shared=shared, **options)
        stream, line = next(command.lines())
        assert (stream, line) == ("stdout", b"up\n"), (stream, line)
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(found := procs.carrying(sign)) < 6:  # one that is becoming its program has no arguments
            assert time.monotonic() < deadline_s, f"not all are up: {found}"
            os.sched_yield()
        return command, sign

    def runner(self, command: Command) -> int:
        """The pid of its runner."""
        pid = command.wait_started()
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def settle(self) -> None:
        """Wait until no runner has children, and there is no directory: a moment after the end has been told."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while (pids := self.working()) or self.folders():
            assert time.monotonic() < deadline_s, f"the worker still has {pids} {self.folders()}"
            if pids:
                procs.wait_dead(pids[0], 0.05)
            os.sched_yield()

    def working(self) -> list[int]:
        """The children of the runners, of which some may wait for the next command."""
        return [below for pid in children_of(self.tree.pid(WORKER)) for below in children_of(pid)]

    def events(self, kind: str) -> list[str]:
        """The texts of all events of that kind."""
        return [event["text"] for event in self.tree.call("events") if event["event"] == kind]

    def folders(self) -> list[str]:
        """The directories of commands that are there."""
        return os.listdir(self.config.directory / "state" / "commands")


TANGLE = """
trap '' TERM HUP INT
tail -f -n $1 /dev/null &
setsid tail -f -n $1 /dev/null &
(tail -f -n $1 /dev/null &)
(setsid setsid env -i tail -f -n $1 /dev/null &)
setsid sh -c "
    trap '' TERM HUP
    env -i sh -c 'tail -f -n $1 /dev/null & tail -f -n $1 /dev/null' &
    echo up
    wait" tangle $1 &
mkdir -p locked/in/it; echo x > locked/in/it/file; chmod 000 locked
wait
"""
"""Ignores signals; has children in its session, in others, orphaned, without environment, and a locked directory."""


@contextmanager
def desk_of(tree: Tree, config: Config) -> Iterator[Desk]:
    """Nothing is left of it."""
    desk = Desk(tree, config)
    others = frozenset(processes.children())
    try:
        yield desk
    finally:
        desk.close()
        tree.finish()
        processes.await_no_children(keep=others)
