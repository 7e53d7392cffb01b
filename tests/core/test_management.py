"""The management calls and every refusal (S129-S149, scenarios I)."""

from __future__ import annotations

from typing import Any

import pytest
from bench import NORMAL, ONE_FOR_ALL, PERMANENT, TEMPORARY, TRANSIENT, Backoff, Bench, supervisor, worker

from regrow.config.spec import AutoShutdown, Restart
from regrow.daemon.core import events as ev
from regrow.daemon.core.effects import Refuse, Spawn


def pid(bench: Bench, child: str) -> dict[str, int | None]:
    """Return the answer that names a running child."""
    return {"pid": bench.state.slots[child].pid}


def situation(name: str, restart: Restart) -> Bench:
    """One child `a` in the situation that the name says; the supervisor allows no restart but one, put off."""
    bench = Bench(supervisor([worker("a", restart)], intensity=1, backoff=Backoff()))
    if name == "ignored":
        bench.script("a", "ignore")
    bench.start()
    match name:
        case "restarting":
            bench.exits("a")
        case "terminated":
            bench.call(ev.TerminateChild, "a")
        case "finished":
            bench.exits("a", exit=NORMAL)
        case "starting":
            bench.call(ev.TerminateChild, "a")
            bench.script("a", "hang")
            bench.begin(ev.RestartChild, "a")
    return bench


