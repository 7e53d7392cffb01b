"""Section L: supervisors of supervisors."""

from __future__ import annotations

import procs
import pytest
from configs import Config
from tree import SUP, Tree

LONG = "3600s"


def test_c129_a_dynamic_child_that_cannot_restart_takes_the_top_strategy(tree: Tree, config: Config) -> None:
    """
    c4's crash concerns c4; c3's hopeless restart ends s2, and top's one_for_all restarts everything from the file.

    So s1 has new c1 and c2, s2 has lost what start_child had added, and s3, stopped by the API, runs again.
    """
    config.supervisor("top", "s1 s2 s3", strategy="one_for_all", intensity=4, period=LONG)
    config.supervisor("s1", "c1:P c2:P")
    config.supervisor("s2", intensity=4, period=LONG)
    config.supervisor("s3", restart="transient")
    tree.grow()
    tree.terminate_child("s3", supervisor="top")
    tree.start_child("c3", supervisor="s2", plan="ready,fail")
    tree.start_child("c4", supervisor="s2")
    tree.forget()
    before = tree.pids("s1 c1 c2 s2 c3")
    tree.crash_until_new("c4")
    assert tree.pids("s1 c1 c2 s2 c3") == before
    tree.crash("c3")
    tree.wait_new(s1=before["s1"], s2=before["s2"], c1=before["c1"], c2=before["c2"])
    tree.wait("ready", "s3", count=2)
    assert tree.tries("c3") == 3
    assert tree.children("top") == [("s3", "running"), ("s2", "running"), ("s1", "running")]
    assert tree.children("s1") == [("c2", "running"), ("c1", "running")]
    assert tree.children("s2") == []
    assert tree.children("s3") == []


def test_c132_failing_starts_add_up_over_levels(tree: Tree, config: Config) -> None:
    """Worker w fails 2 starts under sub and then 1 in each of top's 3 attempts to start sub: five; then all ends."""
    config.supervisor("top", "sub", intensity=3, period="60s")
    config.supervisor("sub", "w:P", actors={"w": {"plan": "ready,fail"}}, intensity=2, period="60s")
    tree.grow()
    tree.forget()
    tree.crash("w")
    assert tree.wait_exit() == 1
    assert tree.tries("w") == 5
    assert tree.starts() == ""


def test_rule_s113_crashes_multiply_over_levels(tree: Tree, config: Config) -> None:
    """A worker that starts and crashes each time: two levels of intensity 1 make four starts."""
    config.supervisor("apex", "top")
    config.supervisor("top", "sub", intensity=1, restart="temporary", period=LONG)
    config.supervisor("sub", "w:P", actors={"w": {"plan": "crash:1"}}, intensity=1, period=LONG)
    tree.grow()
    tree.wait_ended("top")
    assert tree.tries("w") == 4


def test_rule_s115_a_transient_supervisor_collapses_silently(tree: Tree, config: Config) -> None:
    """A transient child supervisor that gave up stays down; its parent lives and charges nothing."""
    config.supervisor("top", "sub other:P", intensity=0)
    config.supervisor("sub", "w:P", intensity=0, restart="transient")
    tree.grow()
    before = tree.pids("top other")
    tree.crash("w")
    tree.wait_ended("sub")
    assert tree.children("top") == [("other", "running"), ("sub", "undefined")]
    assert tree.pids("top other") == before


def test_c133_rest_for_one_over_a_child_supervisor(tree: Tree, config: Config) -> None:
    """The crash of a stops z, then sub with y and x inside, before a is started; then a, sub with x y, z start."""
    config.supervisor("top", "a:P sub z:P", strategy="rest_for_one")
    config.supervisor("sub", "x:P y:P")
    tree.grow()
    tree.forget()
    before = tree.pids("a sub x y z")
    tree.crash("a")
    tree.wait_new(**before)
    assert tree.trace("start", "stop") == [
        *("stop z", "stop y", "stop x"),
        *("start a", "start x", "start y", "start z"),
    ]
    stopped = tree.wait("stopped", "sub")["seq"]
    assert stopped < tree.wait("starting", "a", count=2)["seq"]
    assert procs.is_dead(before["sub"])


def test_c134_a_killed_supervisor_leaves_no_worker_behind(tree: Tree, config: Config) -> None:
    """
    SIGKILL of sub: its old worker is dead before the new one is started, never two at a time.

    The new worker is looked at while it is not ready yet, at the gate.
    """
    config.supervisor("top", "sub")
    config.supervisor("sub", "w:P")
    tree.grow()
    before = tree.pids("sub w")
    tree.plan("w", "gate")
    tree.crash("sub")
    held = tree.gate.next()
    assert procs.is_dead(before["w"])
    assert held.pid != before["w"]
    held.release("ready")
    new = tree.wait_new(**before)
    assert new["w"] == held.pid
    assert tree.pids("sub w") == new


