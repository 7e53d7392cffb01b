"""`regrow apply --cancel`: an apply that is under way turns back, and says whom it waits for."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import cli
import procs
import pytest
from applying import Gated, apply, bad, change, small
from configs import Config
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient


@pytest.fixture
def client(tree: Tree, config: Config) -> Iterator[ControlClient]:
    """Another connection, to a small tree that runs."""
    small(tree, config, "a:P b:P c:P")
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as made:
        yield made


def end(tree: Tree, client: ControlClient, name: str) -> None:
    """Stop one that asks the test before it ends."""
    request = client.submit("terminate_child", supervisor="sup", child=name)
    tree.gate.next().release("ready")
    client.answer(request)


def test_what_was_before_comes_back(tree: Tree, gated: Gated) -> None:
    """Both who has applied and who has cancelled get the same answer, which names the latter."""
    before = tree.pid("a")
    told = tree.call("cancel_apply")
    assert gated.answer() == told
    assert told["outcome"] == "rolled_back"
    assert told["reason"].startswith("cancelled by uid ")
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.pid("a") == before
    newest = tree.call("applies")[-1]
    assert (newest["outcome"], newest["reason"], newest["present"]) == ("rolled_back", told["reason"], False)
    assert tree.wait("apply_rollback", "")["text"] == f"apply 2: the plan of before comes back: {told['reason']}"
    assert [change["name"] for change in tree.call("plan")["changes"]] == ["b"]


def test_without_waiting(tree: Tree, gated: Gated) -> None:
    """It says at once that it was asked for."""
    told = tree.call("cancel_apply", wait=False)
    assert (told["id"], told["outcome"], told["waiting"]) == (2, "requested", "")
    assert gated.answer()["reason"] == told["reason"]


def test_a_hangup_that_waits(tree: Tree, gated: Gated) -> None:
    """It would have the same files applied again: it is dropped."""
    procs.kill(tree.call("ping")["pid"], signal.SIGHUP)
    tree.call("ping")
    tree.call("cancel_apply")
    assert gated.answer()["outcome"] == "rolled_back"
    assert tree.refused("cancel_apply").code == "not_found"


def test_none_is_under_way(tree: Tree, config: Config) -> None:
    """Refused, before and after one."""
    small(tree, config, "a:P")
    assert tree.refused("cancel_apply").code == "not_found"
    change(config, "a")
    apply(tree)
    refused = tree.refused("cancel_apply")
    assert (refused.code, refused.message) == ("not_found", "cannot cancel: no apply is under way")


def test_what_was_to_leave_stays(tree: Tree, config: Config, client: ControlClient) -> None:
    """One has ended already, one ends at the moment, one has not been asked to: all are there again."""
    tree.terminate_child("b")
    config.workers["b"]["command"].append("stop=gate")
    config.workers["b"]["shutdown"] = "infinity"
    apply(tree)
    tree.restart_child("b")
    before = tree.pids("a b c sup")
    config.supervisors["sup"]["children"] = []
    config.workers.clear()
    config.worker("d")
    config.supervisors["top"]["children"] = ["sup", "d"]
    config.write()
    request = client.submit("apply")
    held = tree.gate.next()
    tree.wait("stopping", "b", count=2)
    told = tree.call("cancel_apply", wait=False)
    assert told["waiting"] == f'waits for the end of b (`kill -KILL {before["b"]}` ends it): shutdown = "infinity"'
    held.release("ready")
    assert client.answer(request)["outcome"] == "rolled_back"
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    after = tree.pids("a b c sup")
    assert {name for name in before if before[name] == after[name]} == {"a", "sup"}
    assert {entry["name"] for entry in tree.call("status")} == {"top", "sup", "a", "b", "c"}
    end(tree, client, "b")


def test_another_tree_does_not_come(tree: Tree, config: Config, client: ControlClient) -> None:
    """Cancelled while the old tree is being stopped: that one is started again, and nothing is left of the new one."""
    tree.terminate_child("c")
    config.workers["c"]["command"].append("stop=gate")
    apply(tree)
    tree.restart_child("c")
    supervisors, workers = dict(config.supervisors), dict(config.workers)
    config.supervisors.clear()
    config.workers.clear()
    config.supervisor("head", "sup").supervisor("sup", "x:P")
    config.write()
    request = client.submit("apply")
    held = tree.gate.next()
    tree.call("cancel_apply", wait=False)
    held.release("ready")
    assert client.answer(request)["outcome"] == "rolled_back"
    assert [entry["name"] for entry in tree.call("status")] == ["top", "sup", "a", "b", "c"]
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    config.supervisors, config.workers = supervisors, workers
    config.write()
    assert tree.call("plan")["changes"] == []
    end(tree, client, "c")


def test_one_that_does_not_end(tree: Tree, config: Config, client: ControlClient) -> None:
    """
    Who ignores its stop and may take its time is named with what ends it: in an event, in what is refused meanwhile,
    and to who has cancelled; then it is killed, and what was before comes back.
    """
    tree.terminate_child("b")
    config.workers["b"] |= {"command": [*config.workers["b"]["command"], "stop=ignore"], "shutdown": "infinity"}
    apply(tree)
    tree.restart_child("b")
    change(config, "a", "b")
    config.write()
    request = client.submit("apply")
    waits = f'waits for the end of b (`kill -KILL {tree.pid("b")}` ends it): shutdown = "infinity"'
    told = tree.wait("apply_waiting", "")["text"]
    number = tree.call("applies")[-1]["id"]
    assert told == f"apply {number}: {waits}"
    assert waits in tree.refused("apply").message
    run = tree.directory / "run"
    done = cli.regrow("apply", "--cancel", "--no-wait", "--run-dir", run)
    assert (done.returncode, done.stdout) == (0, f"requested; see `regrow applies`; it {waits}\n")
    refused = tree.refused("cancel_apply")
    assert refused.code == "busy"
    assert f"cannot cancel apply {number}: it is rolled back already (cancelled by uid " in refused.message
    assert waits in refused.message
    procs.kill(tree.pid("b"), signal.SIGKILL)
    assert client.answer(request)["outcome"] == "rolled_back"
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    request = client.submit("terminate_child", supervisor="sup", child="b")
    tree.wait("stopping", "b", count=3)
    procs.kill(tree.pid("b"), signal.SIGKILL)
    client.answer(request)


def test_on_the_command_line(tree: Tree, gated: Gated) -> None:
    """Status 0 when what was before is back, 1 where there is nothing to cancel, 2 with files."""
    run = tree.directory / "run"
    done = cli.regrow("apply", "--cancel", "--run-dir", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("apply 2 was rolled back: cancelled by uid ")
    assert gated.answer()["outcome"] == "rolled_back"
    again = cli.regrow("apply", "--cancel", "--run-dir", run)
    assert (again.returncode, again.stderr) == (1, "regrow: cannot cancel: no apply is under way\n")
    assert cli.regrow("apply", "--cancel", tree.file, "--run-dir", run).returncode == 2


def test_a_cancel_while_it_is_watched(tree: Tree, config: Config, client: ControlClient) -> None:
    """All is changed and held for a while: it goes back all the same."""
    config.workers["a"] |= {"update": {"canary": 1, "hold": "1h"}}
    change(config, "a")
    bad(config, "b", "hang")
    config.write()
    request = client.submit("apply")
    tree.wait("apply_holding", "")
    before = tree.pids("b c")
    tree.call("cancel_apply")
    assert client.answer(request)["outcome"] == "rolled_back"
    assert tree.pids("b c") == before
    assert tree.starts() == "a a"


def test_a_group_is_started_to_its_end(tree: Tree, config: Config) -> None:
    """A supervisor of a group does one thing at a time: a start comes to its end before it goes back."""
    small(tree, config, "a:P b:P", strategy="rest_for_one")
    bad(config, "b", "hang")
    config.workers["b"]["ready"] = {"notify": True, "timeout": "1s"}
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as made:
        request = made.submit("apply")
        tree.wait("starting", "b", count=2)
        assert tree.call("cancel_apply")["reason"].startswith("cancelled by ")
        assert made.answer(request)["outcome"] == "rolled_back"
    assert tree.children() == [("b", "running"), ("a", "running")]
