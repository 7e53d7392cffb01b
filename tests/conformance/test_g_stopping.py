"""Section G: in which order, how hard, and how long children are stopped."""

from __future__ import annotations

import time

import processes
import procs
from configs import Config
from tree import SUP, Grow, Tree
from wire import TIMEOUT_S, CallError


def test_c70_reverse_start_order(grow: Grow) -> None:
    """Children are stopped in reverse start order."""
    tree = grow("c7:P c3:P c10:P c2:P c5:P")
    assert tree.down() == 0
    assert tree.stops() == "c5 c2 c10 c3 c7"


def test_c71_one_after_the_other(grow: Grow) -> None:
    """Each child gets its stop signal only after the one before is dead; the times add up."""
    slow = {name: {"stop": "100"} for name in "abc"}
    tree = grow("a:P b:P c:P", actors=slow)
    begun = time.monotonic()
    assert tree.down() == 0
    assert time.monotonic() - begun >= 0.3
    assert tree.trace() == ["term c", "stop c", "term b", "stop b", "term a", "stop a"]


def test_c72_a_child_that_ignores_the_stop_signal_is_killed(grow: Grow) -> None:
    """Child b is killed when its time is up, then a is stopped gracefully."""
    tree = grow("a:P b:P", actors={"b": {"stop": "ignore", "shutdown": "300ms"}})
    begun = time.monotonic()
    assert tree.down() == 0
    assert 0.3 <= time.monotonic() - begun < 3
    assert tree.trace() == ["term b", "term a", "stop a"]
    killed = [event["name"] for event in tree.stream.drain() if event["event"] == "killing"]
    assert killed == ["b"]


def test_c73_brutal_kill(grow: Grow) -> None:
    """Child b gets no stop signal at all; a is stopped gracefully."""
    tree = grow("a:P b:P", actors={"b": {"shutdown": "brutal_kill"}})
    assert tree.down() == 0
    assert tree.trace() == ["term a", "stop a"]


def test_c74_infinity(tree: Tree, config: Config) -> None:
    """A child with shutdown infinity is awaited as long as it takes, a child supervisor likewise."""
    config.worker("x", stop="500")
    config.worker("b", stop="1000", shutdown="infinity")
    config.supervisor("a", "x", shutdown="infinity")
    config.supervisor(SUP, "a b")
    tree.grow()
    tree.forget()
    begun = time.monotonic()
    assert tree.down() == 0
    assert time.monotonic() - begun >= 1.5
    assert tree.trace() == ["term b", "stop b", "term x", "stop x"]


def test_c77_an_abnormal_exit_on_the_way_down_changes_nothing(grow: Grow) -> None:
    """Child b exits with code 1 when asked to stop in a batch: one batch, charged once, both restarted."""
    tree = grow("a:P b:P", strategy="one_for_all", actors={"b": {"stop": "code:1"}}, intensity=1)
    before = tree.pids("sup a b")
    tree.crash("a")
    tree.wait_new(a=before["a"], b=before["b"])
    assert tree.starts() == "a b"
    assert tree.pid(SUP) == before["sup"]


def test_rule_s97_abnormal_exit_under_terminate_child(grow: Grow) -> None:
    """terminate_child is ok whatever code the child ends with; it is not restarted, with intensity 0 either."""
    tree = grow("a:P b:P", actors={"a": {"stop": "code:3"}}, intensity=0)
    sup = tree.pid(SUP)
    tree.terminate_child("a")
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    assert tree.pid(SUP) == sup


def test_rule_s100_a_child_that_died_before_its_turn(grow: Grow) -> None:
    """While c is being stopped b dies by itself: it is not restarted and a is stopped next."""
    tree = grow("a:P b:P c:P", actors={"c": {"stop": "gate"}})
    b = tree.pid("b")
    tree.call("down")
    held = tree.gate.next()
    procs.kill(b)
    assert procs.wait_dead(b, TIMEOUT_S)
    held.release("go")
    assert tree.wait_exit() == 0
    assert tree.trace() == ["term c", "stop c", "term a", "stop a"]


