"""
Section F: a restart whose start fails is retried behind what else is to be done, and charged each time.

Slow failures are attempts that the test holds at its gate and fails when it wants to.
"""

from __future__ import annotations

import time

import procs
from tree import SUP, Grow, Tree
from wire import TIMEOUT_S

PATIENT = {"intensity": 100, "period": "3600s"}
"""Room for as many failed attempts as the calls between them need."""


def test_c57_one_for_one_gives_up_after_intensity_attempts(grow: Grow) -> None:
    """Intensity 4: exactly four failed starts, then the supervisor ends and stops the sibling."""
    tree = grow("a:P b:P", actors={"a": {"plan": "ready,fail"}}, intensity=4, period="3600s")
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.tries("a") == 4
    assert tree.starts() == ""
    assert tree.stops() == "b"


def test_c58_one_for_all_gives_up(grow: Grow) -> None:
    """A sibling that no longer starts ends the supervisor after four batches; nothing is left."""
    tree = grow("a:P b:P", strategy="one_for_all", actors={"b": {"plan": "ready,fail"}}, intensity=4, period="3600s")
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.tries("b") == 4
    assert tree.starts() == "a a a a"
    assert tree.children("top") == []


def test_c59_rest_for_one_keeps_what_it_restarted(grow: Grow) -> None:
    """Child a is restarted once and stays, b is retried until the budget is gone."""
    tree = grow("a:P b:P", strategy="rest_for_one", actors={"b": {"plan": "ready,fail"}}, intensity=4, period="3600s")
    tree.crash("a")
    tree.wait_ended(SUP)
    assert tree.starts() == "a"
    assert tree.tries("b") == 4
    assert tree.stops() == "b a"


def test_c60_one_for_all_other_child_fails(grow: Grow) -> None:
    """When b fails in the batch, a, restarted already, is stopped and started again; two restarts are charged."""
    actors = {"b": {"plan": "ready,fail,ready"}}
    tree = grow("a:P b:P", strategy="one_for_all", actors=actors, intensity=3, period="3600s")
    tree.crash("a")
    tree.wait("ready", "b", count=2)
    assert tree.trace("start", "stop") == ["stop b", "start a", "stop a", "start a", "start b"]
    assert tree.tries("b") == 2
    before = tree.pids("a b")
    tree.crash("a")
    tree.wait_new(**before)
    tree.crash("a")
    tree.wait_ended(SUP)


def test_rule_s80_rest_for_one_later_child_fails(grow: Grow) -> None:
    """Child c fails twice in b's batch and becomes the pivot: a, b are left alone, c and then d start when c can."""
    tree = grow(
        "a:P b:P c:P d:P", strategy="rest_for_one", actors={"c": {"plan": "ready,fail,fail,ready"}}, intensity=3
    )
    before = tree.pids("a b c d")
    tree.crash("b")
    tree.wait_new(b=before["b"], c=before["c"], d=before["d"])
    assert tree.starts() == "b c d"
    assert tree.stops() == "d c"
    assert tree.tries("c") == 3
    assert tree.pid("a") == before["a"]


def hopeless_c(grow: Grow) -> Tree:
    """rest_for_one a b c d after b's crash, with c failing whenever the gate says so."""
    tree = grow("a:P b:P c:P d:P", strategy="rest_for_one", **PATIENT)
    tree.plan("c", "gate")
    tree.crash("b")
    tree.gate.next().release("fail")
    return tree


def test_c62_states_while_a_later_child_keeps_failing(grow: Grow) -> None:
    """Before the failing child running, the failing one restarting, later ones undefined; then all come up."""
    tree = hopeless_c(grow)
    children = tree.between_attempts("which_children", supervisor=SUP)
    assert [(child["id"], child["state"]) for child in children] == [
        *(("d", "undefined"), ("c", "restarting"), ("b", "running"), ("a", "running")),
    ]
    counts = tree.between_attempts("count_children", supervisor=SUP)
    assert counts == {"specs": 4, "active": 2, "supervisors": 0, "workers": 4}
    tree.gate.next().release("ready")
    tree.wait("ready", "d", count=2)
    assert tree.starts() == "b c d"


