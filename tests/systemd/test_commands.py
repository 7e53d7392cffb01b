"""System commands in the hardened unit."""

from __future__ import annotations

import subprocess

import pytest
from booted import REGROW
from services import Tree, worker

pytestmark = pytest.mark.root

ISOLATIONS = ((), ("network",), ("tmp",), ("root",), ("processes",), ("network", "tmp", "root", "processes"))
TALKS = (
    "import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname())\n"
    "print(*[name for _, name in socket.if_nameindex()]); print(open('/proc/self/cgroup').read())"
)


def isolated(tree: Tree, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run something that uses what the isolation must leave."""
    options = [part for word in words for part in ("--isolate", word)]
    return tree.machine.run(*REGROW, "run", "--name", tree.name, *options, "--", "python3", "-c", TALKS)


def assert_isolated(words: tuple[str, ...], said: str) -> None:
    """There is a loopback at least, nothing else if that was asked for, and the command has a control group."""
    names, group = said.split("\n", 1)
    assert "lo" in names.split()
    assert names.split() == ["lo"] or "network" not in words
    assert "@command-" in group


def test_isolation(tree: Tree) -> None:
    """Each can be had, though the unit takes from root what most of them take elsewhere."""
    tree.install(worker("one"), top="[commands]\n")
    tree.start()
    for words in ISOLATIONS:
        done = isolated(tree, words)
        assert done.returncode == 0, (words, done.stderr)
        assert_isolated(words, done.stdout)


def test_isolation_for_another_user(tree: Tree) -> None:
    """A daemon that is not root isolates by user namespaces, or says that it cannot."""
    tree.install(worker("one"), top=f"{tree.places()}[commands]\n", drop_in="User=nobody\n")
    tree.start()
    for words in ISOLATIONS:
        done = isolated(tree, words)
        if done.returncode:
            assert words, done.stderr
            assert "cannot isolate" in done.stderr
        else:
            assert_isolated(words, done.stdout)
