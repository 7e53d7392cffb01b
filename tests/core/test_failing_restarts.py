"""A restart whose start fails (S76-S89, scenarios C57-C69): retried through the mailbox, charged each time."""

from __future__ import annotations

from bench import ONE_FOR_ALL, ONE_FOR_ONE, REST_FOR_ONE, Backoff, Bench, supervisor, worker

from regrow.config.spec import Strategy
from regrow.daemon.core import events as ev


def gave_up(bench: Bench) -> bool:
    """Say whether the supervisor gave up."""
    return bench.end is not None and bench.end.outcome == "gave_up"


def started(children: str, strategy: Strategy, intensity: int) -> Bench:
    """Start a supervisor; its log begins afterwards."""
    bench = Bench(supervisor(children, strategy, intensity, 3600.0)).start()
    bench.said()
    return bench


def test_one_for_one_attempts_exactly_intensity_times() -> None:
    """C57: 4 failed starts of a, then it gives up and stops b."""
    bench = started("a b", ONE_FOR_ONE, 4)
    bench.script("a", then="fail")
    bench.exits("a")
    assert gave_up(bench)
    assert bench.said() == ["fail a"] * 4 + ["stop b"]


def test_one_for_all_escalates() -> None:
    """C58: b fails each time; in the end nothing is left."""
    bench = started("a b", ONE_FOR_ALL, 4)
    bench.script("b", then="fail")
    bench.exits("a")
    assert gave_up(bench)
    assert bench.said() == ["stop b"] + ["start a", "fail b", "stop a"] * 4
    assert bench.live == {}


def test_rest_for_one_retries_the_failing_child_alone() -> None:
    """C59: a restarts once and stays, b is retried until the budget is gone."""
    bench = started("a b", REST_FOR_ONE, 4)
    bench.script("b", then="fail")
    bench.exits("a")
    assert gave_up(bench)
    assert bench.said() == ["stop b", "start a", "fail b", "fail b", "fail b", "fail b", "stop a"]


def test_one_for_all_starts_the_whole_list_again() -> None:
    """C60: the sibling that had come up is stopped and started again; two restarts are charged."""
    bench = started("a b", ONE_FOR_ALL, 3)
    bench.script("b", "fail")
    bench.exits("a")
    assert bench.said() == ["stop b", "start a", "fail b", "stop a", "start a", "start b"]
    assert len(bench.state.restarts_s) == 2


def test_rest_for_one_other_child_becomes_the_pivot() -> None:
    """C61: b stays up, c is retried, d waits; once c starts, d does too."""
    bench = started("a b c d", REST_FOR_ONE, 8)
    bench.script("c", "fail", "fail")
    bench.exits("b")
    assert bench.said() == ["stop d", "stop c", "start b", "fail c", "fail c", "start c", "start d"]
    assert bench.incarnations() == {"a": 1, "b": 2, "c": 4, "d": 2}
    assert len(bench.state.restarts_s) == 3


def test_between_attempts_the_failing_child_is_restarting() -> None:
    """C62 and S82: those before it run, it is restarting, those after it are undefined."""
    bench = Bench(supervisor("a b c d", REST_FOR_ONE, 8, 3600.0, backoff=Backoff(jitter=0.0))).start()
    bench.script("c", "fail")
    bench.exits("d")
    bench.advance(0.1)
    bench.exits("b")
    bench.advance(0.2)
    assert bench.which() == {"d": "undefined", "c": "restarting", "b": "running", "a": "running"}
    assert bench.counts() == [4, 2, 0, 4]


def test_pivot_behind_the_failing_child_is_undefined() -> None:
    """S82 for the child whose death began the batch: it is not restarting while an earlier one is."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL, 8, 3600.0, backoff=Backoff(jitter=0.0))).start()
    bench.script("a", "fail")
    bench.exits("c")
    bench.advance(0.1)
    assert bench.which() == {"c": "undefined", "b": "undefined", "a": "restarting"}
    assert bench.call(ev.TerminateChild, "a") == {}
    assert bench.which() == {"c": "undefined", "b": "undefined", "a": "undefined"}


def failing() -> Bench:
    """C63: one_for_one, a in a failing restart, between two attempts."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 8, 10.0, backoff=Backoff(first_s=1.0))).start()
    bench.script("a", "fail")
    return bench.exits("a").advance(1.1)


