"""
Section J: supervisors whose children come through start_child.

Interpretation: one strategy, `dynamic`, stands for both of OTP's and Elixir's. It is DynamicSupervisor
(S157-S166) and with `template` and `extra_args` takes over what simple_one_for_one offers beyond. A child's
name takes the place of its pid as its identity, so which_children lists names and terminate_child takes one;
counts are DynamicSupervisor's (S163): `specs` is the number of children. What is not running any more
is unknown (S162).
"""

from __future__ import annotations

import select
import time
from typing import Any

import procs
import pytest
from cli import problems
from configs import Config
from tree import SUP, Grow, Tree

BUDGET = {"intensity": 2, "period": "3600s"}


@pytest.fixture
def dynamic(grow: Grow) -> Grow:
    """Start the usual tree with a dynamic `sup`."""

    def start(**keys: Any) -> Tree:
        return grow("", **{"strategy": "dynamic", **keys})

    return start


@pytest.fixture
def templated(grow: Grow, config: Config) -> Grow:
    """Start the usual tree with a dynamic `sup` whose children are built upon the worker `w`."""

    def start(*, options: dict[str, Any] | None = None, **keys: Any) -> Tree:
        command = [*config.actor("NAME")["command"][:-1], "{name}"]
        config.workers["w"] = {**config.actor("w", **(options or {})), "command": command}
        return grow("", **{"strategy": "dynamic", "template": "w", **keys})

    return start


def add(tree: Tree, name: str, *args: str, **keys: Any) -> int | None:
    """start_child upon the template, with extra arguments."""
    spec = {"id": name, **({"extra_args": list(args)} if args else {}), **keys}
    pid: int | None = tree.call("start_child", supervisor=SUP, spec=spec)["pid"]
    return pid


def test_c106_management_of_dynamic_children(templated: Grow) -> None:
    """terminate_child takes a child's name; strangers are not found and unharmed; the by-id calls do not apply."""
    tree = templated()
    assert tree.children() == []
    assert tree.counts() == [0, 0, 0, 0]
    add(tree, "k1")
    add(tree, "k2")
    assert sorted(tree.children()) == [("k1", "running"), ("k2", "running")]
    assert tree.counts() == [2, 2, 0, 2]
    tree.terminate_child("k1")
    assert tree.refusal("terminate_child", "k1") == "not_found"
    assert tree.refusal("terminate_child", SUP) == "not_found"
    assert tree.children() == [("k2", "running")]
    for verb in ("restart_child", "delete_child"):
        refused = tree.refused(verb, supervisor=SUP, child="k2")
        assert refused.code == "bad_request"
        assert "dynamic" in refused.message


def test_c108_a_crash_concerns_one_child_and_the_budget_is_shared(templated: Grow) -> None:
    """Only the dead child is restarted, with its own extra arguments; the third crash overall ends the supervisor."""
    tree = templated(**BUDGET)
    add(tree, "k1", "one")
    k2 = add(tree, "k2", "two")
    tree.forget()
    tree.crash_until_new("k1")
    assert tree.trace("args") == ["args k1"]
    assert last_args(tree, "k1") == ["one"]
    assert tree.pid("k2") == k2
    assert tree.counts() == [2, 2, 0, 2]
    tree.crash_until_new("k2")
    tree.crash("k1")
    tree.wait_ended(SUP)


def last_args(tree: Tree, name: str) -> list[str]:
    """The extra arguments that the newest process of that name was started with."""
    lines = [line.split() for line in (tree.directory / "trace").read_text().splitlines()]
    return [line[3:] for line in lines if line[:2] == ["args", name]][-1]


@pytest.mark.parametrize("template", ["nobody", ["w", "v"], 7])
def test_c109_template_must_be_one_worker(config: Config, template: object) -> None:
    """
    A template that is unknown, or a list of them, is refused.

    Interpretation: no template at all is DynamicSupervisor and therefore allowed.
    """
    config.worker("w").worker("v").supervisor("app", strategy="dynamic", template=template)
    assert "supervisor.app.template" in problems(config.write())


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
def test_c110_ignoring_start_child_stores_nothing(templated: Grow, restart: str) -> None:
    """A child that answers *ignore* gives no pid and leaves no entry, of whatever restart type."""
    tree = templated(options={"restart": restart})
    tree.plan("k1", "ignore")
    assert add(tree, "k1") is None
    add(tree, "k2")
    assert tree.children() == [("k2", "running")]
    assert tree.counts() == [1, 1, 0, 1]
    assert tree.down() == 0


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_c111_ignore_on_restart_drops_the_entry(templated: Grow, restart: str) -> None:
    """A restart that answers *ignore* forgets the child; the supervisor stops cleanly later."""
    tree = templated(options={"restart": restart})
    add(tree, "k1")
    tree.plan("k1", "ignore")
    tree.crash("k1")
    tree.wait("ignored", "k1")
    assert tree.children() == []
    assert tree.down() == 0