UP = {"start": "already_started", "restart": "running", "delete": "running", "terminate": {}}
RESTARTING = {"start": "already_present", "restart": "restarting", "delete": "restarting", "terminate": {}}
DOWN = {"start": "already_present", "restart": "pid", "delete": {}, "terminate": {}}
GONE = {"start": "pid", "restart": "not_found", "delete": "not_found", "terminate": "not_found"}
TABLE: dict[tuple[str, Restart], dict[str, Any]] = {
    ("running", PERMANENT): UP,
    ("running", TRANSIENT): UP,
    ("running", TEMPORARY): UP,
    ("starting", PERMANENT): UP,
    ("starting", TRANSIENT): UP,
    ("restarting", PERMANENT): RESTARTING,
    ("restarting", TRANSIENT): RESTARTING,
    ("restarting", TEMPORARY): GONE,
    ("terminated", PERMANENT): DOWN,
    ("terminated", TRANSIENT): DOWN,
    ("terminated", TEMPORARY): GONE,
    ("finished", PERMANENT): RESTARTING,
    ("finished", TRANSIENT): DOWN,
    ("finished", TEMPORARY): GONE,
    ("ignored", PERMANENT): DOWN,
    ("ignored", TRANSIENT): DOWN,
    ("ignored", TEMPORARY): GONE,
}
VERBS: dict[str, tuple[type[Any], Any]] = {
    "start": (ev.StartChild, worker("a")),
    "restart": (ev.RestartChild, "a"),
    "delete": (ev.DeleteChild, "a"),
    "terminate": (ev.TerminateChild, "a"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("name", "restart"), TABLE, ids=str)
def test_answer(name: str, restart: Restart, verb: str) -> None:
    """Every call in every situation of a child answers as OTP does (S131-S143)."""
    bench = situation(name, restart)
    expected = TABLE[name, restart][verb]
    request, argument = VERBS[verb]
    answer = bench.call(request, argument)
    assert answer == (pid(bench, "a") if expected == "pid" else expected)
    assert bench.end is None


@pytest.mark.parametrize("verb", ["restart", "delete", "terminate"])
def test_unknown_child_is_not_found(verb: str) -> None:
    """C94: no call about a name that is no child does anything."""
    bench = Bench(supervisor("a")).start()
    assert bench.call(VERBS[verb][0], "x") == "not_found"
    assert bench.call(ev.GetChildspec, "x") == "not_found"
    assert bench.incarnations() == {"a": 1}


def test_already_started_carries_the_pid() -> None:
    """C94: who wants to start what runs learns its pid; nothing changes."""
    bench = Bench(supervisor("a")).start()
    number = bench.begin(ev.StartChild, worker("a", TEMPORARY))
    refused = bench.answers[number]
    assert isinstance(refused, Refuse)
    assert refused.pid == bench.state.slots["a"].pid
    assert bench.call(ev.GetChildspec, "a") == worker("a")


def test_terminate_is_idempotent() -> None:
    """C95: ok; ok; already_present; ok and a new process; the counts go down and up again."""
    bench = Bench(supervisor("a")).start()
    assert bench.call(ev.TerminateChild, "a") == {}
    assert bench.call(ev.TerminateChild, "a") == {}
    assert bench.counts() == [1, 0, 0, 1]
    assert bench.call(ev.StartChild, worker("a")) == "already_present"
    assert bench.call(ev.RestartChild, "a") == pid(bench, "a")
    assert bench.counts() == [1, 1, 0, 1]


def test_delete_forgets() -> None:
    """C96: terminate, delete, then not_found; start_child works, and goes on counting incarnations."""
    bench = Bench(supervisor("a")).start()
    bench.call(ev.TerminateChild, "a")
    assert bench.call(ev.DeleteChild, "a") == {}
    assert bench.call(ev.RestartChild, "a") == "not_found"
    assert bench.counts() == [0, 0, 0, 0]
    assert bench.call(ev.StartChild, worker("a")) == pid(bench, "a")
    assert bench.incarnations() == {"a": 2}


def test_terminate_by_pid_is_not_found() -> None:
    """C97: a static supervisor knows its children by name."""
    bench = Bench(supervisor("a")).start()
    number = bench.state.slots["a"].pid
    assert bench.call(ev.TerminateChild, number) == "not_found"
    assert bench.incarnations() == {"a": 1}


@pytest.mark.parametrize("outcome", ["fail", "refuse"])
def test_start_child_that_fails_leaves_nothing(outcome: str) -> None:
    """C99: an error, the list unchanged, nothing charged, no sibling touched."""
    bench = Bench(supervisor("a", ONE_FOR_ALL, 0)).start()
    bench.script("x", outcome)
    assert bench.call(ev.StartChild, worker("x")) == "start_failed"
    assert bench.which() == {"a": "running"}
    assert bench.state.restarts_s == ()
    assert bench.incarnations() == {"a": 1}


def test_restart_child_that_fails_stays_undefined() -> None:
    """C100: an error, undefined, not retried, even with intensity 0."""
    bench = Bench(supervisor("a", intensity=0)).start()
    bench.call(ev.TerminateChild, "a")
    bench.script("a", "fail")
    assert bench.call(ev.RestartChild, "a") == "start_failed"
    assert bench.which() == {"a": "undefined"}
    assert bench.end is None


def test_start_child_that_ignores() -> None:
    """C8 and S133: ok without a pid; a temporary spec is discarded, another one kept."""
    bench = Bench(supervisor("")).start()
    bench.script("a", "ignore")
    bench.script("b", "ignore")
    assert bench.call(ev.StartChild, worker("a", TEMPORARY)) == {"pid": None}
    assert bench.call(ev.StartChild, worker("b")) == {"pid": None}
    assert bench.which() == {"b": "undefined"}


def test_restart_child_starts_one() -> None:
    """S141: whatever the strategy, only that child."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL)).start()
    bench.call(ev.TerminateChild, "a")
    bench.said()
    bench.call(ev.RestartChild, "a")
    assert bench.said() == ["start a"]


def test_newest_first() -> None:
    """C104: the list is in reverse start order; what is deleted is gone from it."""
    bench = Bench(supervisor("")).start()
    bench.call(ev.StartChild, worker("a"))
    bench.call(ev.StartChild, worker("b"))
    assert list(bench.which()) == ["b", "a"]
    bench.call(ev.TerminateChild, "a")
    assert bench.which() == {"b": "running", "a": "undefined"}
    bench.call(ev.DeleteChild, "a")
    assert bench.which() == {"b": "running"}


def test_counts_tell_supervisors_from_workers() -> None:
    """C105: three child supervisors, one of them terminated."""
    bench = Bench(supervisor([supervisor("w", name=name) for name in ("s1", "s2", "s3")])).start()
    bench.call(ev.TerminateChild, "s2")
    assert bench.counts() == [3, 2, 3, 0]


def test_added_again_stands_last() -> None:
    """S61: delete_child and start_child move a child to the end of the start order."""
    bench = Bench(supervisor("a b")).start()
    bench.call(ev.TerminateChild, "a")
    bench.call(ev.DeleteChild, "a")
    bench.call(ev.StartChild, worker("a"))
    assert bench.state.order == ("b", "a")
    bench.said()
    bench.stop()
    assert bench.said() == ["stop a", "stop b"]


def test_answer_comes_when_the_child_is_ready() -> None:
    """S26: start_child answers with the pid when the child is ready, not before."""
    bench = Bench(supervisor("")).start()
    bench.script("a", "hang")
    number = bench.begin(ev.StartChild, worker("a"))
    assert bench.answer(number) is None
    bench.feed(bench.ready("a"))
    assert bench.answer(number) == pid(bench, "a")


def test_terminating_what_starts_answers_both() -> None:
    """Whoever waits for the start learns that it was stopped; whoever stops it gets ok."""
    bench = Bench(supervisor("")).start()
    bench.script("a", "hang")
    started = bench.begin(ev.StartChild, worker("a"))
    assert bench.call(ev.TerminateChild, "a") == {}
    assert bench.answer(started) == "start_failed"
    assert bench.timers == {}


def test_requests_wait_for_a_stop_in_progress() -> None:
    """C81 and S102: while a child is being stopped nothing else is served, then with the final state."""
    bench = Bench(supervisor("a b")).start()
    bench.kernel.held.add("a")
    stopping = bench.begin(ev.TerminateChild, "a")
    number = bench.begin(ev.WhichChildren)
    assert bench.answer(stopping) is None
    assert bench.answer(number) is None
    bench.exits("a")
    assert bench.answer(stopping) == {}
    assert [entry["state"] for entry in bench.answer(number)] == ["running", "undefined"]


def test_deaths_are_handled_while_a_sibling_is_stopped() -> None:
    """Independent children: a slow terminate_child of one does not delay the restart of another."""
    bench = Bench(supervisor("a b")).start()
    bench.kernel.held.add("a")
    bench.begin(ev.TerminateChild, "a")
    bench.exits("b")
    assert bench.incarnations() == {"a": 1, "b": 2}


def test_requests_are_refused_when_the_supervisor_ends() -> None:
    """C82 and S110: queued, begun and later requests all are refused with shutdown, once each."""
    bench = Bench(supervisor("a")).start()
    bench.script("b", "hang")
    bench.kernel.held.update("ab")
    numbers = [bench.begin(ev.StartChild, worker("b")), bench.begin(ev.TerminateChild, "a")]
    numbers.append(bench.begin(ev.CountChildren))
    bench.stop()
    numbers.append(bench.begin(ev.CountChildren))
    assert [bench.answer(number) for number in numbers] == ["shutdown"] * 4
    bench.exits("b").exits("a")
    assert bench.end is not None
    assert bench.call(ev.CountChildren) == "shutdown"


@pytest.mark.parametrize(
    ("rule", "restart", "fault"),
    [
        (AutoShutdown.NEVER, TRANSIENT, "auto_shutdown is never"),
        (AutoShutdown.NEVER, PERMANENT, "auto_shutdown is never"),
        (AutoShutdown.ANY_SIGNIFICANT, PERMANENT, "restart = permanent"),
        (AutoShutdown.ALL_SIGNIFICANT, PERMANENT, "restart = permanent"),
        (AutoShutdown.ANY_SIGNIFICANT, TRANSIENT, ""),
        (AutoShutdown.ALL_SIGNIFICANT, TEMPORARY, ""),
    ],
)
def test_significant_combinations(rule: AutoShutdown, restart: Restart, fault: str) -> None:
    """C20 through start_child: auto_shutdown is looked at first, then restart (S12, S13)."""
    bench = Bench(supervisor("", auto_shutdown=rule)).start()
    number = bench.begin(ev.StartChild, worker("a", restart, significant=True))
    answer = bench.answers[number]
    if fault:
        assert isinstance(answer, Refuse)
        assert answer.code == "bad_request"
        assert fault in answer.message
        assert bench.done(Spawn) == []
    else:
        assert bench.answer(number) == pid(bench, "a")


def test_get_childspec_is_the_whole_spec() -> None:
    """C12: with all that was left out filled in."""
    sub = supervisor("", name="sub")
    bench = Bench(supervisor([worker("a"), sub])).start()
    assert bench.call(ev.GetChildspec, "a") == worker("a")
    assert bench.call(ev.GetChildspec, "sub") == sub
    assert (worker("a").restart, worker("a").shutdown.timeout_s, worker("a").significant) == ("permanent", 5.0, False)
    assert sub.shutdown.kind == "infinity"
