"""System commands in the hardened unit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from booted import REGROW
from services import Tree, worker

pytestmark = pytest.mark.root

EATS = "import os; fd = os.memfd_create('eaten'); [os.write(fd, bytes(1 << 20)) for _ in range(256)]"
"""Memory that no limit of a process counts."""

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


def test_out_of_memory_is_named(tree: Tree) -> None:
    """A command beyond its limit is killed by the kernel, and the reason says so."""
    if "memory" not in Path(tree.machine.group.path, "cgroup.controllers").read_text().split():
        pytest.skip("the memory controller is not in the second version of control groups here")
    tree.install(worker("one"), top="[commands]\n")
    tree.start()
    eats = ("--limit", "memory=64MiB", "--format", "json", "--", "python3", "-c", EATS)
    done = tree.machine.run(*REGROW, "run", "--name", tree.name, *eats)
    said = json.loads(done.stdout)
    assert (said["reason"], said["signal"]) == ("oom", "SIGKILL")
    assert said["text"] == "it needed more memory than it may have"
