"""Significant children (S117-S128, scenarios H and C92)."""

from __future__ import annotations

import pytest
from bench import CRASH, KILLED, NORMAL, ONE_FOR_ALL, REST_FOR_ONE, TEMPORARY, TRANSIENT, Bench, supervisor, worker

from regrow.config.spec import AutoShutdown, Strategy
from regrow.daemon.core import events as ev

NEVER, ANY, ALL = AutoShutdown.NEVER, AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT


def started(children: str, rule: AutoShutdown, strategy: Strategy = Strategy.ONE_FOR_ONE) -> Bench:
    """Start a supervisor under one auto_shutdown rule; its log begins afterwards."""
    bench = Bench(supervisor(children, strategy, 5, auto_shutdown=rule)).start()
    bench.said()
    return bench


def shut_down(bench: Bench) -> bool:
    """Say whether the supervisor shut itself down; any other end is a failure."""
    if bench.end is None:
        return False
    assert bench.end.outcome == "auto_shutdown"
    return True


@pytest.mark.parametrize("rule", AutoShutdown)
@pytest.mark.parametrize("exit", [KILLED, CRASH, NORMAL])
def test_nonsignificant_never_triggers(rule: AutoShutdown, exit: ev.Exit) -> None:
    """C83 and S127: in no mode, for no reason."""
    bench = started("a:M b:T", rule)
    bench.exits("a", exit=exit)
    bench.exits("b", exit=NORMAL)
    bench.call(ev.StartChild, worker("a", TEMPORARY))
    bench.call(ev.TerminateChild, "a")
    assert not shut_down(bench)


@pytest.mark.parametrize("exit", [KILLED, CRASH, NORMAL])
def test_any_significant_temporary(exit: ev.Exit) -> None:
    """C84: terminate_child does not trigger it, any end by itself does; the rest is stopped in reverse order."""
    bench = started("a:M! b:M! c:M", ANY)
    bench.call(ev.TerminateChild, "a")
    assert not shut_down(bench)
    bench.call(ev.StartChild, worker("a", TEMPORARY, significant=True))
    bench.said()
    assert shut_down(bench.exits("a", exit=exit))
    assert bench.said() == ["stop c", "stop b"]


def test_any_significant_transient() -> None:
    """C85: abnormal ends restart, a normal one shuts down."""
    bench = started("a:T! b:T! c:T", ANY)
    assert not shut_down(bench.exits("a", exit=KILLED))
    assert not shut_down(bench.exits("a", exit=CRASH))
    assert bench.incarnations()["a"] == 3
    assert shut_down(bench.exits("a", exit=NORMAL))


def test_all_significant_temporary() -> None:
    """C86: the last significant one shuts it down."""
    bench = started("a:M! b:M! c:M", ALL)
    assert not shut_down(bench.exits("a", exit=NORMAL))
    assert shut_down(bench.exits("b", exit=NORMAL))
    assert bench.said() == ["stop c"]


def test_terminated_ones_count_as_inactive() -> None:
    """S121 and S122: terminate_child of the last active one does not trigger; it is inactive at the next end."""
    bench = started("a:T! b:T!", ALL)
    bench.call(ev.TerminateChild, "a")
    assert shut_down(bench.exits("b", exit=NORMAL))
    bench = started("a:T! b:T!", ALL)
    bench.exits("a", exit=NORMAL)
    bench.call(ev.TerminateChild, "b")
    assert not shut_down(bench)


def test_restarting_counts_as_active() -> None:
    """S119: a significant child whose restart is pending keeps an all_significant supervisor alive."""
    bench = started("a:T! b:T!", ALL)
    bench.script("a", then="hang")
    bench.exits("a")
    assert not shut_down(bench.exits("b", exit=NORMAL))


@pytest.mark.parametrize("rule", [ANY, ALL])
@pytest.mark.parametrize("strategy", [REST_FOR_ONE, ONE_FOR_ALL])
def test_bystanders_do_not_trigger(rule: AutoShutdown, strategy: Strategy) -> None:
    """C90: significant children that a batch stops are started again."""
    bench = started("a:T! b:T c:T!", rule, strategy)
    assert not shut_down(bench.exits("b", exit=KILLED))
    assert set(bench.which().values()) == {"running"}


def test_temporary_bystander_does_not_trigger() -> None:
    """C91: it is removed by the batch, and the supervisor lives."""
    bench = started("b:P a:M!", ALL, REST_FOR_ONE)
    assert not shut_down(bench.exits("b"))
    assert bench.which() == {"b": "running"}


@pytest.mark.parametrize("significant", [True, False])
def test_cascade(significant: bool) -> None:
    """C92: a supervisor that shut down is an end by itself for its parent, significant or not."""
    below = supervisor("c:T!", name="b", auto_shutdown=ANY, restart=TRANSIENT, significant=significant)
    bench = Bench(supervisor([below], auto_shutdown=ANY)).start()
    bench.kernel.benches["b"].exits("c", exit=NORMAL)
    assert shut_down(bench) == significant


def test_never_disarms_by_reload_and_back() -> None:
    """C139 (S182): never refuses and ignores significant children, any arms at the next end."""
    one = worker("a", TRANSIENT, significant=True)
    bench = started("", NEVER)
    assert bench.call(ev.StartChild, one) == "bad_request"
    bench.call(ev.PlanChanged, supervisor("", auto_shutdown=ANY))
    bench.call(ev.StartChild, one)
    bench.call(ev.StartChild, worker("b", TRANSIENT, significant=True))
    bench.call(ev.PlanChanged, supervisor("", auto_shutdown=NEVER))
    assert not shut_down(bench.exits("a", exit=NORMAL))
    bench.call(ev.PlanChanged, supervisor("", auto_shutdown=ANY))
    assert shut_down(bench.exits("b", exit=NORMAL))


@pytest.mark.parametrize("significant", [True, False])
def test_significance_changes_by_reload(significant: bool) -> None:
    """C140: a running child becomes significant, or stops being so, without a restart."""
    old, new = (worker("a", TRANSIENT, significant=value) for value in (not significant, significant))
    bench = Bench(supervisor([old], auto_shutdown=ANY)).start()
    bench.call(ev.PlanChanged, supervisor([new], auto_shutdown=ANY))
    assert bench.incarnations() == {"a": 1}
    assert shut_down(bench.exits("a", exit=NORMAL)) == significant
