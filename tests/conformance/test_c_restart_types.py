"""
Section C: which end of a child leads to a restart, by restart type.

*shutdown* is exit status 82: what a supervisor that ended itself uses, and a command may use (contract 1).
"""

from __future__ import annotations

import signal

import procs
import pytest
from configs import Config
from tree import SUP, Grow, Tree

SHUTDOWN_STATUS = 82
BUDGET = {"intensity": 2, "period": "3600s"}


def test_c23_permanent_normal_is_restarted(grow: Grow) -> None:
    """A permanent child that exits with code 0 is restarted."""
    tree = grow("a:P", **BUDGET)
    old = tree.exit("a", 0)
    assert tree.wait_new(a=old)["a"] != old
    assert tree.counts() == [1, 1, 0, 1]


def test_c24_transient_normal_is_not_restarted(grow: Grow) -> None:
    """A transient child that exits with code 0 stays down; its spec is kept."""
    tree = grow("a:T", **BUDGET)
    tree.exit("a", 0)
    tree.wait("exited", "a")
    assert tree.children() == [("a", "undefined")]
    assert tree.counts() == [1, 0, 0, 1]


def test_c25_temporary_normal_is_forgotten(grow: Grow) -> None:
    """A temporary child that exits with code 0 is gone, spec and all."""
    tree = grow("a:M", **BUDGET)
    tree.exit("a", 0)
    tree.wait("exited", "a")
    assert tree.children() == []
    assert tree.counts() == [0, 0, 0, 0]


def ending_supervisor(config: Config, restart: str) -> None:
    """Describe `a`, a child supervisor that ends with *shutdown* when its worker `x` crashes."""
    config.supervisor("a", "x:P", restart=restart, intensity=0)
    config.supervisor(SUP, "a", **BUDGET)


def test_c26_permanent_supervisor_that_shut_down_is_restarted(tree: Tree, config: Config) -> None:
    """A permanent child supervisor that ended with *shutdown* is restarted."""
    ending_supervisor(config, "permanent")
    before = tree.grow().pid("a")
    tree.crash("x")
    tree.wait_ended("a")
    assert tree.wait_new(a=before)["a"] != before


def test_c27_transient_supervisor_that_shut_down_stays_down(tree: Tree, config: Config) -> None:
    """A transient child supervisor that ended with *shutdown* is left undefined; restart_child starts it again."""
    ending_supervisor(config, "transient")
    tree.grow()
    for count in (1, 2):
        tree.crash("x")
        tree.wait_ended("a", count=count)
        assert tree.children() == [("a", "undefined")]
        if count == 1:
            assert tree.restart_child("a") == tree.pid("a")


def test_c28_temporary_child_that_shut_down_is_forgotten(tree: Tree, config: Config) -> None:
    """
    A temporary child that ended with *shutdown* is gone; start_child takes the same id again, twice.

    Interpretation: the first is a supervisor of the file; start_child takes workers only, so the later ones
    are commands that exit with the status that says *shutdown*.
    """
    config.supervisor("other", "z:P")
    config.supervisor("a", "x:P", restart="temporary", intensity=0)
    config.supervisor(SUP, "other a", **BUDGET)
    tree.grow()
    tree.crash("x")
    tree.wait_ended("a")
    assert tree.children() == [("other", "running")]
    for count in (2, 3):
        tree.start_child("a", restart="temporary")
        assert tree.children() == [("a", "running"), ("other", "running")]
        tree.exit("a", SHUTDOWN_STATUS)
        tree.wait("exited", "a", count=count)
        assert tree.children() == [("other", "running")]


@pytest.mark.parametrize(("restart", "restarted"), [("P", True), ("T", False), ("M", False)])
def test_c27_shutdown_status_of_a_command(grow: Grow, restart: str, restarted: bool) -> None:
    """A command that exits with the status for *shutdown* is treated like a supervisor that shut down."""
    tree = grow(f"a:{restart}", **BUDGET)
    old = tree.exit("a", SHUTDOWN_STATUS)
    tree.wait("exited", "a")
    if restarted:
        tree.wait_new(a=old)
    else:
        assert tree.counts()[1] == 0


def test_c29_permanent_abnormal_is_restarted(grow: Grow) -> None:
    """A permanent child that exits with code 1 is restarted."""
    tree = grow("a:P", **BUDGET)
    tree.wait_new(a=tree.exit("a", 1))
    assert tree.counts() == [1, 1, 0, 1]


def test_c30_transient_abnormal_is_restarted(grow: Grow) -> None:
    """A transient child is restarted after exit code 1, and after SIGKILL from outside."""
    tree = grow("a:T", **BUDGET)
    second = tree.wait_new(a=tree.exit("a", 1))["a"]
    assert tree.entry("a")["last_exit"]["code"] == 1
    assert tree.crash_until_new("a") != second
    assert tree.entry("a")["last_exit"]["signal"] == "SIGKILL"


def test_c31_temporary_abnormal_is_forgotten(grow: Grow) -> None:
    """A temporary child that exits with code 1 is gone."""
    tree = grow("a:M", **BUDGET)
    tree.exit("a", 1)
    tree.wait("exited", "a")
    assert tree.children() == []


def test_c32_ends_without_restart_are_not_counted(grow: Grow) -> None:
    """With intensity 0: three crashes of a temporary child and a normal end of a transient one; all lives."""
    tree = grow("a:M b:T", intensity=0)
    before = tree.pid(SUP)
    for count in (1, 2, 3):
        tree.crash("a")
        tree.wait("exited", "a", count=count)
        tree.start_child("a", restart="temporary")
    tree.exit("b", 0)
    tree.wait("exited", "b")
    assert tree.children() == [("a", "running"), ("b", "undefined")]
    assert tree.pid(SUP) == before


def test_rule_s48_temporary_crash_leaves_a_group_alone(grow: Grow) -> None:
    """A crash that leads to no restart never touches siblings, one_for_all or not."""
    tree = grow("a:P t:M b:P", strategy="one_for_all")
    before = tree.pids("a b")
    tree.crash("t")
    tree.wait("exited", "t")
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.pids("a b") == before


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_rule_s48_transient_normal_exit_leaves_a_group_alone(grow: Grow, strategy: str) -> None:
    """A transient child that ends normally, or with *shutdown*, takes nobody with it."""
    tree = grow("a:P t:T u:T b:P", strategy=strategy)
    before = tree.pids("a b")
    tree.exit("t", 0)
    tree.exit("u", SHUTDOWN_STATUS)
    tree.wait("exited", "t")
    tree.wait("exited", "u")
    assert tree.children() == [("b", "running"), ("u", "undefined"), ("t", "undefined"), ("a", "running")]
    assert tree.pids("a b") == before


def test_rule_s43_normal_exit_codes_of_a_worker(grow: Grow) -> None:
    """`normal_exit` says which codes are normal: a transient child with [0, 3] is not restarted after 3."""
    tree = grow("a:T", actors={"a": {"normal_exit": [0, 3]}}, **BUDGET)
    tree.exit("a", 3)
    tree.wait("exited", "a")
    assert tree.children() == [("a", "undefined")]


def test_rule_s43_the_stop_signal_from_a_stranger_is_abnormal(grow: Grow) -> None:
    """Death by a signal that the supervisor did not send is abnormal, SIGTERM included: a transient is restarted."""
    tree = grow("a:T", actors={"a": {"stop": "default"}}, **BUDGET)
    old = tree.pid("a")
    procs.kill(old, signal.SIGTERM)
    tree.wait_new(a=old)
