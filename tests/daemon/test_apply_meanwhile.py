"""What else happens while an apply is under way."""

from __future__ import annotations

import signal

import cli
import procs
import pytest
from applying import Gated, bad, change, small
from configs import Config
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient


def test_an_apply_during_an_apply(tree: Tree, gated: Gated) -> None:
    """Refused with who is at it and how far; so is a reload; the first goes on."""
    refused = tree.refused("apply")
    assert refused.code == "busy"
    assert "apply 2 by uid " in refused.message
    assert refused.message.endswith("is under way: 0 of 1 steps done, starting b")
    assert tree.refused("reload").code == "busy"
    assert tree.refused("rollback").code == "busy"
    assert tree.call("applies")[-1]["outcome"] == "under_way"
    gated.held.release("ready")
    assert gated.answer()["outcome"] == "done"


def test_a_hangup_during_an_apply(tree: Tree, config: Config, gated: Gated) -> None:
    """Its files may be newer than those that the apply has read: they are applied when that is over."""
    change(config, "a")
    config.write()
    root, before = tree.call("ping")["pid"], tree.pid("a")
    for _ in range(5):
        procs.kill(root, signal.SIGHUP)
    gated.held.release("ready")
    assert gated.answer()["id"] == 2
    tree.stream.wait_events(lambda e: e["event"] == "apply_started" and "apply 3 by SIGHUP" in e["text"])
    tree.wait("apply_done", "", count=2)
    assert tree.pid("a") != before
    assert not [event for event in tree.stream.events if event["event"] == "fault"]


def test_who_is_stopped_in_its_turn_stays_stopped(tree: Tree, gated: Gated) -> None:
    """An operator stops a child that the apply is starting: that is no failure of the new version."""
    assert tree.call("stop", names=["b"])[0]["result"] == "stopped"
    assert gated.answer()["outcome"] == "done"
    assert tree.children() == [("b", "undefined"), ("a", "running")]
    assert tree.call("plan")["changes"] == []


def test_who_is_stopped_before_its_turn_is_not_started(tree: Tree, config: Config) -> None:
    """An operator stops a child whose turn is still to come: it stays down, and the apply is done."""
    small(tree, config, "a:P b:P")
    bad(config, "a", "gate")
    change(config, "b")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        assert tree.call("stop", names=["b"])[0]["result"] == "stopped"
        going.held.release("ready")
        assert going.answer()["outcome"] == "done"
    assert tree.children() == [("b", "undefined"), ("a", "running")]


def test_a_tree_that_gives_up_during_an_apply(tree: Tree, config: Config) -> None:
    """The daemon ends by itself, and whoever waits for the apply is told so."""
    config.supervisor("top", "a:P b:P", intensity=0, actors={"a": {"plan": "ready"}})
    tree.grow()
    bad(config, "b", "gate")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        tree.crash("a")
        assert going.answer()["outcome"] == "interrupted"
    assert tree.wait_exit() == 1


def test_down_during_an_apply(tree: Tree, config: Config, gated: Gated) -> None:
    """The apply ends with a word, the tree in order; the next daemon counts on and knows that it was interrupted."""
    assert tree.down() == 0
    assert gated.answer()["outcome"] == "interrupted"
    config.worker("b")
    config.write()
    assert cli.regrow("up", "--detach", tree.file).returncode == 0
    try:
        with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
            assert [record["outcome"] for record in client.request("applies")] == ["started", "interrupted"]
            change(config, "a")
            config.write()
            assert client.request("apply")["id"] == 4
    finally:
        assert cli.regrow("down", "--run-dir", tree.directory / "run").returncode == 0


@pytest.mark.parametrize("name", ["sup", "top"])
def test_a_supervisor_is_killed_before_anything_is_new(tree: Tree, config: Config, name: str) -> None:
    """It comes back with the plan of before, and the apply goes on to its end."""
    small(tree, config, "a:P b:P", actors={"b": {"stop": "gate", "shutdown": "60s"}})
    config.worker("b", args=("changed",))
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        procs.kill(tree.pid(name))
        tree.gate.next().release("stop")
        assert going.answer()["outcome"] == "done"
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.call("plan")["changes"] == []
    tree.crash_until_new("sup")
    assert tree.trace("args")[-1] == "args b"


def test_a_supervisor_with_nothing_new_is_killed(tree: Tree, config: Config) -> None:
    """It comes back as it was, and the apply goes on to its end."""
    config.supervisor("top", "sup other").supervisor("sup", "b:P").supervisor("other", "a:P")
    tree.grow()
    bad(config, "b", "gate")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        tree.crash_until_new("other")
        going.held.release("ready")
        assert going.answer()["outcome"] == "done"
