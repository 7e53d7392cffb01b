"""`regrow apply` on a real tree: what it touches and what it leaves alone, and what comes back when it fails."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cli
import procs
import pytest
from configs import Config
from tree import Held, Tree, short_directory
from wire import TIMEOUT_S, CallError

from regrow.daemon.core import deploy
from regrow.ipc.control import ControlClient


class Gated(NamedTuple):
    """An apply that is under way: who has asked for it, and what holds it up."""

    client: ControlClient
    request: int
    held: Held

    def answer(self) -> dict[str, Any]:
        """What came of it."""
        told: dict[str, Any] = self.client.answer(self.request)
        return told


@pytest.fixture
def other() -> Iterator[Path]:
    """Another directory."""
    with short_directory() as path:
        yield path


def small(tree: Tree, config: Config, children: str = "a:P b:P c:P", **keys: Any) -> None:
    """Actors under `sup`, which is under `top`."""
    config.supervisor("top", "sup")
    config.supervisor("sup", children, **keys)
    tree.grow()
    tree.forget()


def apply(tree: Tree, outcome: str = "done") -> dict[str, Any]:
    """Write the changed configuration and apply it; what came of it."""
    tree.config.write()
    told: dict[str, Any] = tree.call("apply")
    assert told["outcome"] == outcome, told
    return told


def change(config: Config, *names: str) -> None:
    """Give these workers a command with one more argument."""
    for name in names:
        config.workers[name]["command"] = [*config.workers[name]["command"], "changed"]


def bad(config: Config, name: str, plan: str) -> None:
    """The next command of this worker follows another plan."""
    command = [word for word in config.workers[name]["command"] if not word.startswith("plan=")]
    config.workers[name]["command"] = [*command, f"plan={plan}"]


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


def test_after_a_reload(tree: Tree, config: Config) -> None:
    """What `reload` has only told the supervisors, an apply does."""
    small(tree, config, "a:P b:P c:P")
    before = tree.pids("a b")
    change(config, "b")
    config.worker("d")
    del config.workers["c"]
    config.supervisors["sup"]["children"] = ["a", "b", "d"]
    tree.reload()
    assert tree.pids("a b") == before
    apply(tree)
    assert tree.children() == [("d", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid("a") == before["a"]
    assert tree.pid("b") != before["b"]


def test_what_a_reload_has_started(tree: Tree, config: Config) -> None:
    """Whoever was started anew after a reload runs what that brought, and an apply of the file of before sees it."""
    small(tree, config)
    before, good = tree.pids("a b"), list(config.workers["b"]["command"])
    change(config, "b")
    config.worker("d")
    config.supervisors["sup"]["children"] = ["a", "b", "c", "d"]
    tree.reload()
    tree.crash_until_new("b")
    tree.restart_child("d")
    config.workers["b"]["command"] = good
    del config.workers["d"]
    config.supervisors["sup"]["children"] = ["a", "b", "c"]
    told = apply(tree)
    assert {(change["name"], change["action"]) for change in told["changes"]} == {("b", "restart"), ("d", "stop")}
    assert b"changed" not in Path(f"/proc/{tree.pid('b')}/cmdline").read_bytes()
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    assert tree.pid("a") == before["a"]
    tree.crash_until_new("b")
    assert b"changed" not in Path(f"/proc/{tree.pid('b')}/cmdline").read_bytes()


@pytest.mark.parametrize("outcome", ["unchanged", "done"])
def test_what_a_reload_has_only_told(tree: Tree, config: Config, outcome: str) -> None:
    """An apply of the file of before changes no process, and supervisors have the specs of before again."""
    small(tree, config)
    before, good = tree.pids("a b c"), list(config.workers["b"]["command"])
    change(config, "b")
    tree.reload()
    config.workers["b"]["command"] = good
    if outcome == "done":
        config.supervisors["top"]["intensity"] = 7
    apply(tree, outcome)
    assert tree.pids("a b c") == before
    tree.crash_until_new("b")
    assert b"changed" not in Path(f"/proc/{tree.pid('b')}/cmdline").read_bytes()


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


@pytest.mark.parametrize("plan", ["fail", "crash:50", "exit:50"])
def test_a_bad_version_is_rolled_back(tree: Tree, config: Config, plan: str) -> None:
    """A start that fails, a crash, an end of one that should not end: the old plan is back, with the reason."""
    small(tree, config, "a:P b:P c:P", intensity=0)
    before = tree.pids("sup c")
    change(config, "a")
    bad(config, "b", plan)
    change(config, "c")
    config.supervisors["sup"]["intensity"] = 1
    told = apply(tree, "rolled_back")
    how = {"fail": "a start of b failed", "crash:50": "b (incarnation 2) ended", "exit:50": "b (incarnation 2) ended"}
    assert told["reason"].startswith(how[plan])
    assert tree.pids("sup") == {"sup": before["sup"]}
    assert tree.children() == [("c", "running"), ("b", "running"), ("a", "running")]
    tree.forget()
    for name in "abc":
        assert tree.entry(name)["restarts"] == 0
        tree.terminate_child(name)
        tree.restart_child(name)
    assert tree.trace("args") == []
    assert tree.call("applies")[-1]["outcome"] == "rolled_back"
    failed = tree.wait("start_failed" if plan == "fail" else "exited", "b")
    assert tree.wait("apply_rollback", "")["cause"] == failed["seq"]
    assert tree.call("get_childspec", supervisor="sup", child="b")["restart"] == "permanent"
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert done.returncode == 1
    assert "was rolled back: " in done.stderr


def test_what_an_earlier_apply_has_armed(tree: Tree, config: Config) -> None:
    """The hold of an apply that has failed does not end that of the next one, which watches for as long as it says."""
    small(tree, config, "a:P")
    config.workers["a"] |= {"update": {"canary": 1, "hold": "500ms"}}
    good = list(config.workers["a"]["command"])
    bad(config, "a", "crash:50")
    apply(tree, "rolled_back")
    config.workers["a"] |= {"update": {"canary": 1, "hold": "1s"}, "command": [*good, "changed"]}
    assert apply(tree)["seconds"] >= 1 + deploy.SETTLE_S


def test_never_ready(tree: Tree, config: Config) -> None:
    """Not ready in time."""
    small(tree, config, "a:P")
    bad(config, "a", "hang")
    config.workers["a"]["ready"] = {"notify": True, "timeout": "100ms"}
    assert "start_timeout" in apply(tree, "rolled_back")["reason"]
    assert tree.entry("a")["state"] == "running"


def test_failing_its_liveness_checks(tree: Tree, config: Config) -> None:
    """A canary that is unhealthy while it is watched: the others are never touched."""
    config.worker("a")
    config.workers["a"] |= {"replicas": 3, "command": [*config.workers["a"]["command"][:-1], "{name}"]}
    config.workers["a"]["update"] = {"canary": 1, "hold": "10s"}
    small(tree, config, "a")
    before = tree.pids("a.1 a.2")
    change(config, "a")
    config.workers["a"]["liveness"] = {"file": "/nowhere", "every": "10ms", "timeout": "1s", "failures": 1}
    assert "a.0: unhealthy" in apply(tree, "rolled_back")["reason"]
    assert tree.pids("a.1 a.2") == before
    assert tree.tries("a.1") == 0


def test_new_children_of_a_failed_apply_go(tree: Tree, config: Config) -> None:
    """What the new plan had added is stopped, and what it had stopped is started again."""
    small(tree, config, "a:P b:P")
    del config.workers["a"]
    config.worker("c").worker("d", plan="fail")
    config.supervisors["sup"]["children"] = ["b", "c", "d"]
    before = tree.pid("b")
    apply(tree, "rolled_back")
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.pid("b") == before
    assert {entry["name"] for entry in tree.call("status")} == {"top", "sup", "a", "b"}
    told = tree.call("why", name="d")  # who never came to be can be asked about all the same
    assert told["status"] is None
    assert told["text"][0] == "d is no longer in this tree"
    assert "a start of d failed" in told["text"][1]
    with pytest.raises(CallError, match="there is no d in this tree any more; see `regrow why d`"):
        tree.call("status", names=["d"])


def test_what_was_done_is_kept_when_it_is_told(tree: Tree, config: Config) -> None:
    """Who asks for all applies at once finds the last one there, as it ended."""
    small(tree, config, "a:P")
    for intensity in range(1, 6):
        config.supervisors["sup"]["intensity"] = intensity
        told = apply(tree)
        newest = tree.call("applies")[-1]
        assert (newest["id"], newest["outcome"], newest["present"]) == (told["id"], "done", True)


def test_an_apply_that_cannot_be_kept(tree: Tree, config: Config) -> None:
    """It is done, and says that there will be no way back to it."""
    small(tree, config, "a:P")
    (tree.directory / "state").mkdir(exist_ok=True)
    (tree.directory / "state" / "applies").write_text("in the way")
    config.supervisors["sup"]["intensity"] = 7
    (note,) = apply(tree)["notes"]
    assert note.startswith("apply 2 cannot be kept: ")
    config.write()
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing has changed\n", "")
    config.supervisors["sup"]["intensity"] = 8
    config.write()
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert done.stdout.startswith("apply 3 is done: 1 change")
    assert done.stderr.startswith("regrow: apply 3 cannot be kept: ")


def test_the_old_one_cannot_be_started_either(tree: Tree, config: Config) -> None:
    """Stated, and nothing loops."""
    small(tree, config, "a:P b:P")
    (tree.directory / "a.plan").write_text("fail")
    change(config, "a")
    told = apply(tree, "failed")
    assert len(told["failures"]) == 1
    assert "a could not be started" in told["failures"][0]
    assert tree.children() == [("b", "running"), ("a", "undefined")]
    assert tree.wait("apply_failed", "")
    assert tree.tries("a") == 2
    run_dir = tree.directory / "run"
    config.write()
    (note,) = tree.call("plan")["notes"]
    assert note.startswith("apply 2 failed and left a down; an apply starts nobody who is down: put right what ")
    assert note.endswith("then `regrow start a`")
    assert note in cli.regrow("plan", "--run-dir", run_dir).stdout
    assert "left so by apply 2, which failed; see `regrow why a`" in cli.regrow("status", "--run-dir", run_dir).stdout
    (tree.directory / "a.plan").unlink()
    tree.call("start", names=["a"])
    assert (tree.call("plan")["notes"], tree.entry("a")["detail"]) == ([], "")


def test_a_supervisor_that_gives_up(tree: Tree, config: Config) -> None:
    """A new subtree that uses up its limit does not take its parent with it: it is rolled back."""
    small(tree, config, "a:P")
    config.supervisor("bad", "w:P", actors={"w": {"plan": "crash:1"}}, intensity=2)
    config.supervisors["top"]["children"].append("bad")
    before = tree.pids("top sup a")
    told = apply(tree, "rolled_back")
    assert "w" in told["reason"]
    assert tree.pids("top sup a") == before
    assert tree.children("top") == [("sup", "running")]


@pytest.fixture
def gated(tree: Tree, config: Config) -> Iterator[Gated]:
    """An apply whose new `b` waits for the test."""
    small(tree, config, "a:P b:P")
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        bad(config, "b", "gate")
        config.write()
        yield Gated(client, client.submit("apply"), tree.gate.next())


def test_an_apply_during_an_apply(tree: Tree, gated: Gated) -> None:
    """Refused with who is at it and how far; so is a reload; the first goes on."""
    refused = tree.refused("apply")
    assert refused.code == "busy"
    assert "apply 2 by uid " in refused.message
    assert refused.message.endswith("is under way: 0 of 1 steps done, starting b")
    assert tree.refused("reload").code == "busy"
    assert tree.refused("rollback").code == "busy"
    assert tree.call("applies")[-1]["outcome"] == "under_way"
    gated.held.release("ready")
    assert gated.answer()["outcome"] == "done"


def test_who_is_stopped_in_its_turn_stays_stopped(tree: Tree, gated: Gated) -> None:
    """An operator stops a child that the apply is starting: that is no failure of the new version."""
    assert tree.call("stop", names=["b"])[0]["result"] == "stopped"
    assert gated.answer()["outcome"] == "done"
    assert tree.children() == [("b", "undefined"), ("a", "running")]
    assert tree.call("plan")["changes"] == []


def test_who_is_stopped_before_its_turn_is_not_started(tree: Tree, config: Config) -> None:
    """An operator stops a child whose turn is still to come: it stays down, and the apply is done."""
    small(tree, config, "a:P b:P")
    bad(config, "a", "gate")
    change(config, "b")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        assert tree.call("stop", names=["b"])[0]["result"] == "stopped"
        going.held.release("ready")
        assert going.answer()["outcome"] == "done"
    assert tree.children() == [("b", "undefined"), ("a", "running")]


def test_a_tree_that_gives_up_during_an_apply(tree: Tree, config: Config) -> None:
    """The daemon ends by itself, and whoever waits for the apply is told so."""
    config.supervisor("top", "a:P b:P", intensity=0, actors={"a": {"plan": "ready"}})
    tree.grow()
    bad(config, "b", "gate")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        going = Gated(client, client.submit("apply"), tree.gate.next())
        tree.crash("a")
        assert going.answer()["outcome"] == "interrupted"
    assert tree.wait_exit() == 1


def test_down_during_an_apply(tree: Tree, config: Config, gated: Gated) -> None:
    """The apply ends with a word, the tree in order; the next daemon counts on and knows that it was interrupted."""
    assert tree.down() == 0
    assert gated.answer()["outcome"] == "interrupted"
    config.worker("b")
    config.write()
    assert cli.regrow("up", "--detach", tree.file).returncode == 0
    try:
        with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
            assert [record["outcome"] for record in client.request("applies")] == ["started", "interrupted"]
            change(config, "a")
            config.write()
            assert client.request("apply")["id"] == 4
    finally:
        assert cli.regrow("down", "--run-dir", tree.directory / "run").returncode == 0


@pytest.mark.parametrize("name", ["sup", "top"])
def test_a_supervisor_is_killed_during_an_apply(tree: Tree, gated: Gated, name: str) -> None:
    """It comes back, and the apply goes on to its end."""
    procs.kill(tree.pid(name))
    tree.gate.next().release("ready")
    assert gated.answer()["outcome"] == "done"
    assert tree.children() == [("b", "running"), ("a", "running")]
    assert tree.call("plan")["changes"] == []


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


def test_there_and_back(tree: Tree, config: Config) -> None:
    """`rollback` brings the plan of before; again, that of after; by number, any that is kept."""
    small(tree, config, "a:P")
    change(config, "a")
    apply(tree)
    change(config, "a")
    apply(tree)

    def arguments() -> int:
        tree.forget()
        tree.terminate_child("a")
        tree.restart_child("a")
        command = Path(f"/proc/{tree.pid('a')}/cmdline").read_bytes()
        return command.count(b"changed")

    assert arguments() == 2
    assert tree.call("rollback")["outcome"] == "done"
    assert arguments() == 1
    assert tree.call("rollback")["outcome"] == "done"
    assert arguments() == 2
    told = cli.regrow("rollback", "1", "--run-dir", tree.directory / "run")
    assert (told.returncode, told.stdout.partition(":")[0]) == (0, "apply 6 is done")
    assert arguments() == 0
    listed = cli.regrow("applies", "--run-dir", tree.directory / "run", "--format", "json")
    records = json.loads(listed.stdout)
    assert [record["id"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["back_to"] for record in records] == [None, None, None, 2, 3, 1]
    assert [record["present"] for record in records] == [False] * 5 + [True]
    assert tree.refused("rollback", apply=77).code == "bad_request"
    for wrong in ("x", "0", "1.5", "9" * 5000):
        told = cli.regrow("rollback", wrong, "--run-dir", tree.directory / "run")
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert "is not the number of an apply: `regrow applies` has them" in told.stderr
    notes = tree.call("plan")["notes"]
    assert notes == [
        "the daemon runs apply 6, which brought apply 1 back; started again it would run what its files say now"
    ]


def test_another_file(tree: Tree, config: Config, other: Path) -> None:
    """The tree may come from other files from now on."""
    small(tree, config, "a:P")
    change(config, "a")
    file = other / "regrow.toml"
    file.write_text(config.text())
    done = cli.regrow("apply", "--run-dir", tree.directory / "run", "--format", "json", file)
    assert json.loads(done.stdout)["files"] == [str(file)]
    assert tree.call("ping")["files"] == [str(file)]