def failing(tree: Tree, *names: str) -> None:
    """Crash these children; their restarts then ask at the gate, where one attempt each was failed."""
    for name in names:
        tree.plan(name, "gate")
        tree.crash(name)
        tree.gate.next().release("fail")


def test_c112_restarting_children_are_not_active(templated: Grow) -> None:
    """Of three children two are in failing restarts: one is active; all are, once they can start again."""
    tree = templated(intensity=1000, period="3600s")
    for name in ("k1", "k2", "k3"):
        add(tree, name)
    failing(tree, "k1", "k2")
    counts = tree.between_attempts("count_children", supervisor=SUP)
    assert counts == {"specs": 3, "active": 1, "supervisors": 0, "workers": 3}
    for name in ("k1", "k2"):
        tree.plan(name, "ready")
    # The attempts of the two overlap: each is at the gate still, or has been failed and comes no more.
    while tree.counts() != [3, 3, 0, 3]:
        if select.select([tree.gate], [], [], 0.1)[0]:
            tree.gate.next().release("ready")
    tree.wait("ready", "k1", count=2)
    tree.wait("ready", "k2", count=2)
    assert tree.counts() == [3, 3, 0, 3]


def test_c113_terminating_a_child_in_a_failing_restart(templated: Grow) -> None:
    """terminate_child is ok and the entry is gone; the stop of the supervisor is not delayed."""
    tree = templated(intensity=1000, period="3600s")
    add(tree, "k1")
    failing(tree, "k1")
    assert tree.between_attempts("terminate_child", supervisor=SUP, child="k1") == {}
    assert tree.children() == []
    begun = time.monotonic()
    assert tree.down() == 0
    assert time.monotonic() - begun < 2


def test_c114_children_are_stopped_at_once(dynamic: Grow) -> None:
    """Two need 200 ms, one much more than the 400 ms it is given: all at once, the slow one is killed."""
    tree = dynamic()
    for name, stop in (("k1", "200"), ("k2", "200"), ("k3", "5000")):
        tree.start_child(name, stop=stop, shutdown="400ms")
    begun = time.monotonic()
    assert tree.down() == 0
    assert 0.4 <= time.monotonic() - begun < 3
    assert sorted(tree.trace("term")) == ["term k1", "term k2", "term k3"]
    assert sorted(tree.trace("stop")) == ["stop k1", "stop k2"]


def test_c115_brutal_kill_of_many(dynamic: Grow) -> None:
    """Ten children with brutal_kill all die without being asked."""
    tree = dynamic()
    pids = [tree.start_child(f"k{number}", shutdown="brutal_kill") for number in range(10)]
    tree.forget()
    assert tree.down() == 0
    assert tree.trace() == []
    assert all(pid is not None and procs.is_dead(pid) for pid in pids)


def test_c116_the_same_id_twice(dynamic: Grow) -> None:
    """
    Two children may have the same id and both run.

    Interpretation: each still needs a name of its own as its address, so which_children shows two names.
    """
    tree = dynamic()
    first = tree.start_child("k")
    second = tree.start_child("k", plan="ready")
    assert None not in (first, second)
    assert first != second
    assert len({name for name, state in tree.children() if state == "running"}) == 2
    assert tree.counts() == [2, 2, 0, 2]


@pytest.mark.parametrize("limit", [0, 1])
def test_c117_max_children(dynamic: Grow, limit: int) -> None:
    """start_child beyond the limit is refused and no process is made."""
    tree = dynamic(max_children=limit)
    for number in range(limit):
        tree.start_child(f"k{number}")
    assert tree.start_refused("more").code == "max_children"
    assert tree.tries("more") == 0
    assert len(tree.children()) == limit


def test_rule_s160_restarting_children_count_against_max_children(dynamic: Grow) -> None:
    """A child in a failing restart still takes its place; a restart itself is never refused."""
    tree = dynamic(max_children=1, intensity=1000, period="3600s")
    tree.start_child("k1")
    failing(tree, "k1")
    spec = {"id": "k2", **tree.config.actor("k2")}
    assert tree.between_attempts("start_child", supervisor=SUP, spec=spec) == "max_children"
    tree.gate.next().release("ready")
    tree.wait("ready", "k1", count=2)
    assert tree.tries("k2") == 0