def test_rule_s85_cancelled_retry_leaves_later_children_undefined(grow: Grow) -> None:
    """terminate_child of the failing child ends the retries; restart_child of it starts it alone."""
    tree = hopeless_c(grow)
    assert tree.between_attempts("terminate_child", supervisor=SUP, child="c") == {}
    expected = [("d", "undefined"), ("c", "undefined"), ("b", "running"), ("a", "running")]
    assert tree.children() == expected
    tree.plan("c", "ready")
    tree.forget()
    assert tree.restart_child("c") == tree.pid("c")
    assert tree.children() == [("d", "undefined"), ("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.trace("try") == ["try c"]


def hopeless_a(grow: Grow, children: str = "a:P", **keys: object) -> Tree:
    """one_for_one with a crashed and in a failing restart."""
    tree = grow(children, **{**PATIENT, **keys})
    tree.plan("a", "gate")
    tree.crash("a")
    tree.gate.next().release("fail")
    return tree


def test_c63_calls_during_a_failing_restart(grow: Grow) -> None:
    """start_child, restart_child, delete_child and which_children say that a is being restarted, promptly."""
    tree = hopeless_a(grow)
    spec = {"id": "a", **tree.config.actor("a")}
    assert tree.between_attempts("start_child", supervisor=SUP, spec=spec) == "already_present"
    assert tree.between_attempts("restart_child", supervisor=SUP, child="a") == "restarting"
    assert tree.between_attempts("delete_child", supervisor=SUP, child="a") == "restarting"
    (child,) = tree.between_attempts("which_children", supervisor=SUP)
    assert (child["id"], child["state"], child["pid"]) == ("a", "restarting", None)
    counts = tree.between_attempts("count_children", supervisor=SUP)
    assert counts == {"specs": 1, "active": 0, "supervisors": 0, "workers": 1}


def test_c64_terminate_child_ends_the_retries(grow: Grow) -> None:
    """terminate_child is ok, nothing is attempted any more, and a later restart_child works."""
    tree = hopeless_a(grow)
    assert tree.between_attempts("terminate_child", supervisor=SUP, child="a") == {}
    assert tree.children() == [("a", "undefined")]
    tree.plan("a", "ready")
    tree.forget()
    assert tree.restart_child("a") == tree.pid("a")
    assert tree.tries("a") == 1


def test_c65_stop_is_not_delayed_by_retries(grow: Grow) -> None:
    """A supervisor whose child fails to restart, again and again, stops promptly when asked."""
    tree = grow("a:P", actors={"a": {"plan": "ready,fail:5"}}, intensity=100_000, period="3600s")
    tree.crash("a")
    tree.wait("start_failed", "a", count=3)
    begun = time.monotonic()
    assert tree.down() == 0
    assert time.monotonic() - begun < 2


def test_c65_stop_is_not_delayed_by_a_slow_attempt(grow: Grow) -> None:
    """The same while one slow attempt is under way: it is stopped like any child."""
    tree = grow("a:P", **PATIENT)
    tree.plan("a", "gate")
    tree.crash("a")
    held = tree.gate.next()
    begun = time.monotonic()
    assert tree.down() == 0
    assert time.monotonic() - begun < 2
    held.release("fail")


def test_c68_ignore_on_restart_is_success(grow: Grow) -> None:
    """A restart that answers *ignore* ends undefined and is not retried; the supervisor lives."""
    tree = grow("a:P", actors={"a": {"plan": "ready,ignore"}})
    sup = tree.pid(SUP)
    tree.crash("a")
    tree.wait("ignored", "a")
    assert tree.children() == [("a", "undefined")]
    assert tree.counts() == [1, 0, 0, 1]
    assert tree.tries("a") == 1
    assert tree.pid(SUP) == sup


def test_c69_stale_retry_does_nothing(grow: Grow) -> None:
    """
    In a batch a has started and b's start is slow; a crashes; b fails; then a's batch brings all up.

    The retry that was queued for b does nothing more, and two restarts are charged in all.
    """
    tree = grow("a:P b:P c:P", strategy="one_for_all", intensity=5)
    tree.plan("b", "gate")
    tree.crash("c")
    held = tree.gate.next()
    again = tree.crash("a")
    assert procs.wait_dead(again, TIMEOUT_S)
    tree.plan("b", "ready")
    held.release("fail")
    tree.wait("ready", "c", count=2)
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.trace("start", "stop") == ["stop b", "stop a", "start a", "start a", "start b", "start c"]
    assert tree.tries("b") == 2
    assert [event["used"] for event in tree.events() if event["event"] == "restarting"] == [1, 2]


def test_rule_s89_another_crash_draws_on_the_same_budget(grow: Grow) -> None:
    """While a's restart keeps failing, crashes of b are charged to the same budget and may exhaust it."""
    tree = hopeless_a(grow, "a:P b:P", intensity=3)
    held = tree.gate.next()
    tree.crash_until_new("b")
    held.release("fail")
    tree.wait_ended(SUP)
    assert tree.tries("a") == 2


def test_rule_s32_failing_child_at_start_fails_its_supervisor(grow: Grow) -> None:
    """A child supervisor that is restarted starts its list; one failure there stops what had started, in reverse."""
    tree = grow("a:P b:P c:P d:P", restart="permanent", actors={"c": {"plan": "ready,fail,ready"}})
    before = tree.pids("sup a b c d")
    tree.crash(SUP)
    tree.wait_new(**before)
    assert tree.trace("start", "stop") == [
        *("start a", "start b", "stop b", "stop a"),
        *("start a", "start b", "start c", "start d"),
    ]
    assert tree.tries("d") == 1
