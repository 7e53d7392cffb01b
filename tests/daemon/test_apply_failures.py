"""A new version that fails: what was before comes back, with the reason."""

from __future__ import annotations

import cli
import pytest
from applying import apply, bad, change, small
from configs import Config
from tree import Tree
from wire import CallError

from regrow.daemon.core import deploy_step


@pytest.mark.parametrize("plan", ["fail", "crash:50", "exit:50"])
def test_a_bad_version_is_rolled_back(tree: Tree, config: Config, plan: str) -> None:
    """A start that fails, a crash, an end of one that should not end: the old plan is back, with the reason."""
    small(tree, config, "a:P b:P c:P", intensity=0)
    before = tree.pids("sup c")
    change(config, "a")
    bad(config, "b", plan)
    change(config, "c")
    config.supervisors["sup"]["intensity"] = 1
    told = apply(tree, "rolled_back")
    how = "a start of b failed: code 1 (" if plan == "fail" else "b (incarnation 2) ended"
    assert told["reason"].startswith(how)
    assert tree.pids("sup") == {"sup": before["sup"]}
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    tree.forget()
    for name in "abc":
        assert tree.entry(name)["restarts"] == 0
        tree.terminate_child(name)
        tree.restart_child(name)
    assert tree.trace("args") == []
    assert tree.call("applies")[-1]["outcome"] == "rolled_back"
    failed = tree.wait("start_failed" if plan == "fail" else "exited", "b")
    back = tree.wait("apply_rollback", "")
    assert (back["cause"], told["reason"] in back["text"]) == (failed["seq"], True)
    over = tree.wait("apply_rolled_back", "")
    assert "all is as it was, in " in over["text"], "why has been said"
    assert tree.call("get_childspec", supervisor="sup", child="b")["restart"] == "permanent"
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert done.returncode == 1
    assert "was rolled back: " in done.stderr


def test_what_an_earlier_apply_has_armed(tree: Tree, config: Config) -> None:
    """The hold of an apply that has failed does not end that of the next one, which watches for as long as it says."""
    small(tree, config, "a:P")
    config.workers["a"] |= {"update": {"canary": 1, "hold": "500ms"}}
    good = list(config.workers["a"]["command"])
    bad(config, "a", "crash:50")
    apply(tree, "rolled_back")
    config.workers["a"] |= {"update": {"canary": 1, "hold": "1s"}, "command": [*good, "changed"]}
    assert apply(tree)["seconds"] >= 1 + deploy_step.SETTLE_S


def test_never_ready(tree: Tree, config: Config) -> None:
    """Not ready in time."""
    small(tree, config, "a:P")
    bad(config, "a", "hang")
    config.workers["a"]["ready"] = {"notify": True, "timeout": "100ms"}
    assert "start_timeout" in apply(tree, "rolled_back")["reason"]
    assert tree.entry("a")["state"] == "running"


def test_failing_its_liveness_checks(tree: Tree, config: Config) -> None:
    """A canary that is unhealthy while it is watched: the others are never touched."""
    config.worker("a")
    config.workers["a"] |= {"replicas": 3, "command": [*config.workers["a"]["command"][:-1], "{name}"]}
    config.workers["a"]["update"] = {"canary": 1, "hold": "10s"}
    small(tree, config, "a")
    before = tree.pids("a.1 a.2")
    change(config, "a")
    config.workers["a"]["liveness"] = {"file": "/nowhere", "every": "10ms", "timeout": "1s", "failures": 1}
    assert "a.0: unhealthy" in apply(tree, "rolled_back")["reason"]
    assert tree.pids("a.1 a.2") == before
    assert tree.tries("a.1") == 0


def test_new_children_of_a_failed_apply_go(tree: Tree, config: Config) -> None:
    """What the new plan had added is stopped, and what it had stopped is started again."""
    small(tree, config, "a:P b:P")
    del config.workers["a"]
    config.worker("c").worker("d", plan="fail")
    config.supervisors["sup"]["children"] = ["b", "c", "d"]
    before = tree.pid("b")
    apply(tree, "rolled_back")
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.pid("b") == before
    assert {entry["name"] for entry in tree.call("status")} == {"top", "sup", "a", "b"}
    told = tree.call("why", name="d")  # who never came to be can be asked about all the same
    assert told["status"] is None
    assert told["text"][0] == "d is no longer in this tree"
    assert "a start of d failed" in told["text"][1]
    with pytest.raises(CallError, match="there is no d in this tree any more; see `regrow why d`"):
        tree.call("status", names=["d"])


def test_the_old_one_cannot_be_started_either(tree: Tree, config: Config) -> None:
    """Stated, and nothing loops."""
    small(tree, config, "a:P b:P")
    before = tree.file.read_text()
    (tree.directory / "a.plan").write_text("fail")
    change(config, "a")
    told = apply(tree, "failed")
    assert len(told["failures"]) == 1
    assert "a could not be started" in told["failures"][0]
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    assert tree.wait("apply_failed", "")
    assert tree.tries("a") == 2
    run_dir = tree.directory / "run"
    config.write()
    (note,) = tree.call("plan")["notes"]
    assert note.startswith("apply 2 failed and left a down; an apply starts nobody who is down: put right what ")
    assert note.endswith("then `regrow start a`")
    assert note in cli.regrow("plan", "--run-dir", run_dir).stdout
    assert "left so by apply 2, which failed; see `regrow why a`" in cli.regrow("status", "--run-dir", run_dir).stdout
    tree.file.write_text(before)
    told = tree.call("apply")
    assert (told["outcome"], told["notes"]) == ("unchanged", [note])
    (tree.directory / "a.plan").unlink()
    tree.call("start", names=["a"])
    assert (tree.call("plan")["notes"], tree.entry("a")["detail"]) == ([], "")


def test_a_supervisor_that_gives_up(tree: Tree, config: Config) -> None:
    """A new subtree that uses up its limit does not take its parent with it: it is rolled back."""
    small(tree, config, "a:P")
    config.supervisor("bad", "w:P", actors={"w": {"plan": "crash:1"}}, intensity=2)
    config.supervisors["top"]["children"].append("bad")
    before = tree.pids("top sup a")
    told = apply(tree, "rolled_back")
    assert "w" in told["reason"]
    assert tree.pids("top sup a") == before
    assert tree.children("top") == [("sup", "running")]
