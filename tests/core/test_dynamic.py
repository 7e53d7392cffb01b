"""Dynamic supervisors (S150-S166, scenarios J)."""

from __future__ import annotations

from typing import Any

import pytest
from bench import (
    CODE_82,
    CRASH,
    DYNAMIC,
    NORMAL,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Backoff,
    Bench,
    supervisor,
    worker,
)

from regrow.config.spec import Restart
from regrow.daemon.core import events as ev
from regrow.daemon.core.effects import Spawn


def started(intensity: int = 10, **fields: Any) -> Bench:
    """Start a dynamic supervisor."""
    return Bench(supervisor("", DYNAMIC, intensity, **fields)).start()


def pid(bench: Bench, child: str) -> int:
    """Return the pid of a live child."""
    number = bench.state.slots[child].pid
    assert number is not None
    return number


def test_terminate_by_pid() -> None:
    """C106 and S162: by pid or name; a pid that is no child's is not found; the other verbs do not apply."""
    bench = started()
    assert bench.counts() == [0, 0, 0, 0]
    for name in "ab":
        bench.call(ev.StartChild, worker(name))
    assert bench.counts() == [2, 2, 0, 2]
    one = pid(bench, "a")
    assert bench.call(ev.TerminateChild, one) == {}
    assert bench.call(ev.TerminateChild, one) == "not_found"
    assert bench.call(ev.TerminateChild, 1) == "not_found"
    assert bench.call(ev.RestartChild, "b") == "bad_request"
    assert bench.call(ev.DeleteChild, "b") == "bad_request"
    assert bench.which() == {"b": "running"}


def test_only_the_dead_child_restarts() -> None:
    """C108: the budget is shared, the third crash overall gives up."""
    bench = started(2)
    for name in "ab":
        bench.call(ev.StartChild, worker(name))
    bench.exits("a").exits("b")
    assert bench.incarnations() == {"a": 2, "b": 2}
    bench.exits("a")
    assert bench.end is not None
    assert bench.end.outcome == "gave_up"


def test_same_id_twice() -> None:
    """C116 (S157): both run, under names of their own."""
    bench = started()
    for _ in range(3):
        bench.call(ev.StartChild, worker("job"))
    assert list(bench.which()) == ["job.3", "job.2", "job"]


@pytest.mark.parametrize("limit", [0, 1])
def test_max_children(limit: int) -> None:
    """C117 (S159): beyond the limit no process is made."""
    bench = started(max_children=limit)
    for _ in range(limit):
        bench.call(ev.StartChild, worker("job"))
    assert bench.call(ev.StartChild, worker("job")) == "max_children"
    assert bench.done(Spawn) == []


def test_restarting_counts_against_max_children() -> None:
    """S160: a child in backoff holds its place, and its own restart is never refused."""
    bench = started(max_children=1, backoff=Backoff(jitter=0.0))
    bench.call(ev.StartChild, worker("a"))
    bench.exits("a")
    assert bench.call(ev.StartChild, worker("b")) == "max_children"
    bench.advance(1.0)
    assert bench.which() == {"a": "running"}


@pytest.mark.parametrize("restart", Restart)
def test_ignore_stores_nothing(restart: Restart) -> None:
    """C110 and C120: ok without a pid, whatever the restart type."""
    bench = started()
    bench.script("a", "ignore")
    assert bench.call(ev.StartChild, worker("a", restart)) == {"pid": None}
    assert bench.which() == {}
    bench.stop()
    assert bench.end is not None


def test_failed_start_stores_nothing() -> None:
    """C120 and S151."""
    bench = started()
    bench.script("a", "fail")
    assert bench.call(ev.StartChild, worker("a")) == "start_failed"
    assert bench.which() == {}


def test_ignore_on_restart_drops() -> None:
    """C111 (S87): the entry is gone."""
    bench = started()
    bench.call(ev.StartChild, worker("a"))
    bench.script("a", "ignore")
    bench.exits("a")
    assert bench.which() == {}


def test_restarting_children_are_not_active() -> None:
    """C112 (S163): three children, two in failing restarts, then all up again."""
    bench = started(100, backoff=Backoff(jitter=0.0))
    for name in "abc":
        bench.call(ev.StartChild, worker(name))
    bench.exits("a", "b")
    assert bench.counts() == [3, 1, 0, 3]
    bench.advance(1.0)
    assert bench.counts() == [3, 3, 0, 3]


def test_restarting_child_is_known_by_its_dead_pid() -> None:
    """C113 (S88): terminate_child with the old pid cancels the restart and drops the entry."""
    bench = started(100, backoff=Backoff())
    bench.call(ev.StartChild, worker("a"))
    old = pid(bench, "a")
    bench.exits("a")
    assert bench.call(ev.TerminateChild, old) == {}
    assert bench.which() == {}
    assert bench.timers == {}


def test_failing_restart_is_retried_and_charged() -> None:
    """C121: 2/5, the first restart fails and the second works; 1/5 ends after one attempt."""
    for intensity, ends in ((2, False), (1, True)):
        bench = started(intensity)
        bench.call(ev.StartChild, worker("a"))
        bench.said()
        bench.script("a", "fail", then="fail" if ends else "ready")
        bench.exits("a")
        assert (bench.end is not None) == ends
        assert bench.said() == (["fail a"] if ends else ["fail a", "start a"])


@pytest.mark.parametrize(
    ("restart", "exit", "stays"),
    [
        (PERMANENT, NORMAL, True),
        (TRANSIENT, NORMAL, False),
        (TRANSIENT, CODE_82, False),
        (TRANSIENT, CRASH, True),
        (TEMPORARY, CRASH, False),
    ],
)
def test_ended_child_is_forgotten(restart: Restart, exit: ev.Exit, stays: bool) -> None:
    """C122 (S47): no slot remains of a child that is not restarted."""
    bench = started()
    bench.call(ev.StartChild, worker("a", restart))
    bench.exits("a", exit=exit)
    assert bench.which() == ({"a": "running"} if stays else {})


def test_terminate_forgets_permanent_children_too() -> None:
    """S162: terminate_child is the end of a dynamic child."""
    bench = started()
    bench.call(ev.StartChild, worker("a"))
    assert bench.call(ev.TerminateChild, "a") == {}
    assert bench.which() == {}


def test_lowered_max_children() -> None:
    """C124 (S166): who runs stays, the next start is refused."""
    bench = started()
    for name in "ab":
        bench.call(ev.StartChild, worker(name))
    bench.call(ev.PlanChanged, supervisor("", DYNAMIC, max_children=1))
    assert bench.incarnations() == {"a": 1, "b": 1}
    assert bench.call(ev.StartChild, worker("c")) == "max_children"


def test_name_that_comes_again_is_another_incarnation() -> None:
    """What is still said of a forgotten child cannot be taken for its namesake."""
    bench = started()
    bench.call(ev.StartChild, worker("a", TEMPORARY))
    bench.exits("a")
    bench.call(ev.StartChild, worker("a", TEMPORARY))
    assert bench.incarnations() == {"a": 2}
    assert bench.feed(ev.ChildExited("a", 1, CRASH)).effects == []