def test_c119_extra_arguments_at_every_start(templated: Grow) -> None:
    """
    A child is started with the template's command and its own arguments, the first time and after a crash.

    Interpretation: the order is simple_one_for_one's, template then extra, as for a command line.
    """
    tree = templated()
    add(tree, "k1", "x", "y")
    assert last_args(tree, "k1") == ["x", "y"]
    tree.forget()
    tree.crash_until_new("k1")
    assert tree.trace("args") == ["args k1"]
    assert last_args(tree, "k1") == ["x", "y"]


def test_rule_s150_keys_of_start_child_are_laid_over_the_template(templated: Grow) -> None:
    """start_child may change keys of the template for its child: a temporary one under a permanent template."""
    tree = templated()
    add(tree, "k1", restart="temporary")
    add(tree, "k2")
    tree.crash("k1")
    tree.wait("exited", "k1")
    tree.crash_until_new("k2")
    assert tree.children() == [("k2", "running")]


def test_c120_start_child_that_fails_or_ignores(dynamic: Grow) -> None:
    """A failing start is an error with its reason, an ignoring one no pid; nothing is stored either way."""
    tree = dynamic(intensity=0)
    refused = tree.start_refused("k1", plan="fail")
    assert refused.code == "start_failed"
    assert tree.start_child("k2", plan="ignore") is None
    assert tree.children() == []
    assert tree.counts() == [0, 0, 0, 0]


def test_c121_failing_restart_is_retried(dynamic: Grow) -> None:
    """Intensity 2: the first restart fails, the second works; both are charged."""
    tree = dynamic(intensity=2)
    tree.start_child("k", plan="ready,fail,ready")
    tree.crash("k")
    tree.wait("ready", "k", count=2)
    assert tree.tries("k") == 3
    tree.crash("k")
    tree.wait_ended(SUP)


def test_c121_failing_restart_gives_up(dynamic: Grow) -> None:
    """Intensity 1 and a permanent failure: one failed attempt, then the supervisor ends with *shutdown*."""
    tree = dynamic(intensity=1)
    tree.start_child("k", plan="ready,fail")
    tree.crash("k")
    tree.wait_ended(SUP)
    assert tree.tries("k") == 2


def test_c122_transient_dynamic_child(dynamic: Grow) -> None:
    """Forgotten after *shutdown* and after a normal exit, restarted after code 1."""
    tree = dynamic()
    for name in ("k1", "k2", "k3"):
        tree.start_child(name, restart="transient")
    tree.exit("k1", 82)
    tree.wait("exited", "k1")
    tree.exit("k2", 0)
    tree.wait("exited", "k2")
    tree.wait_new(k3=tree.exit("k3", 1))
    assert tree.children() == [("k3", "running")]


def test_c123_mixed_shutdowns_in_parallel(dynamic: Grow) -> None:
    """One with infinity is awaited, one with brutal_kill not asked, 1 ms kills one that does not obey; all at once."""
    tree = dynamic()
    tree.start_child("patient", shutdown="infinity", stop="500")
    tree.start_child("brutal", shutdown="brutal_kill")
    tree.start_child("deaf", shutdown="1ms", stop="ignore")
    tree.forget()
    begun = time.monotonic()
    assert tree.down() == 0
    assert 0.5 <= time.monotonic() - begun < 2
    assert "term brutal" not in tree.trace()
    assert tree.stops() == "patient"


def test_c124_lowered_max_children(dynamic: Grow) -> None:
    """A reload that lowers max_children leaves what runs alone and refuses the next start_child."""
    tree = dynamic()
    pid = tree.start_child("k1")
    tree.config.supervisors[SUP]["max_children"] = 1
    tree.reload()
    assert tree.pid("k1") == pid
    assert tree.start_refused("k2").code == "max_children"


def test_rule_s111_dynamic_children_are_lost_with_their_supervisor(grow: Grow) -> None:
    """A restarted dynamic supervisor is empty."""
    tree = grow("", strategy="dynamic", restart="permanent")
    tree.start_child("k1")
    sup = tree.pid(SUP)
    tree.crash(SUP)
    tree.wait_new(sup=sup)
    assert tree.children() == []
    assert tree.start_child("k1") == tree.pid("k1")
