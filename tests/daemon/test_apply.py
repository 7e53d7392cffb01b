"""`regrow apply` on a real tree: what it touches and what it leaves alone."""

from __future__ import annotations

import signal

import cli
import procs
from applying import apply, change, small
from configs import Config
from tree import Tree


def test_only_what_has_changed_is_touched(tree: Tree, config: Config) -> None:
    """One is restarted, one is gone, one is new, one changes in place: in the order of the tree."""
    small(tree, config, "a:P b:P c:P d:P")
    before = tree.pids("top sup a b c d")
    change(config, "b")
    config.workers["c"]["shutdown"] = "2s"
    del config.workers["d"]
    config.worker("e")
    config.supervisors["sup"] |= {"children": ["a", "b", "c", "e"], "intensity": 7}
    told = apply(tree)
    after = tree.pids("top sup a b c e")
    assert {name for name in before if after.get(name) == before[name]} == {"top", "sup", "a", "c"}
    assert tree.trace("stop", "start") == ["stop d", "stop b", "start b", "start e"]
    assert {(change["name"], change["action"]) for change in told["changes"]} == {
        ("sup", "change"), ("b", "restart"), ("c", "change"), ("d", "stop"), ("e", "start"),
    }  # fmt: skip
    assert tree.children() == [("e", "running"), ("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.call("apply")["outcome"] == "unchanged"
    assert tree.call("plan")["changes"] == []


def test_events_have_causes(tree: Tree, config: Config) -> None:
    """Each stop and start comes of the apply, which says who asked; `why` tells the same."""
    small(tree, config)
    change(config, "b")
    id = apply(tree)["id"]
    begun = tree.wait("apply_started", "")
    assert begun["text"].startswith(f"apply {id} by uid ")
    stopping, starting = tree.wait("stopping", "b"), tree.wait("starting", "b", count=2)
    assert stopping["cause"] == starting["cause"] == begun["seq"]
    assert starting["by"] == f"apply {id}"
    assert tree.wait("apply_done", "")["cause"] == begun["seq"]
    assert f"because {begun['text']}" in "\n".join(tree.call("why", name="b")["text"])


def test_a_restart_by_an_apply_is_not_counted(tree: Tree, config: Config) -> None:
    """More applies than restarts are allowed."""
    small(tree, config, "a:P", intensity=0)
    for _ in range(2):
        change(config, "a")
        apply(tree)
    assert tree.entry("a")["restarts"] == 0
    assert tree.entry("a")["incarnation"] == 3


def test_a_bad_file_changes_nothing(tree: Tree, config: Config) -> None:
    """All that is wrong is told, and no record of it is kept."""
    small(tree, config)
    before = tree.pids("top sup a b c")
    config.supervisors["sup"]["intensity"] = -1
    config.write()
    refused = tree.refused("apply")
    assert (refused.code, "supervisor.sup.intensity" in refused.message) == ("bad_request", True)
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert done.returncode == cli.BAD_CONFIG
    assert "supervisor.sup.intensity" in done.stderr
    assert tree.pids("top sup a b c") == before
    assert tree.call("applies") == []


def test_a_group_strategy_stops_in_reverse_order_first(tree: Tree, config: Config) -> None:
    """Siblings that depend on one another are all stopped before the first of them is started."""
    small(tree, config, "a:P b:P c:P", strategy="rest_for_one")
    before = tree.pids("b")
    change(config, "a", "c")
    apply(tree)
    assert tree.trace("stop", "start") == ["stop c", "stop a", "start a", "start c"]
    assert tree.pids("b") == before


def test_replicas_one_after_the_other(tree: Tree, config: Config) -> None:
    """Each is ready before the next is stopped."""
    config.worker("a")
    config.workers["a"] |= {"replicas": 3, "command": [*config.workers["a"]["command"][:-1], "{name}"]}
    small(tree, config, "a")
    change(config, "a")
    apply(tree)
    assert tree.trace("stop", "start") == [f"{word} a.{index}" for index in range(3) for word in ("stop", "start")]


def test_two_at_a_time_after_a_canary(tree: Tree, config: Config) -> None:
    """`update` says how many first, and how many at a time."""
    config.worker("a")
    config.workers["a"] |= {"replicas": 5, "command": [*config.workers["a"]["command"][:-1], "{name}"]}
    config.workers["a"]["update"] = {"rolling": 2, "canary": 1, "hold": "10ms"}
    small(tree, config, "a")
    change(config, "a")
    apply(tree)
    words = "stop a.0, start a.0, stop a.2, stop a.1, start a.1, start a.2, stop a.4, stop a.3, start a.3, start a.4"
    assert tree.trace("stop", "start") == words.split(", ")
    assert "a.0 watched for 0.01 s" in tree.wait("apply_holding", "")["text"]


def test_more_and_fewer_replicas(tree: Tree, config: Config) -> None:
    """Those that stay keep their process."""
    config.worker("a")
    config.workers["a"] |= {"replicas": 2, "command": [*config.workers["a"]["command"][:-1], "{name}"]}
    small(tree, config, "a")
    before = tree.pids("a.0 a.1")
    config.workers["a"]["replicas"] = 4
    apply(tree)
    assert tree.pids("a.0 a.1") == before
    assert tree.starts() == "a.2 a.3"
    config.workers["a"]["replicas"] = 1
    apply(tree)
    assert tree.pids("a.0") == {"a.0": before["a.0"]}
    assert tree.stops() == "a.3 a.2 a.1"
    assert tree.children() == [("a.0", "running")]


def test_a_move(tree: Tree, config: Config) -> None:
    """A child is stopped there and started here, and its incarnations go on counting."""
    config.supervisor("top", "sup sub")
    config.supervisor("sup", "a:P b:P").supervisor("sub", "c:P")
    tree.grow()
    before = tree.pids("b c sup sub")
    config.supervisors["sup"]["children"] = ["b"]
    config.supervisors["sub"]["children"] = ["c", "a"]
    apply(tree)
    entry = tree.entry("a")
    assert (entry["supervisor"], entry["path"], entry["incarnation"]) == ("sub", "top/sub/a", 2)
    config.supervisors["sup"]["children"] = ["b", "a"]
    config.supervisors["sub"]["children"] = ["c"]
    apply(tree)
    entry = tree.entry("a")
    assert (entry["supervisor"], entry["path"], entry["incarnation"]) == ("sup", "top/sup/a", 3)
    assert tree.pids("b c sup sub") == before
    assert tree.children("sub") == [("c", "running")]


def test_everything_renamed(tree: Tree, config: Config) -> None:
    """Also the supervisor at the top: the old tree is stopped in order, then the new one is started."""
    small(tree, config, "a:P b:P")
    root = tree.call("ping")["pid"]
    for table in (config.supervisors, config.workers):
        table.clear()
    config.supervisor("head", "mid").supervisor("mid", "x:P y:P")
    apply(tree)
    assert tree.trace("stop", "start") == ["stop b", "stop a", "start x", "start y"]
    assert [entry["name"] for entry in tree.call("status")] == ["head", "mid", "x", "y"]
    assert tree.call("ping")["pid"] == root
    assert tree.call("rollback")["outcome"] == "done"
    assert [entry["name"] for entry in tree.call("status")] == ["top", "sup", "a", "b"]
    assert tree.entry("a")["incarnation"] == 2
    tree.crash_until_new("a")


def test_strategies_swapped(tree: Tree, config: Config) -> None:
    """A new strategy holds at once, and nobody is restarted for it; from and to dynamic the supervisor begins anew."""
    small(tree, config, "a:P b:P")
    before = tree.pids("sup a b")
    config.supervisors["sup"]["strategy"] = "one_for_all"
    apply(tree)
    assert tree.pids("sup a b") == before
    tree.crash("a")
    tree.wait_new(a=before["a"], b=before["b"])
    workers = {name: config.workers.pop(name) for name in ("a", "b")}
    config.supervisors["sup"] = {"strategy": "dynamic"}
    apply(tree)
    assert tree.children() == []
    assert tree.start_child("k") is not None
    config.workers.update(workers)
    config.supervisor("sup", "a b")
    apply(tree)
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert {entry["name"] for entry in tree.call("status")} == {"top", "sup", "a", "b"}


def test_a_worker_becomes_a_supervisor(tree: Tree, config: Config) -> None:
    """Another kind under the same name."""
    small(tree, config, "a:P b:P")
    table = config.workers.pop("b")
    config.supervisor("b", "c:P")
    apply(tree)
    assert tree.entry("b")["kind"] == "supervisor"
    assert tree.children("b") == [("c", "running")]
    config.workers |= {"b": table}
    del config.supervisors["b"], config.workers["c"]
    apply(tree)
    assert tree.entry("b")["kind"] == "command"
    assert tree.children() == [("b", "running"), ("a", "running")]


def test_preload_restarts_its_supervisor(tree: Tree, config: Config) -> None:
    """With all that is below it."""
    config.supervisor("top", "sup z:P").supervisor("sup", "a:P b:P")
    tree.grow()
    before = tree.pids("top sup a b z")
    config.supervisors["sup"]["preload"] = ["fractions"]
    apply(tree)
    after = tree.pids("top sup a b z")
    assert {name for name in before if before[name] == after[name]} == {"top", "z"}


def test_what_is_stopped_stays_stopped(tree: Tree, config: Config) -> None:
    """An apply starts nobody that an operator has stopped; the new spec holds from the next start."""
    small(tree, config, "a:P b:P")
    tree.terminate_child("a")
    change(config, "a", "b")
    apply(tree)
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    tree.forget()
    tree.restart_child("a")
    assert tree.trace("args") == ["args a"]


def test_children_of_run_time_are_left_alone(tree: Tree, config: Config) -> None:
    """They keep their process; a file that wants their name is refused, with the remedy."""
    small(tree, config, "a:P")
    pid = tree.start_child("x")
    change(config, "a")
    apply(tree)
    assert tree.pid("x") == pid
    config.worker("x")
    config.supervisors["sup"]["children"].append("x")
    config.write()
    refused = tree.refused("apply")
    assert "x runs as a child that start_child has added to sup: end it with" in refused.message
    tree.terminate_child("x")
    tree.delete_child("x")
    apply(tree)
    assert tree.pid("x") != pid


def test_liveness_and_stop_signal_change_in_place(tree: Tree, config: Config) -> None:
    """They hold at once for the process that there is."""
    small(tree, config, "a:P b:P")
    before = tree.pids("a b")
    config.workers["a"]["liveness"] = {"file": "/nowhere", "every": "10ms", "timeout": "1s", "failures": 1}
    config.workers["b"]["stop_signal"] = "SIGINT"
    tree.config.write()
    tree.call("apply")
    assert tree.wait("unhealthy", "a")["pid"] == before["a"]
    tree.terminate_child("b")
    assert tree.entry("b")["last_exit"]["signal"] == "SIGINT"


def test_hangup_applies(tree: Tree, config: Config) -> None:
    """SIGHUP applies the daemon's files; one that is wrong changes nothing and is told."""
    small(tree, config, "a:P b:P")
    before = tree.pid("a")
    change(config, "b")
    config.write()
    procs.kill(tree.call("ping")["pid"], signal.SIGHUP)
    assert tree.wait("apply_started", "")["text"].startswith("apply 2 by SIGHUP")
    tree.wait("apply_done", "")
    assert tree.pid("a") == before
    tree.file.write_text("this is no TOML [[[")
    procs.kill(tree.call("ping")["pid"], signal.SIGHUP)
    tree.stream.wait_events(lambda e: e["event"] == "fault" and "nothing was applied" in e.get("text", ""))
    assert tree.pid("a") == before
