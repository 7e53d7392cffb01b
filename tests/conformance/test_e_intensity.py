"""
Section E: how many restarts a supervisor allows in which time.

regrow counts on a continuous clock, so short periods stand for long ones where time has to pass.
"""

from __future__ import annotations

import pytest
from configs import Config
from tree import SUP, Grow, Tree

BUDGET = {"intensity": 2, "period": "3600s"}


def test_c47_budget_is_shared_by_all_children(grow: Grow) -> None:
    """Intensity 2: a and b are restarted once each; the third crash ends the supervisor."""
    tree = grow("a:P b:P", **BUDGET)
    tree.crash_until_new("a")
    tree.crash_until_new("b")
    tree.crash("a")
    tree.wait_ended(SUP)
    tree.wait("gave_up", SUP)
    assert tree.children("top") == []
    assert tree.stops() == "b"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_c48_a_batch_is_charged_once(grow: Grow, strategy: str) -> None:
    """Each batch costs one restart however many children it restarts; the third crash ends the supervisor."""
    tree = grow("a:P b:P c:P", strategy=strategy, **BUDGET)
    for _ in range(2):
        before = tree.pids("a b c")
        tree.crash("a")
        tree.wait_new(**before)
    assert tree.starts() == "a b c a b c"
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.children("top") == []


def test_c49_restarts_outside_the_window_are_forgotten(grow: Grow) -> None:
    """Four crashes, each more than twice the period after the one before: intensity 1 is never exceeded."""
    plan = "ready,crash:450,crash:450,crash:450,ready"
    tree = grow("a:P", actors={"a": {"plan": plan}}, intensity=1, period="200ms")
    sup = tree.pid(SUP)
    tree.crash("a")
    tree.wait("ready", "a", count=5)
    assert tree.children() == [("a", "running")]
    assert tree.pid(SUP) == sup


def test_rule_s67_the_window_slides(grow: Grow) -> None:
    """Intensity 2 in 600 ms: crashes at 0, 400 and 800 ms live (0 has left the window), one more at once does not."""
    tree = grow("a:P", actors={"a": {"plan": "ready,crash:400,crash:400,ready"}}, intensity=2, period="600ms")
    tree.crash("a")
    tree.wait("ready", "a", count=4)
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.tries("a") == 3


def test_c51_intensity_zero(grow: Grow) -> None:
    """The first crash ends the supervisor without an attempt to start the child; siblings are stopped."""
    tree = grow("a:P b:P", intensity=0)
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.tries("a") == 0
    assert tree.stops() == "b"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_rule_s68_intensity_zero_in_a_group(grow: Grow, strategy: str) -> None:
    """The same in a group: nobody is started again, the rest is stopped in reverse order."""
    tree = grow("a:P b:P c:P", strategy=strategy, intensity=0)
    tree.crash("b")
    tree.wait_ended(SUP)
    assert tree.trace("try") == []
    assert tree.stops() == "c a"


def test_c53_giving_up_stops_the_rest_in_reverse_order(grow: Grow) -> None:
    """Intensity 1: at the second crash of b, b is not started again and c, then a, are stopped."""
    tree = grow("a:P b:P c:P", intensity=1)
    tree.crash_until_new("b")
    tree.crash("b")
    tree.wait_ended(SUP)
    assert tree.tries("b") == 1
    assert tree.stops() == "c a"


def test_c54_a_child_that_dies_at_once_every_time(plant: Grow) -> None:
    """Intensity 2: exactly three starts in all, then the supervisor gives up; success resets nothing."""
    tree = plant("a:P", actors={"a": {"plan": "crash:1"}}, intensity=2).grow()
    tree.wait_ended(SUP)
    assert tree.tries("a") == 3
    assert tree.starts() == "a a a"


def test_c55_manual_restarts_are_not_charged(grow: Grow) -> None:
    """Intensity 0: five rounds of terminate_child and restart_child, and the supervisor lives."""
    tree = grow("a:P", intensity=0)
    sup = tree.pid(SUP)
    for _ in range(5):
        tree.terminate_child("a")
        tree.restart_child("a")
    assert tree.children() == [("a", "running")]
    assert tree.pid(SUP) == sup


def test_c56_default_intensity(grow: Grow) -> None:
    """The defaults are Elixir's, 3 in 5 s: three crashes are restarted, the fourth ends the supervisor."""
    tree = grow("a:P", intensity=None, period=None)
    for _ in range(3):
        tree.crash_until_new("a")
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.tries("a") == 3


def test_rule_s105_the_daemon_ends_when_its_own_supervisor_gives_up(tree: Tree, config: Config) -> None:
    """When the root supervisor of the file gives up, `regrow up` ends with status 1, and nothing is left."""
    config.supervisor("app", "a:P b:P", intensity=0)
    tree.grow()
    tree.forget()
    tree.crash("a")
    assert tree.wait_exit() == 1
    assert tree.stops() == "b"
    assert [event["name"] for event in tree.stream.drain() if event["event"] == "gave_up"] == ["app"]