def test_c78_a_child_that_left_its_supervisor_is_stopped_all_the_same(grow: Grow) -> None:
    """
    Child a has closed every descriptor, ignores the stop signal and left an orphan in a session of its own.

    terminate_child returns, and both are dead by then; other requests are served.
    """
    tree = grow("a:P b:P", actors={"a": {"shutdown": "200ms"}})
    orphan = int(tree.ask("a", "orphan"))
    pid = int(tree.ask("a", "unlink"))
    assert pid == tree.pid("a")
    tree.terminate_child("a")
    assert procs.is_dead(pid)
    assert procs.is_dead(orphan)
    assert tree.children() == [("b", "running"), ("a", "undefined")]


def test_c79_a_supervisor_ends_with_its_parent(grow: Grow) -> None:
    """
    When the parent process of supervisors is gone, they and their children end, without being asked.

    Interpretation: the parent is the daemon itself, killed, because nothing makes a daemon end normally without
    stopping its tree; the order in which the children end is not promised then.
    """
    tree = grow("a:P b:P")
    known = [tree.call("ping")["pid"], *tree.pids("top sup a b").values()]
    procs.kill(known[0])
    for pid in known:
        assert procs.wait_dead(pid, TIMEOUT_S)
    tree.wait_exit()
    processes.await_no_children()


def test_c80_shutdown_zero(grow: Grow) -> None:
    """Asked, and killed at once: a child that needs half a second to stop does not get it."""
    tree = grow("a:P", actors={"a": {"shutdown": "0s", "stop": "500"}})
    pid = tree.pid("a")
    begun = time.monotonic()
    tree.terminate_child("a")
    assert time.monotonic() - begun < 0.4
    assert procs.is_dead(pid)
    assert tree.stops() == ""


def test_c81_calls_wait_while_a_child_is_being_stopped(grow: Grow) -> None:
    """which_children from another client is answered after the slow child is dead, with the final state."""
    tree = grow("a:P b:P", actors={"a": {"stop": "gate", "shutdown": "10s"}})
    pid = tree.pid("a")
    terminating = tree.control.send("terminate_child", supervisor=SUP, child="a")
    held = tree.gate.next()
    other = tree.connect()
    asking = other.send("which_children", supervisor=SUP)
    other.call("ping")
    assert not other.answered(asking)
    held.release("go")
    children = other.answer(asking)
    assert procs.is_dead(pid)
    assert [(child["id"], child["state"]) for child in children] == [("b", "running"), ("a", "undefined")]
    tree.control.answer(terminating)


def test_c82_calls_to_an_ending_supervisor(grow: Grow) -> None:
    """A call that waits while the supervisor shuts down fails with shutdown, a later one with noproc."""
    tree = grow("a:P b:P", actors={"b": {"stop": "gate", "shutdown": "10s"}}, intensity=0)
    tree.crash("a")
    held = tree.gate.next()
    other = tree.connect()
    asking = other.send("which_children", supervisor=SUP)
    other.call("ping")
    held.release("go")
    try:
        other.answer(asking)
        code = ""
    except CallError as error:
        code = error.code
    assert code == "shutdown"
    tree.wait_ended(SUP)
    assert tree.refusal("which_children") == "noproc"


def test_rule_s102_queued_calls_are_served_in_order_after_the_stop(grow: Grow) -> None:
    """terminate_child of a slow child, then restart_child of it from another client: it runs again."""
    tree = grow("a:P", actors={"a": {"stop": "gate", "shutdown": "10s"}})
    old = tree.pid("a")
    terminating = tree.control.send("terminate_child", supervisor=SUP, child="a")
    held = tree.gate.next()
    other = tree.connect()
    restarting = other.send("restart_child", supervisor=SUP, child="a")
    other.call("ping")
    held.release("go")
    tree.control.answer(terminating)
    new = other.answer(restarting)["pid"]
    assert new not in (old, None)
    stopping = tree.control.send("terminate_child", supervisor=SUP, child="a")
    tree.gate.next().release("go")
    tree.control.answer(stopping)
