"""System commands in the hardened unit."""

from __future__ import annotations

import pytest
from booted import REGROW
from services import Tree, worker

pytestmark = pytest.mark.root

ISOLATIONS = ((), ("network",), ("tmp",), ("root",), ("processes",), ("network", "tmp", "root", "processes"))
TALKS = (
    "import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname())\n"
    "print(*[name for _, name in socket.if_nameindex()]); print(open('/proc/self/cgroup').read())"
)


@pytest.mark.parametrize("words", ISOLATIONS, ids="-".join)
def test_isolation(tree: Tree, words: tuple[str, ...]) -> None:
    """Each can be had, there is a loopback at least, and a command has a control group of its own."""
    tree.install(worker("one"), top="[commands]\n")
    tree.start()
    options = [part for word in words for part in ("--isolate", word)]
    done = tree.machine.run(*REGROW, "run", "--name", tree.name, *options, "--", "python3", "-c", TALKS)
    assert done.returncode == 0, done.stderr
    names, group = done.stdout.split("\n", 1)
    assert names.split() == ["lo"] or "network" not in words
    assert "lo" in names.split()
    assert "@command-" in group
