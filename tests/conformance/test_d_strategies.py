"""Section D: which siblings a death concerns."""

from __future__ import annotations

import procs
import pytest
from tree import SUP, Grow
from wire import TIMEOUT_S

BUDGET = {"intensity": 2, "period": "3600s"}


def test_c34_one_for_one(grow: Grow) -> None:
    """Only the dead child is started again."""
    tree = grow("a:P b:P", **BUDGET)
    b = tree.pid("b")
    tree.crash_until_new("a")
    assert tree.pid("b") == b
    assert tree.counts() == [2, 2, 0, 2]


def test_c35_one_for_all(grow: Grow) -> None:
    """All siblings are stopped, then all are started."""
    tree = grow("a:P b:P", strategy="one_for_all", **BUDGET)
    before = tree.pids("a b")
    tree.crash("a")
    tree.wait_new(**before)
    assert tree.trace("stop", "start") == ["stop b", "start a", "start b"]


def test_c36_one_for_all_order(grow: Grow) -> None:
    """Stopped in reverse start order, each dead before the next is asked; started in start order."""
    tree = grow("a:P b:P c:P", strategy="one_for_all")
    before = tree.pids("a b c")
    tree.crash("b")
    tree.wait_new(**before)
    assert tree.trace("term", "stop", "start") == [
        *("term c", "stop c", "term a", "stop a"),
        *("start a", "start b", "start c"),
    ]


def test_c37_rest_for_one(grow: Grow) -> None:
    """The dead child and those after it; earlier ones are untouched."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one")
    before = tree.pids("a b c")
    tree.crash("b")
    tree.wait_new(b=before["b"], c=before["c"])
    assert (tree.stops(), tree.starts()) == ("c", "b c")
    assert tree.pid("a") == before["a"]


@pytest.mark.parametrize(("crashed", "stopped", "started"), [("a", "c b", "a b c"), ("c", "", "c")])
def test_rule_s53_rest_for_one_at_the_ends(grow: Grow, crashed: str, stopped: str, started: str) -> None:
    """The first child takes all with it, the last one nobody."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one")
    before = tree.pids(started)
    tree.crash(crashed)
    tree.wait_new(**before)
    assert (tree.stops(), tree.starts()) == (stopped, started)


def test_c38_rest_for_one_order(grow: Grow) -> None:
    """Position in the list decides, not the name."""
    names = "c7 c3 c10 c2 c5"
    tree = grow(" ".join(f"{name}:P" for name in names.split()), strategy="rest_for_one")
    before = tree.pids(names)
    tree.crash("c10")
    tree.wait_new(c10=before["c10"], c2=before["c2"], c5=before["c5"])
    assert tree.trace("stop", "start") == ["stop c5", "stop c2", "start c10", "start c2", "start c5"]
    assert tree.pids("c7 c3") == {"c7": before["c7"], "c3": before["c3"]}


def test_c40_temporary_bystander(grow: Grow) -> None:
    """A temporary sibling stopped in a batch is gone for good; the supervisor lives."""
    tree = grow("a:P t:M", strategy="one_for_all")
    sup = tree.pid(SUP)
    old = tree.exit("a", 0)
    tree.wait_new(a=old)
    assert tree.stops() == "t"
    assert tree.children() == [("a", "running")]
    assert tree.pid(SUP) == sup


def test_c42_rest_for_one_leaves_earlier_undefined_slots(grow: Grow) -> None:
    """A child before the dead one that was stopped by the API stays stopped."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one")
    tree.terminate_child("a")
    before = tree.pids("b c")
    tree.crash("b")
    tree.wait_new(**before)
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "undefined")]


def test_c44_simultaneous_deaths_one_for_one(grow: Grow) -> None:
    """Three deaths at once are three restarts: intensity 1 is exceeded."""
    tree = grow("a:P b:P c:P", intensity=1)
    tree.crash_together("a b c")
    tree.wait_ended(SUP)
    assert tree.children("top") == []


def test_rule_s59_simultaneous_deaths_one_for_all(grow: Grow) -> None:
    """Three deaths at once are one batch, charged once: intensity 1 is not exceeded."""
    tree = grow("a:P b:P c:P", strategy="one_for_all", intensity=1)
    sup = tree.pid(SUP)
    tree.wait_new(**tree.crash_together("a b c"))
    assert tree.starts() == "a b c"
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid(SUP) == sup


def test_rule_s59_simultaneous_deaths_rest_for_one(grow: Grow) -> None:
    """Deaths in the batch's range are absorbed; with the first child among them one batch takes all."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one", intensity=2)
    sup = tree.pid(SUP)
    before = tree.crash_together("b c")
    new = tree.wait_new(**before)
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid(SUP) == sup
    assert tree.pids("b c") == new
    assert tree.tries("b") == 1


