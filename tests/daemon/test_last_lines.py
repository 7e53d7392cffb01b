"""What a child printed is read, whoever above it dies, and whenever."""

from __future__ import annotations

import os
import select
from pathlib import Path

import procs
import pytest
from configs import Config
from farm import FOREVER, shell
from tree import Tree
from wire import TIMEOUT_S


class Printers:
    """Commands that print their pid, then tell it here."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "printed"
        os.mkfifo(self._path)
        self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        self._heard = b""
        self.pids: list[int] = []

    def command(self) -> list[str]:
        """What prints a line, and lives on."""
        return shell(f"echo $$; echo $$ > {self._path}; exec {' '.join(FOREVER)}")

    def next(self, count: int = 1) -> list[int]:
        """Wait until so many more have printed."""
        known = len(self.pids)
        while len(self.pids) < known + count:
            assert select.select([self._fd], [], [], TIMEOUT_S)[0]
            *lines, self._heard = (self._heard + os.read(self._fd, 4096)).split(b"\n")
            self.pids += map(int, lines)
        return self.pids[known:]

    def close(self) -> None:
        os.close(self._fd)


@pytest.mark.parametrize("start", ["sequential", "parallel"])
def test_of_newborn_children_whose_supervisors_die(tree: Tree, config: Config, directory: Path, start: str) -> None:
    """
    Their supervisor dies with the one above, which could not do anything since before they were born.

    Nor could the daemon itself: when they are dead, nobody has been told of them.
    """
    printers = Printers(directory)
    names = [f"printer{number}" for number in range(3)]
    for name in names:
        config.workers[name] = {"command": printers.command()}
    strategy = "one_for_one" if start == "parallel" else "one_for_all"
    config.supervisor("top", "nest").supervisor("nest", "deep")
    config.supervisor("deep", " ".join(names), start=start, strategy=strategy)
    try:
        tree.grow()
        pids = printers.next(len(names))
        nest = tree.pid("nest")
        with tree.frozen("nest"):
            for pid in pids if start == "parallel" else pids[:1]:
                procs.kill(pid)
            newborn = printers.next(len(names))
            procs.kill(nest)
            assert all(procs.wait_dead(pid, TIMEOUT_S) for pid in newborn)
        printers.next(len(names))
        assert tree.down() == 0
    finally:
        printers.close()
    logged = [int(line) for name in names for line in (directory / "log" / f"{name}.log").read_text().split()]
    assert sorted(logged) == sorted(printers.pids)
