"""Supervisors that end while something new is below them: the plan of before comes back, and no limit is used up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cli
import processes
import procs
import pytest
from applying import Gated, bad, change
from configs import Config
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient


@contextmanager
def bad_web(tree: Tree, config: Config) -> Iterator[Gated]:
    """An apply of a version of `web` that is at the gate, and would fail at every start."""
    tree.grow()
    tree.forget()
    bad(config, "web", "gate")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        yield Gated(client, client.submit("apply"), tree.gate.next())


def rolled_back(told: dict[str, Any], who: str) -> None:
    """What an apply answers that was rolled back because `who` has ended."""
    assert told["outcome"] == "rolled_back", told
    assert told["reason"].startswith(f"{who} (incarnation "), told


@pytest.mark.parametrize("killed", ["top", "mid", "left"])
def test_a_supervisor_above_a_bad_version_is_killed(tree: Tree, config: Config, killed: str) -> None:
    """However far above: who begins anew begins with the plan of before, so one restart is all that is used."""
    config.supervisor("top", "mid", intensity=1).supervisor("mid", "left", intensity=1)
    config.supervisor("left", "web:P", intensity=1)
    with bad_web(tree, config) as going:
        tree.crash(killed)
        rolled_back(going.answer(), killed)
    assert tree.children("left") == [("web", "running")]
    assert tree.entry("web")["restarts"] <= 1
    assert not [event for event in tree.stream.events if event["event"] in ("gave_up", "start_failed")]


def test_a_supervisor_is_killed_twice(tree: Tree, config: Config) -> None:
    """The second time on the way back: two restarts are used, and the plan of before is back."""
    config.supervisor("top", "left", intensity=2).supervisor("left", "first:P web:P", intensity=1)
    config.worker("first", plan="ready,gate,ready")
    with bad_web(tree, config) as going:
        killed = tree.crash("left")
        tree.gate.next()  # `first`, of a supervisor that begins anew
        again = tree.wait("starting", "left", count=2)["pid"]
        assert again != killed
        tree.crash("left")
        rolled_back(going.answer(), "left")
    assert tree.children("left") == [("web", "running"), ("first", "running")]
    assert tree.wait("restarting", "left", count=2)["used"] == 2


def test_the_supervisor_of_a_rolling_apply_is_killed(tree: Tree, config: Config) -> None:
    """Replicas that were replaced already are as before, too."""
    config.supervisor("top", "left", intensity=1).supervisor("left", "web", intensity=1)
    config.worker("web")
    config.workers["web"] |= {"replicas": 3, "command": [*config.workers["web"]["command"][:-1], "{name}"]}
    tree.grow()
    change(config, "web")
    tree.plan("web.1", "gate")
    tree.forget()
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        (tree.directory / "web.1.plan").unlink()
        assert tree.trace("args") == ["args web.0", "args web.1"]
        tree.forget()
        tree.crash("left")
        told = going.answer()
    rolled_back(told, "left")
    assert "web.0, web.1 with it, new below it" in told["reason"]
    assert tree.trace("args") == []
    assert tree.children("left") == [(f"web.{index}", "running") for index in (2, 1, 0)]


def test_a_new_supervisor_is_killed(tree: Tree, config: Config) -> None:
    """It is what is new itself: it is not restarted, and gone afterwards."""
    config.supervisor("top", "left", intensity=0).supervisor("left", "a:P")
    tree.grow()
    config.supervisor("more", "web:P", intensity=0)
    config.workers["web"]["update"] = {"canary": 1, "hold": "20s"}
    config.worker("a", args=("changed",), update={"canary": 1, "hold": "20s"})
    config.supervisors["top"]["children"] = ["more", "left"]
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        request = client.submit("apply")
        tree.wait("apply_holding", "")
        tree.crash("more")
        rolled_back(client.answer(request), "more")
    assert tree.children("top") == [("left", "running")]


def test_a_new_supervisor_is_killed_while_it_starts(tree: Tree, config: Config) -> None:
    """Its start has failed, and that uses up nothing."""
    config.supervisor("top", "left", intensity=0).supervisor("left", "a:P")
    tree.grow()
    config.supervisor("more", "inner", intensity=0).supervisor("inner", "web:P", intensity=0)
    config.worker("web", plan="gate")
    config.supervisors["top"]["children"] = ["left", "more"]
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        tree.crash("more")
        told = going.answer()
    assert told["outcome"] == "rolled_back"
    assert told["reason"].startswith("a start of more failed")
    assert tree.children("top") == [("left", "running")]


def test_settings_of_a_supervisor_that_is_killed(tree: Tree, config: Config) -> None:
    """It begins anew with those of before, and the one above has none of it charged but the kill."""
    config.supervisor("top", "left", intensity=1).supervisor("left", "web:P", strategy="one_for_one")
    tree.grow()
    config.supervisors["left"] |= {"intensity": 0, "strategy": "one_for_all"}
    bad(config, "web", "gate")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        tree.crash("left")
        rolled_back(going.answer(), "left")
    before = tree.pid("left")
    tree.crash_until_new("web")
    assert (tree.pid("left"), tree.entry("left")["strategy"]) == (before, "one_for_one")


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_sibling_takes_the_group_along(tree: Tree, config: Config, strategy: str) -> None:
    """While a bad version is on probation the group is restarted for another: no limit is used up by the bad one."""
    config.supervisor("top", "left", intensity=0).supervisor("left", "a:P web:P c:P", intensity=1, strategy=strategy)
    tree.grow()
    config.workers["web"]["update"] = {"canary": 1, "hold": "20s"}
    bad(config, "web", "ready,ready,fail")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        request = client.submit("apply")
        tree.wait("apply_holding", "")
        tree.crash("a")
        told = client.answer(request)
    assert told["outcome"] == "rolled_back"
    assert told["reason"].startswith("a start of web failed")
    assert tree.children("left") == [("c", "running"), ("web", "running"), ("a", "running")]
    assert tree.entry("left")["restarts"] == 0


def test_why_tells_of_the_supervisor(tree: Tree, config: Config) -> None:
    """The way back is explained by the end of the supervisor."""
    config.supervisor("top", "left", intensity=1).supervisor("left", "web:P")
    with bad_web(tree, config) as going:
        tree.crash("left")
        reason = going.answer()["reason"]
    assert reason.endswith(", and web with it, new below it")
    ended, back = tree.wait("exited", "left"), tree.wait("apply_rollback", "")
    assert back["cause"] == ended["seq"]
    assert any("the plan of before comes back" in line for line in tree.call("why", name="web")["text"])


def test_the_root_is_killed(tree: Tree, config: Config) -> None:
    """The next daemon begins with its files, and says that nobody watches what they bring; the way back is there."""
    config.supervisor("top", "web:P", intensity=1)
    with bad_web(tree, config):
        procs.kill(tree.call("ping")["pid"])
        assert tree.wait_exit() == -signal.SIGKILL
    tree.plan("web", "ready")
    run_dir = tree.directory / "run"
    began = cli.regrow("up", "--detach", tree.file)
    assert began.returncode == 0, began.stderr
    try:
        with ControlClient(str(run_dir), timeout_s=TIMEOUT_S) as client:
            texts = [e["text"] for e in client.request("events") if e["event"] == "apply_interrupted"]
            told = "this one begins with its files, which are what it was to bring, and watched by nobody now"
            assert [told in text for text in texts] == [True]
            assert [record["outcome"] for record in client.request("applies")] == ["started", "interrupted"]
            told = client.request("rollback")
            assert (told["outcome"], [change["name"] for change in told["changes"]]) == ("done", ["web"])
    finally:
        assert cli.regrow("down", "--run-dir", run_dir).returncode == 0
        processes.await_no_children()


def test_no_exec_during_probation(tree: Tree, config: Config) -> None:
    """`regrow reexec` has to wait for the end of an apply."""
    config.supervisor("top", "web:P")
    with bad_web(tree, config) as going:
        done = cli.regrow("reexec", "--run-dir", tree.directory / "run")
        assert (done.returncode, "cannot re-execute now: apply 2 by " in done.stderr) == (1, True), done.stderr
        going.held.release("ready")
        assert going.answer()["outcome"] == "done"
