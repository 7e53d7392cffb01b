"""Section I: the management calls and their refusals."""

from __future__ import annotations

import procs
from configs import Config
from tree import SUP, Grow, Tree


def test_c94_calls_about_a_running_child(grow: Grow) -> None:
    """Each call that does not fit a running or unknown child is refused by name; the child is untouched."""
    tree = grow("a:P")
    pid = tree.pid("a")
    started = tree.start_refused("a")
    assert (started.code, started.error["pid"]) == ("already_started", pid)
    assert tree.refusal("restart_child", "a") == "running"
    assert tree.refusal("delete_child", "a") == "running"
    for verb in ("restart_child", "delete_child", "terminate_child", "get_childspec"):
        assert tree.refusal(verb, "x") == "not_found"
    assert tree.pid("a") == pid


def test_c95_terminate_and_restart(grow: Grow) -> None:
    """terminate_child is ok twice; then the id is present, and restart_child starts it anew."""
    tree = grow("a:P")
    old = tree.pid("a")
    assert tree.counts() == [1, 1, 0, 1]
    tree.terminate_child("a")
    assert procs.is_dead(old)
    tree.terminate_child("a")
    assert tree.start_refused("a").code == "already_present"
    assert tree.counts() == [1, 0, 0, 1]
    assert tree.restart_child("a") not in (old, None)
    assert tree.counts() == [1, 1, 0, 1]


def test_c96_delete(grow: Grow) -> None:
    """A deleted child is unknown, and its id is free."""
    tree = grow("a:P")
    tree.terminate_child("a")
    tree.delete_child("a")
    assert tree.refusal("restart_child", "a") == "not_found"
    assert tree.children() == []
    assert tree.counts() == [0, 0, 0, 0]
    assert tree.start_child("a") == tree.pid("a")


def test_c97_a_static_supervisor_knows_no_pids(grow: Grow) -> None:
    """terminate_child with the child's pid, as a number or as text, finds nothing; the child is untouched."""
    tree = grow("a:P")
    pid = tree.pid("a")
    assert tree.refused("terminate_child", supervisor=SUP, child=pid).code in ("not_found", "bad_request")
    assert tree.refusal("terminate_child", str(pid)) == "not_found"
    assert tree.pid("a") == pid


def test_c98_unknown_supervisor(grow: Grow) -> None:
    """Every call to a supervisor that does not exist fails with noproc; a worker is no supervisor either."""
    tree = grow("a:P")
    for verb in ("restart_child", "delete_child", "terminate_child", "get_childspec"):
        assert tree.refusal(verb, "a", supervisor="nobody") == "noproc"
    assert tree.refusal("which_children", supervisor="nobody") == "noproc"
    assert tree.refusal("count_children", supervisor="nobody") == "noproc"
    assert tree.start_refused("x", supervisor="nobody").code == "noproc"
    assert tree.refusal("which_children", supervisor="a") in ("noproc", "bad_request")


def test_c99_failing_start_child(grow: Grow) -> None:
    """The refusal holds the reason; the list is unchanged and nothing is charged."""
    tree = grow("a:P", intensity=0)
    before = tree.pids("sup a")
    refused = tree.start_refused("x", plan="fail")
    assert refused.code == "start_failed"
    assert "1" in refused.message
    assert tree.children() == [("a", "running")]
    assert tree.pids("sup a") == before


def test_c99_start_child_of_a_missing_executable(grow: Grow) -> None:
    """The refusal says that it cannot be executed, whether checked before or found out after the fork."""
    tree = grow("a:P", intensity=0)
    spec = {"id": "x", "command": ["/nonexistent/program"]}
    refused = tree.refused("start_child", supervisor=SUP, spec=spec)
    assert refused.code in ("start_failed", "bad_request")
    assert "/nonexistent/program" in refused.message
    assert tree.children() == [("a", "running")]


def test_c100_failing_restart_child(grow: Grow) -> None:
    """restart_child that fails answers the error; no retry, and intensity 0 is not exceeded."""
    tree = grow("a:P", actors={"a": {"plan": "ready,fail"}}, intensity=0)
    sup = tree.pid(SUP)
    tree.terminate_child("a")
    assert tree.refusal("restart_child", "a") == "start_failed"
    assert tree.children() == [("a", "undefined")]
    assert tree.tries("a") == 1
    assert tree.pid(SUP) == sup


