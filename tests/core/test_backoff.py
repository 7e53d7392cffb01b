"""Delays between restarts: of one child, and of a group, where restarts join (regrow's own)."""

from __future__ import annotations

import pytest
from bench import CRASH, ONE_FOR_ALL, ONE_FOR_ONE, REST_FOR_ONE, Backoff, Bench, supervisor

from regrow.daemon.core import events as ev

STEADY = Backoff(first_s=1.0, factor=2.0, max_s=10.0, jitter=0.0, reset_s=60.0)


def delays(bench: Bench) -> list[float]:
    """The delay of the one timer that is armed, if there is one."""
    return [round(at_s - bench.kernel.now_s, 6) for at_s in bench.timers.values()]


def test_delay_grows_with_each_failure() -> None:
    """1, 2, 4, 8, 10, 10 s: doubled up to the maximum, and nothing runs meanwhile."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 100, backoff=STEADY)).start()
    seen: list[float] = []
    for _ in range(6):
        bench.exits("a")
        assert bench.which() == {"a": "restarting"}
        seen += delays(bench)
        bench.advance(seen[-1])
        assert bench.which() == {"a": "running"}
    assert seen == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_failed_starts_grow_it_too() -> None:
    """A restart that fails is charged when it is tried again, after the next, longer delay."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 100, backoff=STEADY)).start()
    bench.script("a", "fail", "fail")
    bench.exits("a")
    bench.advance(1.0)
    assert delays(bench) == [2.0]
    assert len(bench.state.restarts_s) == 1
    bench.advance(2.0)
    assert delays(bench) == [4.0]
    assert len(bench.state.restarts_s) == 2


def test_staying_up_forgives() -> None:
    """A child that was up for `reset_s` begins anew; a moment less does not count."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 100, backoff=STEADY)).start()
    bench.exits("a").advance(1.0)
    bench.advance(59.9).exits("a")
    assert delays(bench) == [2.0]
    bench.advance(2.0)
    bench.advance(60.0).exits("a")
    assert delays(bench) == [1.0]


def test_each_child_has_its_own_delay() -> None:
    """Independent children fail and wait independently."""
    bench = Bench(supervisor("a b", ONE_FOR_ONE, 100, backoff=STEADY)).start()
    bench.exits("a").advance(1.0)
    bench.exits("a")
    bench.exits("b")
    assert sorted(delays(bench)) == [1.0, 2.0]


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 1.0])
def test_jitter_comes_with_the_event(jitter: float) -> None:
    """The delay is spread by what was drawn where the death was seen, so that it can be repeated."""
    bench = Bench(supervisor("a", backoff=Backoff(first_s=1.0, jitter=0.1))).start()
    bench.feed(ev.ChildExited("a", 1, CRASH, jitter))
    assert delays(bench) == [round(1.0 + 0.1 * jitter, 6)]


def test_delayed_restart_is_one_report() -> None:
    """A put-off restart is reported as restarting and waiting, and once only."""
    bench = Bench(supervisor("a", backoff=STEADY)).start()
    bench.exits("a")
    assert [report.extra["delay_s"] for report in bench.reports("restarting")] == [1.0]
    assert [report.extra["delay_s"] for report in bench.reports("waiting")] == [1.0]
    bench.advance(1.0)
    assert bench.reports("restarting") == []
    assert len(bench.reports("starting")) == 1


def test_group_stops_first_then_waits() -> None:
    """one_for_all: everything is stopped at once, and started together when the delay is over."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL, backoff=STEADY)).start()
    bench.said()
    bench.exits("b")
    assert bench.said() == ["stop c", "stop a"]
    assert delays(bench) == [1.0]
    bench.advance(1.0)
    assert bench.said() == ["start a", "start b", "start c"]


def test_group_delay_is_the_groups() -> None:
    """Failures of different children of a group add up to one series."""
    bench = Bench(supervisor("a b", ONE_FOR_ALL, 100, backoff=STEADY)).start()
    bench.exits("a").advance(1.0)
    bench.exits("b")
    assert delays(bench) == [2.0]


def test_elder_joins_a_waiting_group() -> None:
    """rest_for_one: an elder that dies while the rest waits takes over, at the deadline that was set, charged once."""
    bench = Bench(supervisor("a b c", REST_FOR_ONE, 100, backoff=STEADY)).start()
    bench.exits("b").advance(0.4)
    bench.exits("a")
    assert delays(bench) == [0.6]
    assert bench.which() == {"c": "undefined", "b": "undefined", "a": "restarting"}
    assert len(bench.state.restarts_s) == 2
    bench.said()
    bench.advance(0.6)
    assert bench.said() == ["start a", "start b", "start c"]


def test_requests_are_served_while_a_group_waits() -> None:
    """A sibling may be started by hand during the delay; the batch then restarts it with the others."""
    bench = Bench(supervisor("a b", ONE_FOR_ALL, backoff=STEADY)).start()
    bench.exits("a")
    bench.said()
    assert isinstance(bench.call(ev.RestartChild, "b"), dict)
    bench.advance(1.0)
    assert bench.said() == ["start b", "stop b", "start a", "start b"]


def test_broken_batch_does_not_count_as_up() -> None:
    """Backoff: a group whose batch fails was not up, however long ago it last was."""
    bench = Bench(supervisor("a b", REST_FOR_ONE, 100, backoff=STEADY)).start()
    bench.advance(100.0)
    bench.script("b", "fail")
    bench.exits("b")
    bench.advance(1.0)
    assert delays(bench) == [2.0]
    bench.exits("a")
    assert bench.state.failures == 3
