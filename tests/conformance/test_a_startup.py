"""Section A: how supervisors and their children start, or fail to."""

from __future__ import annotations

import time

import procs
import pytest
from cli import BAD_CONFIG, problems, regrow
from configs import Config
from harness import DaemonEnded
from tree import SUP, Grow, Tree


def test_c1_no_children(tree: Tree, config: Config) -> None:
    """A supervisor without children starts, and ends when asked: the daemon's exit status is 0."""
    config.supervisor("app")
    tree.grow()
    assert tree.children("app") == []
    assert tree.down() == 0


def test_c2_children_start_in_list_order_each_after_the_other_is_ready(plant: Grow) -> None:
    """Each process is created only after the one before is ready; the tree is ready after the last."""
    names = ["c7", "c3", "c10", "c2", "c5"]
    slow = {name: {"plan": "ready:100"} for name in names}
    tree = plant(" ".join(f"{name}:P" for name in names), actors=slow)
    begun = time.monotonic()
    tree.grow()
    assert time.monotonic() - begun >= 0.5
    assert tree.trace() == [line for name in names for line in (f"try {name}", f"start {name}")]


def test_c5_a_faulty_description_starts_nothing(tree: Tree, config: Config) -> None:
    """
    A supervisor that cannot be described cannot be started, and nothing of it runs.

    Interpretation: the init of a supervisor is the reading of its file, so garbage is a file that is not TOML.
    """
    config.write().write_text("[supervisor.app\nchildren = 7")
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status == BAD_CONFIG
    assert "Traceback" not in ended.value.output
    assert tree.leftovers() == []


def test_c6_ignoring_temporary_child_is_discarded_at_start(grow: Grow) -> None:
    """A temporary child that answers *ignore* leaves no spec; start-up goes on."""
    tree = grow("a:M b:M", actors={"a": {"plan": "ignore"}})
    assert tree.children() == [("b", "running")]
    assert tree.counts() == [1, 1, 0, 1]


def test_c7_start_child_of_ignoring_permanent_child_keeps_its_spec(grow: Grow) -> None:
    """start_child answers no pid and the spec stays, undefined."""
    tree = grow()
    assert tree.start_child("a", plan="ignore") is None
    assert tree.start_child("b") == tree.pid("b")
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    assert tree.counts() == [2, 1, 0, 2]


def test_c8_start_child_of_ignoring_temporary_child_keeps_nothing(grow: Grow) -> None:
    """start_child answers no pid and no spec stays."""
    tree = grow()
    assert tree.start_child("a", restart="temporary", plan="ignore") is None
    assert tree.start_child("b", restart="temporary") == tree.pid("b")
    assert tree.children() == [("b", "running")]
    assert tree.counts() == [1, 1, 0, 1]


def test_c10_same_id_twice_is_refused_before_anything_starts(tree: Tree, config: Config) -> None:
    """A child named twice in one list is a fault of the file; no process was created at all."""
    config.supervisor("app", "b:P a:P a")
    assert "supervisor.app.children" in problems(config.write())
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status == BAD_CONFIG
    assert tree.trace() == []


def test_c11_second_daemon_on_the_same_run_dir_is_refused(grow: Grow) -> None:
    """The second `up` fails and names the first one's pid; the first is undisturbed."""
    tree = grow("a:P")
    before = tree.pids("sup a")
    second = regrow("up", tree.file)
    assert second.returncode == 1
    assert str(tree.call("ping")["pid"]) in second.stderr
    assert tree.pids("sup a") == before
    assert tree.tries("a") == 0


def test_c12_defaults_in_childspecs(tree: Tree, config: Config) -> None:
    """permanent, 5 s for workers and infinity for supervisors, not significant; unknown ids are not found."""
    config.supervisor(SUP, "plain:P brutal:P nested")
    config.supervisor("nested", "x:P")
    for worker in ("plain", "brutal", "x"):
        config.workers[worker] = config.actor(worker, restart=None, shutdown=None)
    config.workers["brutal"]["shutdown"] = "brutal_kill"
    tree.grow()
    specs = {name: tree.call("get_childspec", supervisor=SUP, child=name) for name in ("plain", "brutal", "nested")}
    assert {spec["restart"] for spec in specs.values()} == {"permanent"}
    assert {spec["significant"] for spec in specs.values()} == {False}
    shutdowns = [specs[name]["shutdown"] for name in ("plain", "brutal", "nested")]
    assert shutdowns == [5.0, "brutal_kill", "infinity"]
    assert tree.refusal("get_childspec", "nobody") == "not_found"


def test_c13_a_start_that_takes_too_long_is_killed(grow: Grow) -> None:
    """With a limit of 200 ms on being ready, a slower start fails after about that and its process is dead."""
    tree = grow()
    begun = time.monotonic()
    refused = tree.start_refused("a", plan="ready:5000", ready={"notify": True, "timeout": "200ms"})
    assert 0.2 <= time.monotonic() - begun < 2
    assert refused.code == "start_failed"
    assert "ready" in refused.message
    failed = tree.wait("start_failed", "a")
    assert failed["reason"]["reason"] == "start_timeout"
    assert procs.is_dead(failed["pid"])
    assert tree.children() == []


def test_c14_failing_start_leaves_no_name_behind(grow: Grow) -> None:
    """Five failing starts in a row give five times the same error, never already_started, and no leftover."""
    tree = grow()
    codes = [tree.start_refused("a", plan="fail").code for _ in range(5)]
    assert codes == ["start_failed"] * 5
    assert tree.tries("a") == 5
    assert tree.children() == []
    assert not [args for args in procs.carrying(str(tree.directory)).values() if "actor.py" in args]


def test_rule_s30_ignoring_permanent_child_stays_undefined_at_start(grow: Grow) -> None:
    """A permanent or transient child of the file that answers *ignore* is kept, undefined; start-up goes on."""
    tree = grow("a:P b:P c:T", actors={"a": {"plan": "ignore"}, "c": {"plan": "ignore"}})
    assert tree.children() == [("c", "undefined"), ("b", "running"), ("a", "undefined")]
    assert tree.counts() == [3, 1, 0, 3]


@pytest.mark.parametrize("intensity", [0, 10])
def test_rule_s33_failing_child_at_first_start_fails_the_daemon(plant: Grow, intensity: int) -> None:
    """
    One failed start, without retry whatever the intensity, fails everything: what had started is stopped in reverse
    order, later children are never started, `regrow up` ends with status 1 and names the child.
    """
    tree = plant("a:P b:M c:P d:P", actors={"c": {"plan": "fail"}}, intensity=intensity)
    tree.config.write()
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status == 1
    assert "c could not be started" in ended.value.output
    assert "Traceback" not in ended.value.output
    assert tree.trace("try", "stop") == ["try a", "try b", "try c", "stop b", "stop a"]
    assert tree.leftovers() == []


def test_rule_s37_management_waits_until_all_have_started(plant: Grow) -> None:
    """A call that comes while the list is being started is answered when it has been started."""
    tree = plant("a:P b:P", actors={"b": {"plan": "gate"}})
    tree.config.write()
    tree.launch()
    held = tree.gate.next()
    early = tree.connect()
    asking = early.send("which_children", supervisor=SUP)
    early.call("ping")
    held.release("ready")
    assert [(child["id"], child["state"]) for child in early.answer(asking)] == [("b", "running"), ("a", "running")]
    tree.until_ready()