def test_management_of_a_restarting_child() -> None:
    """C63: already_present, restarting, restarting; counts [1,0,0,1]."""
    bench = failing()
    assert bench.which() == {"a": "restarting"}
    assert bench.call(ev.StartChild, worker("a")) == "already_present"
    assert bench.call(ev.RestartChild, "a") == "restarting"
    assert bench.call(ev.DeleteChild, "a") == "restarting"
    assert bench.counts() == [1, 0, 0, 1]


def test_terminate_cancels_the_restart() -> None:
    """C64: ok, undefined, no further attempt; a later restart_child works."""
    bench = failing()
    assert bench.call(ev.TerminateChild, "a") == {}
    assert bench.timers == {}
    assert bench.advance(100.0).which() == {"a": "undefined"}
    assert isinstance(bench.call(ev.RestartChild, "a"), dict)


def test_stop_is_not_delayed_by_retries() -> None:
    """C65: a supervisor in a failing restart ends at once."""
    bench = failing().stop()
    assert bench.end is not None
    assert bench.timers == {}


def test_requests_between_attempts_are_served() -> None:
    """S77: what arrived meanwhile comes before the retry, in every strategy."""
    for strategy in (ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE):
        bench = started("a", strategy, 8)
        bench.script("a", then="hang")
        bench.exits("a")
        bench.feed(bench.exited("a"), ev.TerminateChild(99, "a"))
        assert bench.answer(99) == {}
        assert bench.which() == {"a": "undefined"}


def test_after_a_cancel_the_rest_stays_down() -> None:
    """C66 (S85): what the interrupted batch had not reached stays undefined, and restart_child starts one only."""
    bench = Bench(supervisor("a b c d", REST_FOR_ONE, 8, 3600.0, backoff=Backoff())).start()
    bench.script("c", "fail")
    bench.exits("b").advance(0.2)
    assert bench.call(ev.TerminateChild, "c") == {}
    assert bench.which() == {"d": "undefined", "c": "undefined", "b": "running", "a": "running"}
    assert isinstance(bench.call(ev.RestartChild, "c"), dict)
    assert bench.which() == {"d": "undefined", "c": "running", "b": "running", "a": "running"}


def test_ignore_on_restart_is_success() -> None:
    """C68: undefined, not retried, the supervisor lives."""
    bench = started("a", ONE_FOR_ONE, 1)
    bench.script("a", "ignore")
    bench.exits("a")
    assert bench.which() == {"a": "undefined"}
    assert bench.counts() == [1, 0, 0, 1]
    assert bench.end is None


def test_retry_of_a_revived_child_does_nothing() -> None:
    """C69: a dies while b fails slowly; the batch for a revives b, whose queued retry then costs nothing."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL, 5)).start()
    bench.said()
    bench.script("b", "hang")
    bench.exits("c")
    bench.exits("a")
    bench.kernel.log.append("fail b")
    bench.exits("b")
    assert bench.said() == ["stop b", "stop a", "start a", "fail b", "start a", "start b", "start c"]
    assert len(bench.state.restarts_s) == 2
    assert set(bench.which().values()) == {"running"}


def test_other_crash_draws_on_the_same_budget() -> None:
    """S89: a sibling's crash during a pending retry may exhaust the budget."""
    bench = Bench(supervisor("a b", ONE_FOR_ONE, 2, backoff=Backoff(first_s=5.0))).start()
    bench.exits("a").exits("b")
    assert bench.end is None
    bench.advance(5.5)
    assert bench.incarnations() == {"a": 2, "b": 2}
    assert gave_up(bench.exits("b"))