def test_rule_s60_death_before_the_pivot_is_handled_afterwards(grow: Grow) -> None:
    """rest_for_one: a batch of b is under way, slowly, when a dies; then a's own batch follows, charged apart."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one", actors={"c": {"stop": "gate"}}, intensity=2, period="3600s")
    before = tree.pids("a b c")
    tree.crash("b")
    held = tree.gate.next()
    tree.crash("a")
    procs.wait_dead(before["a"], TIMEOUT_S)
    held.release("go")
    tree.gate.next().release("go")
    tree.wait_new(a=before["a"])
    tree.wait("ready", "c", count=3)
    assert tree.starts() == "b c a b c"
    assert tree.stops() == "c c b"
    tree.crash("b")
    tree.gate.next().release("go")
    tree.wait_ended(SUP)


def test_rule_s55_batch_starts_undefined_siblings(grow: Grow) -> None:
    """A batch starts every spec in its range: stopped by the API, ended normally, or having ignored."""
    actors = {"i": {"plan": "ignore,ready"}}
    tree = grow("a:P s:P t:T i:P", strategy="one_for_all", actors=actors)
    tree.terminate_child("s")
    tree.exit("t", 0)
    tree.wait("exited", "t")
    assert tree.counts() == [4, 1, 0, 4]
    tree.crash_until_new("a")
    tree.wait("ready", "i")
    assert tree.starts() == "a s t i"
    assert tree.counts() == [4, 4, 0, 4]


def test_rule_s56_ignore_in_a_batch_does_not_fail_it(grow: Grow) -> None:
    """A child that answers *ignore* during a batch ends undefined; the batch goes on and nothing is retried."""
    tree = grow("a:P i:P c:P", strategy="one_for_all", actors={"i": {"plan": "ready,ignore"}}, intensity=1)
    before = tree.pids("a c")
    tree.crash("a")
    tree.wait_new(**before)
    assert tree.children() == [("c", "running"), ("i", "undefined"), ("a", "running")]
    assert tree.tries("i") == 1


def test_rule_s61_start_child_appends_and_restart_keeps_the_place(grow: Grow) -> None:
    """delete_child and start_child move a child to the end; a restart or restart_child does not move it."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one")
    tree.terminate_child("a")
    tree.restart_child("a")
    assert [name for name, _ in tree.children()] == ["c", "b", "a"]
    tree.terminate_child("a")
    tree.delete_child("a")
    tree.start_child("a")
    assert [name for name, _ in tree.children()] == ["a", "c", "b"]
    before = tree.pids("b c a")
    tree.forget()
    tree.crash("c")
    tree.wait_new(c=before["c"], a=before["a"])
    assert (tree.stops(), tree.starts()) == ("a", "c a")
    assert tree.pid("b") == before["b"]


def test_rule_s57_terminated_later_sibling_is_started_by_rest_for_one(grow: Grow) -> None:
    """rest_for_one starts an undefined child after the pivot, and only those."""
    tree = grow("a:P b:P c:P", strategy="rest_for_one")
    tree.terminate_child("c")
    b = tree.pid("b")
    tree.crash("b")
    tree.wait_new(b=b)
    tree.wait("ready", "c", count=2)
    assert tree.starts() == "b c"


def test_c46_death_of_a_process_that_is_no_child_means_nothing(grow: Grow) -> None:
    """
    An orphan that a child left behind ends abnormally: nobody is restarted and nothing is charged.

    The orphan (double fork, own session) has been adopted by the supervisor or is a stranger to it; a late
    report about a replaced incarnation cannot be made from outside and is tested on the core.
    """
    tree = grow("a:P b:P", intensity=0)
    before = tree.pids("sup a b")
    orphan = int(tree.ask("a", "orphan"))
    tree.tell("a", "exit 3", "orphan")
    assert procs.wait_dead(orphan, TIMEOUT_S)
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.pids("sup a b") == before
