"""Whom a death concerns, in which order (scenarios C34-C48), and the scope as a function."""

from __future__ import annotations

from bench import DYNAMIC, NORMAL, ONE_FOR_ALL, ONE_FOR_ONE, REST_FOR_ONE, Bench, supervisor
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.spec import Strategy
from regrow.daemon.core import events as ev
from regrow.daemon.core.strategy import restart_scope

orders = st.lists(st.text("abcdefgh", min_size=1, max_size=2), min_size=1, unique=True).map(tuple)


@st.composite
def deaths(draw: st.DrawFn) -> tuple[tuple[str, ...], str]:
    """Draw a start order and one child of it."""
    order = draw(orders)
    return order, draw(st.sampled_from(order))


@given(deaths())
def test_scopes_hold_each_other(death: tuple[tuple[str, ...], str]) -> None:
    """one_for_one is part of rest_for_one is part of one_for_all; all in start order, all with the failed child."""
    order, failed = death
    one, rest, every = (
        restart_scope(strategy, order, failed) for strategy in (ONE_FOR_ONE, REST_FOR_ONE, ONE_FOR_ALL)
    )
    assert set(one) <= set(rest) <= set(every) == set(order)
    for scope in (one, rest, every):
        assert failed in scope
        assert list(scope) == sorted(scope, key=order.index)
    assert restart_scope(DYNAMIC, order, failed) == one == (failed,)
    assert rest == tuple(child for child in order if order.index(child) >= order.index(failed))


def crash(children: str, strategy: Strategy, failed: str) -> Bench:
    """Start children, take note of nothing, and let one of them crash."""
    bench = Bench(supervisor(children, strategy, 2, 3600.0)).start()
    bench.said()
    return bench.exits(failed)


def test_one_for_one_restarts_the_child_alone() -> None:
    """C34: the sibling keeps its process."""
    bench = crash("a b", ONE_FOR_ONE, "a")
    assert bench.said() == ["start a"]
    assert bench.incarnations() == {"a": 2, "b": 1}
    assert bench.counts() == [2, 2, 0, 2]


def test_one_for_all_restarts_all() -> None:
    """C35: the sibling is stopped, both start."""
    assert crash("a b", ONE_FOR_ALL, "a").said() == ["stop b", "start a", "start b"]


def test_one_for_all_stops_in_reverse_order() -> None:
    """C36: those after and before the dead child, last first."""
    assert crash("a b c", ONE_FOR_ALL, "b").said() == ["stop c", "stop a", "start a", "start b", "start c"]


def test_one_for_all_waits_for_each_death() -> None:
    """C36: a is asked to stop only after c is dead."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL)).start()
    bench.kernel.held.add("c")
    bench.exits("b")
    assert bench.state.slots["a"].state == "running"
    bench.kernel.held.clear()
    bench.exits("c")
    assert bench.said()[-4:] == ["stop a", "start a", "start b", "start c"]


def test_rest_for_one_leaves_the_elders() -> None:
    """C37: those after it are stopped, it and they start, the first is untouched."""
    bench = crash("a b c", REST_FOR_ONE, "b")
    assert bench.said() == ["stop c", "start b", "start c"]
    assert bench.incarnations() == {"a": 1, "b": 2, "c": 2}


def test_rest_for_one_goes_by_start_order() -> None:
    """C38: order is the list's, not the names'."""
    bench = crash("c7 c3 c10 c2 c5", REST_FOR_ONE, "c10")
    assert bench.said() == ["stop c5", "stop c2", "start c10", "start c2", "start c5"]


def test_temporary_bystander_is_gone() -> None:
    """C40: a temporary sibling that a batch stops is not started again."""
    bench = Bench(supervisor("a t:M", ONE_FOR_ALL)).start()
    bench.exits("a", exit=NORMAL)
    assert bench.which() == {"a": "running"}
    assert bench.said() == ["start a", "start t", "stop t", "start a"]


def test_batch_starts_what_was_down() -> None:
    """S55: terminated, finished and ignored siblings in the scope are started by a batch."""
    bench = Bench(supervisor("a b:T c d", ONE_FOR_ALL))
    bench.script("d", "ignore")
    bench.start()
    bench.exits("b", exit=NORMAL)
    bench.call(ev.TerminateChild, "c")
    assert bench.which() == {"d": "undefined", "c": "undefined", "b": "undefined", "a": "running"}
    bench.exits("a")
    assert set(bench.which().values()) == {"running"}


def test_ignore_in_a_batch_is_no_failure() -> None:
    """S56: a child that ignores in a batch ends undefined and the batch goes on."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL)).start()
    bench.script("b", "ignore")
    bench.exits("a")
    assert bench.which() == {"c": "running", "b": "undefined", "a": "running"}
    assert len(bench.state.restarts_s) == 1


def test_rest_for_one_leaves_undefined_elders() -> None:
    """C42: an elder that was terminated stays so."""
    bench = Bench(supervisor("a b c", REST_FOR_ONE)).start()
    bench.call(ev.TerminateChild, "a")
    bench.exits("b")
    assert bench.which() == {"c": "running", "b": "running", "a": "undefined"}


def test_end_without_restart_leaves_siblings() -> None:
    """S48: a normal end of a transient child, a crash of a temporary one: nobody else is touched."""
    bench = Bench(supervisor("a:T b:M c", ONE_FOR_ALL)).start()
    bench.said()
    bench.exits("a", exit=NORMAL)
    bench.exits("b")
    assert bench.said() == []
    assert bench.which() == {"c": "running", "a": "undefined"}


def test_simultaneous_deaths_are_one_batch() -> None:
    """C43 (S59): three deaths at once under one_for_all and intensity 1 are one batch."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL, 1)).start()
    bench.exits("a", "b", "c")
    assert bench.end is None
    assert bench.incarnations() == {"a": 2, "b": 2, "c": 2}


def test_simultaneous_deaths_are_separate_restarts() -> None:
    """C44: the same under one_for_one exceeds the intensity."""
    bench = Bench(supervisor("a b c", ONE_FOR_ONE, 1)).start()
    bench.exits("a", "b", "c")
    assert bench.end is not None
    assert bench.end.outcome == "gave_up"


def test_elder_that_dies_during_a_batch_is_its_own_restart() -> None:
    """S60: under rest_for_one the death of an elder waits for the batch and is charged by itself."""
    bench = Bench(supervisor("a b c", REST_FOR_ONE)).start()
    bench.kernel.held.add("c")
    bench.exits("b")
    bench.exits("a")
    assert bench.incarnations() == {"c": 1}
    bench.kernel.held.clear()
    bench.exits("c")
    assert bench.incarnations() == {"a": 2, "b": 3, "c": 3}
    assert len(bench.state.restarts_s) == 2


def test_sibling_that_exits_badly_when_asked_is_just_stopped() -> None:
    """C77: how a bystander ends when it is stopped changes nothing."""
    bench = Bench(supervisor("a b", ONE_FOR_ALL, 1)).start()
    bench.kernel.held.add("b")
    bench.exits("a")
    bench.exits("b")
    assert bench.end is None
    assert len(bench.state.restarts_s) == 1
    assert bench.incarnations() == {"a": 2, "b": 2}


def test_batch_is_charged_once() -> None:
    """C48: two batches are two restarts, the third gives up, whatever the strategy."""
    for strategy in (ONE_FOR_ALL, REST_FOR_ONE):
        bench = Bench(supervisor("a b c", strategy, 2, 3600.0)).start()
        ends = [bench.exits("a").end for _ in range(3)]
        assert ends[:2] == [None, None]
        assert ends[2] is not None
        assert ends[2].outcome == "gave_up"
