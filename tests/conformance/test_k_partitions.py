"""
Section K: partitions are the replicas of a worker, here under a supervisor of their own.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from cli import problems
from configs import Config
from talk import PROGRAM
from tree import SUP, Tree

from regrow.ipc import Client, by_key


def partitioned(config: Config, **keys: Any) -> Config:
    """Describe `sup` over three replicas p.0, p.1, p.2."""
    command = [*config.actor("NAME")["command"][:-1], "{name}"]
    config.workers["p"] = {**config.actor("p"), "command": command, "replicas": 3, **keys}
    config.supervisor("top", SUP)
    return config.supervisor(SUP, "p")


def test_c125_keys_belong_to_partitions(tree: Tree, config: Config) -> None:
    """An integer goes to the partition of its absolute remainder; the same text always goes to the same one (S169)."""
    shutil.copy(PROGRAM, config.directory)
    config.workers["w"] = {"agent": "scenario_agents:Server", "replicas": 3}
    config.supervisor("top", "w")
    tree.grow()
    with Client(tree.run_dir) as client:

        def partition(key: Any) -> str:
            name: str = client.call(by_key("w", key), "whoami")[0]
            return name

        assert [partition(key) for key in (0, 1, 2, 3, -1)] == ["w.0", "w.1", "w.2", "w.0", "w.1"]
        assert len({partition("the same text") for _ in range(2)}) == 1


def test_c127_a_partition_is_restarted_alone(tree: Tree, config: Config) -> None:
    """Replica 1 crashes: only it is restarted, under its own name; the others keep their pids."""
    partitioned(config)
    tree.grow()
    before = tree.pids("p.0 p.1 p.2")
    tree.crash("p.1")
    new = tree.wait_new(**{"p.1": before["p.1"]})
    assert tree.pids("p.0 p.1 p.2") == {**before, **new}
    assert tree.counts() == [3, 3, 0, 3]


def test_rule_s167_replicas_are_numbered_from_zero(tree: Tree, config: Config) -> None:
    """Replicas are ordinary children p.0 to p.2, in this start order; the table's name means all of them."""
    partitioned(config)
    tree.grow()
    assert tree.starts() == "p.0 p.1 p.2"
    assert tree.children() == [("p.2", "running"), ("p.1", "running"), ("p.0", "running")]
    assert [entry["name"] for entry in tree.call("status", names=["p"])] == ["p.0", "p.1", "p.2"]


@pytest.mark.parametrize("replicas", [0, -1, "many", 1.5])
def test_c128_bad_number_of_partitions(config: Config, replicas: object) -> None:
    """Fewer than one replica, or not a number, is refused with its key path."""
    partitioned(config, replicas=replicas)
    assert "worker.p.replicas" in problems(config.write())


def test_c128_partitions_of_nothing(config: Config) -> None:
    """Replicas without anything to start are refused; a table without a name cannot be written."""
    partitioned(config)
    del config.workers["p"]["command"]
    assert "worker.p" in problems(config.write())