def test_c101_name_taken_elsewhere(tree: Tree, config: Config) -> None:
    """
    start_child of a name that a process elsewhere in the tree holds: already_started with that one's pid.

    The holder is untouched and no spec is kept.
    """
    config.supervisor("top", f"{SUP} other")
    config.supervisor(SUP, "a:P")
    config.supervisor("other", "q:P")
    tree.grow()
    tree.forget()
    holder = tree.pid("q")
    refused = tree.start_refused("q")
    assert (refused.code, refused.error["pid"]) == ("already_started", holder)
    assert tree.children() == [("a", "running")]
    assert tree.pid("q") == holder
    assert tree.tries("q") == 0
    assert tree.start_refused("other").code == "already_started"


def test_c103_temporary_child(grow: Grow) -> None:
    """After terminate_child a temporary child is unknown to every call."""
    tree = grow("a:M")
    tree.terminate_child("a")
    for verb in ("terminate_child", "restart_child", "delete_child"):
        assert tree.refusal(verb, "a") == "not_found"


def test_rule_s143_id_of_an_ended_temporary_child_is_free_at_once(grow: Grow) -> None:
    """start_child takes the same id again as soon as a temporary child has ended by itself."""
    tree = grow("a:M")
    tree.crash("a")
    tree.wait("exited", "a")
    assert tree.refusal("terminate_child", "a") == "not_found"
    assert tree.start_child("a", restart="temporary") == tree.pid("a")


def test_c104_which_children_and_single_look_ups(grow: Grow) -> None:
    """
    Newest first; a stopped child is undefined, a deleted one gone.

    Interpretation: the look-up of a single child is get_childspec.
    """
    tree = grow()
    tree.start_child("a")
    tree.start_child("b")
    assert tree.children() == [("b", "running"), ("a", "running")]
    tree.terminate_child("a")
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    tree.delete_child("a")
    assert tree.children() == [("b", "running")]
    assert tree.call("get_childspec", supervisor=SUP, child="b")["restart"] == "permanent"
    assert tree.refusal("get_childspec", "a") == "not_found"
    assert tree.refusal("get_childspec", "unknown") == "not_found"


def test_c105_counts_with_child_supervisors(tree: Tree, config: Config) -> None:
    """Three child supervisors, one stopped by the API: three specs, two active, three supervisors, no workers."""
    config.supervisor(SUP, "s1 s2 s3")
    for name in ("s1", "s2", "s3"):
        config.supervisor(name, f"{name}w:P")
    tree.grow()
    tree.terminate_child("s2")
    assert tree.counts() == [3, 2, 3, 0]
    assert tree.children() == [("s3", "running"), ("s2", "undefined"), ("s1", "running")]


def test_rule_s141_restart_child_starts_only_that_child(grow: Grow) -> None:
    """Under one_for_all, too, terminate_child and restart_child concern one child only."""
    tree = grow("a:P b:P", strategy="one_for_all")
    b = tree.pid("b")
    tree.terminate_child("a")
    tree.restart_child("a")
    assert tree.trace("start", "stop") == ["stop a", "start a"]
    assert tree.pid("b") == b


def test_rule_s139_restart_child_that_ignores(grow: Grow) -> None:
    """restart_child of a child that answers *ignore* gives no pid and leaves it undefined."""
    tree = grow("a:P", actors={"a": {"plan": "ready,ignore"}})
    tree.terminate_child("a")
    assert tree.restart_child("a") is None
    assert tree.children() == [("a", "undefined")]


def test_rule_s136_terminate_child_of_a_supervisor_ends_its_subtree(tree: Tree, config: Config) -> None:
    """terminate_child of a child supervisor stops everything in it, in reverse order; restart_child brings it back."""
    config.supervisor(SUP, "s1 a:P")
    config.supervisor("s1", "x:P y:P")
    tree.grow()
    tree.forget()
    before = tree.pids("x y")
    tree.terminate_child("s1")
    assert tree.stops() == "y x"
    assert all(procs.is_dead(pid) for pid in before.values())
    assert tree.refusal("which_children", supervisor="s1") == "noproc"
    tree.restart_child("s1")
    assert tree.children("s1") == [("y", "running"), ("x", "running")]


def test_rule_s129_calls_of_many_clients_are_each_answered(grow: Grow) -> None:
    """Twenty overlapping calls on one connection, and as many connections, all get their own answer."""
    tree = grow("a:P")
    numbers = [tree.control.send("which_children", supervisor=SUP) for _ in range(20)]
    others = [tree.connect() for _ in range(20)]
    asked = [(other, other.send("count_children", supervisor=SUP)) for other in others]
    assert all(tree.control.answer(number)[0]["id"] == "a" for number in numbers)
    assert all(other.answer(number)["specs"] == 1 for other, number in asked)
