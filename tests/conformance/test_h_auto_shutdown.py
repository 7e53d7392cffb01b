"""Section H: supervisors that end because significant children did."""

from __future__ import annotations

import pytest
from cli import problems
from configs import Config
from tree import SUP, Grow, Tree

ANY, ALL = "any_significant", "all_significant"
ENDS = ["killed", "code 1", "code 0"]


def end(tree: Tree, name: str, how: str) -> None:
    """Let a child end by itself in one of the ways of ENDS, and wait until that is known."""
    seen = sum(event["event"] == "exited" and event["name"] == name for event in tree.events())
    if how == "killed":
        tree.crash(name)
    else:
        tree.exit(name, int(how.split()[1]))
    tree.wait("exited", name, count=seen + 1)


@pytest.mark.parametrize("auto_shutdown", ["never", ANY, ALL])
def test_c83_children_that_are_not_significant(grow: Grow, auto_shutdown: str) -> None:
    """However a temporary child ends, stopped, killed or by itself: the supervisor lives."""
    tree = grow("a:M", auto_shutdown=auto_shutdown)
    sup = tree.pid(SUP)
    tree.terminate_child("a")
    for how in ENDS:
        tree.start_child("a", restart="temporary")
        end(tree, "a", how)
    assert tree.children() == []
    assert tree.pid(SUP) == sup


@pytest.mark.parametrize("how", ENDS)
def test_c84_any_significant_temporary(grow: Grow, how: str) -> None:
    """terminate_child of a significant child ends nobody; its own end, of whatever kind, ends the supervisor."""
    tree = grow("a:M! b:M! c:M", auto_shutdown=ANY)
    sup = tree.pid(SUP)
    tree.terminate_child("a")
    assert tree.children() == [("c", "running"), ("b", "running")]
    assert tree.pid(SUP) == sup
    tree.start_child("a", restart="temporary", significant=True)
    tree.terminate_child("c")
    tree.start_child("c", restart="temporary")
    tree.forget()
    end(tree, "a", how)
    tree.wait("auto_shutdown", SUP)
    tree.wait_ended(SUP)
    assert tree.stops() == "c b"


def test_c85_any_significant_transient(grow: Grow) -> None:
    """An abnormal end is a restart; a normal one ends the supervisor."""
    tree = grow("a:T! b:T! c:T", auto_shutdown=ANY, intensity=5)
    sup = tree.pid(SUP)
    tree.crash_until_new("a")
    tree.wait_new(a=tree.exit("a", 1))
    assert tree.pid(SUP) == sup
    tree.forget()
    tree.exit("a", 0)
    tree.wait_ended(SUP)
    assert tree.stops() == "c b"


def test_c86_all_significant(grow: Grow) -> None:
    """The end of the last significant child ends the supervisor, not that of the first."""
    tree = grow("a:M! b:M! c:M", auto_shutdown=ALL)
    end(tree, "a", "code 0")
    assert tree.children() == [("c", "running"), ("b", "running")]
    end(tree, "b", "code 0")
    tree.wait_ended(SUP)
    assert tree.stops() == "c"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
def test_c90_significant_bystanders(grow: Grow, auto_shutdown: str, strategy: str) -> None:
    """Significant children stopped in a batch restart trigger nothing."""
    tree = grow("a:T! b:T c:T!", auto_shutdown=auto_shutdown, strategy=strategy)
    before = tree.pids("sup a b c")
    sup = before.pop("sup")
    if strategy == "rest_for_one":
        before.pop("a")
    tree.crash("b")
    tree.wait_new(**before)
    assert tree.stops() == ("c" if strategy == "rest_for_one" else "c a")
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid(SUP) == sup


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
def test_c91_significant_temporary_bystander(grow: Grow, auto_shutdown: str) -> None:
    """A significant temporary bystander is removed by the batch and triggers nothing."""
    tree = grow("b:P a:M!", auto_shutdown=auto_shutdown, strategy="rest_for_one")
    sup = tree.pid(SUP)
    tree.crash_until_new("b")
    assert tree.stops() == "a"
    assert tree.children() == [("b", "running")]
    assert tree.pid(SUP) == sup