@pytest.mark.parametrize("middle", ["sub", "mid"])
def test_rule_s108_killed_supervisors_of_supervisors(tree: Tree, config: Config, middle: str) -> None:
    """SIGKILL of a supervisor with supervisors below: the whole old subtree is dead before the new worker starts."""
    config.supervisor("top", "mid")
    config.supervisor("mid", "sub v:P")
    config.supervisor("sub", "w:P x:P")
    tree.grow()
    below = tree.pids("sub w x") if middle == "sub" else tree.pids("mid sub w x v")
    tree.plan("w", "gate")
    tree.crash(middle)
    held = tree.gate.next()
    assert [name for name, pid in below.items() if not procs.is_dead(pid)] == []
    held.release("ready")
    tree.wait_new(**below)


def test_rule_s108_an_orphan_of_a_killed_supervisors_worker_dies_too(tree: Tree, config: Config) -> None:
    """What a worker had left behind, double-forked into its own session, is killed before the subtree is restarted."""
    config.supervisor("top", "sub")
    config.supervisor("sub", "w:P")
    tree.grow()
    orphan = int(tree.ask("w", "orphan"))
    tree.plan("w", "gate")
    tree.crash("sub")
    held = tree.gate.next()
    assert procs.is_dead(orphan)
    held.release("ready")


def test_c178_a_restarted_supervisor_has_its_static_list(tree: Tree, config: Config) -> None:
    """Deleted static children are back and children added by start_child are gone."""
    config.supervisor("top", "sub", intensity=5)
    config.supervisor("sub", "x:P y:P", intensity=0)
    tree.grow()
    tree.terminate_child("y", supervisor="sub")
    tree.delete_child("y", supervisor="sub")
    tree.start_child("d", supervisor="sub")
    sub = tree.pid("sub")
    tree.crash("x")
    tree.wait_new(sub=sub)
    assert tree.children("sub") == [("y", "running"), ("x", "running")]
    assert tree.start_child("d", supervisor="sub") == tree.pid("d")


def test_c179_the_whole_tree_stops_in_reverse_order(tree: Tree, config: Config) -> None:
    """b, then y and x and with them sub, then a."""
    config.supervisor("top", "a:P sub b:P")
    config.supervisor("sub", "x:P y:P")
    tree.grow()
    tree.forget()
    assert tree.down() == 0
    assert tree.stops() == "b y x a"
    ended = {event["name"]: event["seq"] for event in tree.stream.drain() if event["event"] == "stopped"}
    assert ended["x"] < ended["sub"] < ended["a"] < ended["top"]


def test_c180_a_permanent_supervisor_that_shuts_itself_down(tree: Tree, config: Config) -> None:
    """
    It is restarted, charged, shuts down again, and top gives up; its significant child was started twice.

    top is itself a temporary child, so that its end can be observed.
    """
    config.supervisor("apex", "top")
    config.supervisor("top", "a", intensity=1, restart="temporary")
    config.supervisor("a", "c:M!", actors={"c": {"plan": "exit:20"}}, auto_shutdown="any_significant")
    tree.grow()
    tree.wait_ended("top")
    tree.wait("gave_up", "top")
    assert tree.tries("c") == 2


def test_rule_s36_death_of_an_earlier_child_while_later_ones_start(tree: Tree, config: Config) -> None:
    """A child that dies after its own start while the next one is starting is an ordinary, counted death later."""
    config.supervisor("top", SUP)
    config.supervisor(SUP, "a:P b:P", actors={"a": {"plan": "crash:1,ready"}, "b": {"plan": "gate,ready"}}, intensity=1)
    config.write()
    tree.launch()
    held = tree.gate.next()
    held.release("ready")
    tree.until_ready()
    tree.wait("ready", "a", count=2)
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.trace("start") == ["start a", "start b", "start a"]
    tree.crash("a")
    tree.wait("gave_up", SUP)


WIPE = """
import ctypes, re, signal
start, end = map(int, open("/proc/self/stat").read().rpartition(")")[2].split()[47:49])
ctypes.memset(start, 0, end - start)
print("wiped", flush=True)
signal.pause()
"""


def test_rule_t2_children_of_a_killed_parallel_supervisor_are_dead_before_their_successors(
    tree: Tree, config: Config
) -> None:
    """
    They die with it, and the supervisor above waits until they are gone.

    Not even a program that has written over its environment escapes.
    """
    config.supervisor("top", f"a:P {SUP}")
    config.workers["bare"] = {
        "command": ["python3", "-S", "-c", WIPE],
        "ready": {"line": "wiped"},
    }
    config.supervisor(SUP, "x:P y:P", start="parallel")
    config.supervisors[SUP]["children"] += ["bare"]
    tree.grow()
    before = tree.pids(f"a {SUP} x y bare")
    procs.kill(before[SUP])
    after = tree.wait_new(**{name: before[name] for name in (SUP, "x", "y", "bare")})
    assert all(procs.is_dead(before[name]) for name in after)
    assert tree.pids("a")["a"] == before["a"]
