"""What a reload has told, and who was started since: an apply compares with that."""

from __future__ import annotations

from pathlib import Path

import pytest
from applying import apply, change, small
from configs import Config
from tree import Tree


def test_after_a_reload(tree: Tree, config: Config) -> None:
    """What `reload` has only told the supervisors, an apply does."""
    small(tree, config, "a:P b:P c:P")
    before = tree.pids("a b")
    change(config, "b")
    config.worker("d")
    del config.workers["c"]
    config.supervisors["sup"]["children"] = ["a", "b", "d"]
    tree.reload()
    assert tree.pids("a b") == before
    apply(tree)
    assert tree.children() == [("d", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid("a") == before["a"]
    assert tree.pid("b") != before["b"]


def test_what_a_reload_has_started(tree: Tree, config: Config) -> None:
    """Whoever was started anew after a reload runs what that brought, and an apply of the file of before sees it."""
    small(tree, config)
    before, good = tree.pids("a b"), list(config.workers["b"]["command"])
    change(config, "b")
    config.worker("d")
    config.supervisors["sup"]["children"] = ["a", "b", "c", "d"]
    tree.reload()
    tree.crash_until_new("b")
    tree.restart_child("d")
    config.workers["b"]["command"] = good
    del config.workers["d"]
    config.supervisors["sup"]["children"] = ["a", "b", "c"]
    told = apply(tree)
    assert {(change["name"], change["action"]) for change in told["changes"]} == {("b", "restart"), ("d", "stop")}
    assert b"changed" not in Path(f"/proc/{tree.pid('b')}/cmdline").read_bytes()
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid("a") == before["a"]
    tree.crash_until_new("b")
    assert b"changed" not in Path(f"/proc/{tree.pid('b')}/cmdline").read_bytes()


@pytest.mark.parametrize("outcome", ["unchanged", "done"])
def test_what_a_reload_has_only_told(tree: Tree, config: Config, outcome: str) -> None:
    """An apply of the file of before changes no process, and supervisors have the specs of before again."""
    small(tree, config)
    before, good = tree.pids("a b c"), list(config.workers["b"]["command"])
    change(config, "b")
    tree.reload()
    config.workers["b"]["command"] = good
    if outcome == "done":
        config.supervisors["top"]["intensity"] = 7
    apply(tree, outcome)
    assert tree.pids("a b c") == before
    tree.crash_until_new("b")
    assert b"changed" not in Path(f"/proc/{tree.pid('b')}/cmdline").read_bytes()