@pytest.mark.parametrize("significant", [True, False])
def test_c92_it_cascades_through_significant_supervisors(tree: Tree, config: Config, significant: bool) -> None:
    """B ends with *shutdown* when c does; A follows if B is significant and lives if it is not."""
    config.supervisor("top", "a")
    config.supervisor("a", "b", auto_shutdown=ANY, restart="temporary")
    config.supervisor("b", "c:T!", auto_shutdown=ANY, restart="transient", significant=significant)
    tree.grow()
    tree.exit("c", 0)
    tree.wait_ended("b")
    if significant:
        tree.wait_ended("a")
        assert tree.children("top") == []
    else:
        assert tree.children("a") == [("b", "undefined")]
        assert tree.children("top") == [("a", "running")]


@pytest.mark.parametrize(("auto_shutdown", "good"), [("never", True), (ANY, False), (ALL, False)])
def test_c93_dynamic_supervisors_know_only_never(config: Config, auto_shutdown: str, good: bool) -> None:
    """auto_shutdown with a dynamic supervisor is a bad combination."""
    config.supervisor("app", strategy="dynamic", auto_shutdown=auto_shutdown)
    found = problems(config.write())
    assert (found == "") == good
    assert good or "supervisor.app.auto_shutdown" in found


def test_rule_s119_a_restarting_child_is_active(grow: Grow) -> None:
    """all_significant: while b is in a failing restart, the normal end of a does not end the supervisor."""
    tree = grow("a:T! b:T!", auto_shutdown=ALL, intensity=100)
    sup = tree.pid(SUP)
    tree.plan("b", "gate")
    tree.crash("b")
    held = tree.gate.next()
    end(tree, "a", "code 0")
    assert tree.entry(SUP)["pid"] == sup
    held.release("fail")
    tree.gate.next().release("ready")
    tree.wait("ready", "b", count=2)
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    end(tree, "b", "code 0")
    tree.wait_ended(SUP)


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
def test_rule_s121_terminate_child_never_triggers(grow: Grow, auto_shutdown: str) -> None:
    """Not even terminate_child of the last active significant child ends the supervisor."""
    tree = grow("a:T! b:T! c:P", auto_shutdown=auto_shutdown)
    sup = tree.pid(SUP)
    tree.terminate_child("a")
    tree.terminate_child("b")
    assert tree.children() == [("c", "running"), ("b", "undefined"), ("a", "undefined")]
    assert tree.pid(SUP) == sup


def test_rule_s122_stopped_and_ignored_children_are_inactive(grow: Grow) -> None:
    """all_significant: one stopped by the API and one that ignored do not keep the supervisor up."""
    tree = grow("a:T! b:T! i:T!", auto_shutdown=ALL, actors={"i": {"plan": "ignore"}})
    tree.terminate_child("b")
    tree.exit("a", 0)
    tree.wait_ended(SUP)


def test_rule_s120_exhausted_budget_of_a_significant_child_is_giving_up(grow: Grow) -> None:
    """A significant transient child that crashes is counted: beyond the intensity the supervisor gives up."""
    tree = grow("a:T! b:P", auto_shutdown=ANY, intensity=1)
    tree.crash_until_new("a")
    tree.crash("a")
    tree.wait_ended(SUP)
    assert [event["name"] for event in tree.events() if event["event"] in ("gave_up", "auto_shutdown")] == [SUP]
    tree.wait("gave_up", SUP)


def test_rule_s118_the_root_supervisor_shutting_itself_down_ends_the_daemon(tree: Tree, config: Config) -> None:
    """When the file's root supervisor shuts itself down, `regrow up` ends: with 0 if that was a normal end."""
    config.supervisor("app", "a:T! b:P", auto_shutdown=ANY)
    tree.grow()
    tree.forget()
    tree.exit("a", 0)
    assert tree.wait_exit() == 0
    assert tree.stops() == "b"
