"""New flags and specs for a running supervisor (S175-S182, scenarios M)."""

from __future__ import annotations

from bench import (
    NORMAL,
    ONE_FOR_ALL,
    ONE_FOR_ONE,
    REST_FOR_ONE,
    TEMPORARY,
    TRANSIENT,
    Backoff,
    Bench,
    supervisor,
    within,
    worker,
)

from regrow.daemon.core import events as ev
from regrow.daemon.core.effects import Signal, Spawn


def test_new_children_are_not_started() -> None:
    """C135 (S177): listed undefined; restart_child starts each."""
    bench = Bench(supervisor("")).start()
    assert bench.call(ev.PlanChanged, supervisor("a b")) == {}
    assert bench.done(Spawn) == []
    assert bench.which() == {"b": "undefined", "a": "undefined"}
    for child in "ab":
        assert isinstance(bench.call(ev.RestartChild, child), dict)


def test_known_children_keep_their_process() -> None:
    """C136 (S176, S178, S179): new specs hold at once, missing ones stay, order is the new list's and then the old."""
    bench = Bench(supervisor("a b c")).start()
    bench.call(ev.PlanChanged, supervisor([worker("c"), worker("x"), worker("b", TRANSIENT)]))
    assert bench.state.order == ("c", "x", "b", "a")
    assert bench.incarnations() == {"a": 1, "b": 1, "c": 1}
    bench.exits("b", exit=NORMAL)
    assert bench.which()["b"] == "undefined"


def test_new_shutdown_holds_for_the_running_child() -> None:
    """S176: the next stop goes by the new spec."""
    bench = Bench(supervisor("a")).start()
    bench.kernel.held.add("a")
    bench.call(ev.PlanChanged, supervisor([worker("a", shutdown=within(0.0))]))
    bench.stop()
    assert [str(signal.kind) for signal in bench.done(Signal)] == ["stop", "kill"]


def test_history_is_kept() -> None:
    """S175: restarts of before count under the new intensity."""
    bench = Bench(supervisor("a", intensity=5)).start()
    bench.exits("a").exits("a")
    bench.call(ev.PlanChanged, supervisor("a", intensity=2))
    assert bench.end is None
    bench.exits("a")
    assert bench.end is not None


def test_new_strategy_holds_at_the_next_death() -> None:
    """S175: one_for_one becomes one_for_all, also for deaths that wait behind the reload."""
    bench = Bench(supervisor("a b")).start()
    bench.kernel.held.add("b")
    stopping = bench.begin(ev.TerminateChild, "b")
    changing = bench.begin(ev.PlanChanged, supervisor("a b", ONE_FOR_ALL))
    bench.exits("b")
    assert bench.answer(stopping) == bench.answer(changing) == {}
    bench.said()
    bench.exits("a")
    assert bench.said() == ["start a", "start b"]


def test_starts_under_way_survive_a_new_strategy() -> None:
    """A child that is starting when the group is made is no part of a batch, nor does its failure break one."""
    bench = Bench(supervisor("x a b", ONE_FOR_ONE)).start()
    bench.call(ev.TerminateChild, "x")
    bench.script("x", "hang")
    starting = bench.begin(ev.RestartChild, "x")
    bench.call(ev.PlanChanged, supervisor("x a b", REST_FOR_ONE))
    bench.script("a", "hang")
    bench.exits("a")
    bench.exits("x")
    assert bench.answer(starting) == "start_failed"
    bench.feed(bench.ready("a"))
    assert bench.which() == {"b": "running", "a": "running", "x": "undefined"}


def test_batch_answers_who_waits_for_a_start() -> None:
    """A start by request that a batch stops, after such a reload, is answered."""
    bench = Bench(supervisor("a x", ONE_FOR_ONE)).start()
    bench.call(ev.TerminateChild, "x")
    bench.script("x", "hang")
    starting = bench.begin(ev.RestartChild, "x")
    bench.call(ev.PlanChanged, supervisor("a x", ONE_FOR_ALL))
    bench.exits("a")
    assert bench.answer(starting) == "start_failed"
    assert set(bench.which().values()) == {"running"}
    assert bench.timers == {}


def test_reload_waits_for_an_operation() -> None:
    """S102: in the middle of a batch nothing changes; afterwards it does."""
    bench = Bench(supervisor("a b", ONE_FOR_ALL)).start()
    bench.kernel.held.add("b")
    bench.exits("a")
    number = bench.begin(ev.PlanChanged, supervisor("a b c", ONE_FOR_ALL))
    assert bench.answer(number) is None
    bench.exits("b")
    assert bench.answer(number) == {}
    assert bench.which()["c"] == "undefined"


def test_waiting_child_keeps_its_turn() -> None:
    """A child in backoff keeps its timer over a reload, and starts by the new spec."""
    bench = Bench(supervisor("a", backoff=Backoff(jitter=0.0))).start()
    bench.exits("a")
    new = worker("a", TEMPORARY)
    bench.call(ev.PlanChanged, supervisor([new]))
    bench.advance(1.0)
    assert bench.incarnations() == {"a": 2}
    assert bench.state.slots["a"].spec == new


def test_numbers_of_names_that_were_elsewhere_go_on() -> None:
    """A child that comes from another supervisor is no other's incarnation."""
    bench = Bench(supervisor("a")).start()
    bench.call(ev.PlanChanged, supervisor("a b"), {"a": 9, "b": 7})
    bench.call(ev.RestartChild, "b")
    assert bench.incarnations() == {"a": 1, "b": 8}


def test_on_probation_an_end_is_no_restart() -> None:
    """What an apply watches ends once, is told, and uses up no limit; afterwards it is a child like others."""
    bench = Bench(supervisor("a b", intensity=0)).start()
    bench.call(ev.TerminateChild, "a")
    bench.call(ev.RestartChild, "a", True)
    bench.exits("a")
    assert bench.which()["a"] == "undefined"
    assert bench.end is None
    bench.call(ev.RestartChild, "a", True)
    assert bench.call(ev.ProbationOver) == {}
    bench.exits("a")
    assert bench.end is not None


def test_a_group_is_not_restarted_for_one_on_probation() -> None:
    """Its siblings stay."""
    bench = Bench(supervisor("a b", strategy=ONE_FOR_ALL)).start()
    bench.call(ev.TerminateChild, "a")
    bench.call(ev.RestartChild, "a", True)
    bench.exits("a")
    assert bench.which() == {"b": "running", "a": "undefined"}
    assert bench.incarnations()["b"] == 1


def test_on_probation_a_restart_of_the_group_is_tried_once() -> None:
    """A sibling's end starts it again; if that fails it is told, the group goes on without, and no limit is used up."""
    bench = Bench(supervisor("a b c", strategy=ONE_FOR_ALL, intensity=1)).start()
    bench.call(ev.TerminateChild, "b")
    bench.call(ev.RestartChild, "b", True)
    bench.script("b", then="fail")
    bench.exits("a")
    assert bench.which() == {"c": "running", "b": "undefined", "a": "running"}
    assert len(bench.state.restarts_s) == 1
    assert bench.timers == {}
