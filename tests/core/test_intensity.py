"""How often a supervisor restarts before it gives up (scenarios C47-C56): the window equals the naive count."""

from __future__ import annotations

import pytest
from bench import ONE_FOR_ONE, Bench, supervisor
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from regrow.config.spec import Escalate
from regrow.daemon.core import events as ev
from regrow.daemon.core.intensity import add_restart

gaps = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(gaps, st.integers(0, 6), st.integers(1, 20))
def test_window_equals_naive_count(steps: list[int], intensity: int, period_s: int) -> None:
    """Allowed exactly while the restarts of the last `period_s`, this one and the edge included, fit."""
    window: tuple[float, ...] = ()
    every: list[float] = []
    now_s = 0.0
    for step_s in steps:
        now_s += step_s
        every.append(now_s)
        naive = sum(at_s >= now_s - period_s for at_s in every)
        window, allowed = add_restart(window, now_s, intensity, period_s)
        assert allowed == (naive <= intensity)
        assert list(window) == sorted(window)
        assert len(window) <= intensity + 1
        if not allowed:
            return


def test_edge_is_inclusive() -> None:
    """A restart exactly `period_s` old still counts; one a moment older does not (S65, T7)."""
    assert add_restart((10.0,), 15.0, 1, 5.0) == ((10.0, 15.0), False)
    assert add_restart((10.0,), 15.001, 1, 5.0) == ((15.001,), True)


def test_intensity_0_allows_none() -> None:
    """S68: the first restart is one too many."""
    assert add_restart((), 1.0, 0, 5.0) == ((1.0,), False)


def gave_up(bench: Bench) -> bool:
    """Say whether the supervisor gave up."""
    return bench.end is not None and bench.end.outcome == "gave_up"


def test_budget_is_shared() -> None:
    """C47: a crashes, b crashes, the third crash of either is one too many."""
    bench = Bench(supervisor("a b", ONE_FOR_ONE, 2, 3600.0)).start()
    bench.exits("a").exits("b")
    assert not gave_up(bench)
    assert gave_up(bench.exits("b"))


def test_spaced_crashes_never_give_up() -> None:
    """C49: under 1/1, crashes 2.1 s apart are restarted every time."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 1, 1.0)).start()
    for _ in range(4):
        bench.exits("a").advance(2.1)
    assert bench.incarnations() == {"a": 5}


def test_intensity_0_ends_without_an_attempt() -> None:
    """C51: no start of a, b is stopped, the supervisor ends with shutdown."""
    bench = Bench(supervisor("a b", ONE_FOR_ONE, 0)).start()
    bench.said()
    assert gave_up(bench.exits("a"))
    assert bench.said() == ["stop b"]


def test_giving_up_stops_the_rest_in_reverse() -> None:
    """C53: at the second crash no start of b; c and a are stopped, in this order."""
    bench = Bench(supervisor("a b c", ONE_FOR_ONE, 1)).start()
    bench.exits("b")
    bench.said()
    bench.exits("b")
    assert gave_up(bench)
    assert bench.said() == ["stop c", "stop a"]
    (report,) = bench.reports("gave_up")
    assert report.extra["intensity"] == 1
    assert report.extra["child"] == "b"


def test_success_resets_nothing() -> None:
    """C54: ready and dead at once, 2/10: three starts in all."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 2)).start()
    while not gave_up(bench):
        bench.exits("a")
    assert bench.said() == ["start a"] * 3


def test_manual_restarts_are_free() -> None:
    """C55: five rounds of terminate_child and restart_child under intensity 0."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 0)).start()
    for _ in range(5):
        assert bench.call(ev.TerminateChild, "a") == {}
        assert isinstance(bench.call(ev.RestartChild, "a"), dict)
    assert bench.incarnations() == {"a": 6}


@pytest.mark.parametrize(("intensity", "crashes"), [(1, 2), (3, 4)])
def test_profiles(intensity: int, crashes: int) -> None:
    """C56: OTP's 1/5 gives up at the second crash within a second, Elixir's 3/5 at the fourth."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, intensity, 5.0)).start()
    for number in range(1, crashes + 1):
        assert not gave_up(bench)
        bench.advance(0.2).exits("a")
        assert gave_up(bench) == (number == crashes)


@given(gaps, st.integers(0, 4), st.integers(1, 20))
def test_supervisor_counts_like_the_function(steps: list[int], intensity: int, period_s: int) -> None:
    """A supervisor gives up exactly at the crash at which the naive count says so."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, intensity, float(period_s))).start()
    every: list[float] = []
    for step_s in steps:
        bench.advance(step_s)
        every.append(bench.kernel.now_s)
        naive = sum(at_s >= bench.kernel.now_s - period_s for at_s in every)
        bench.exits("a")
        assert gave_up(bench) == (naive > intensity)
        if gave_up(bench):
            return


def test_one_restart_is_one_report() -> None:
    """Each charged restart is reported once as `restarting`, with what is used of the budget."""
    bench = Bench(supervisor("a", ONE_FOR_ONE, 2)).start()
    for used in (1, 2):
        bench.exits("a")
        (report,) = bench.reports("restarting")
        assert (report.extra["used"], report.extra["intensity"], report.extra["period_s"]) == (used, 2, 10.0)


def test_escalate_never_restarts_for_ever() -> None:
    """A supervisor that was told never to escalate outlives its limit, and goes on restarting."""
    spec = replace(supervisor("a b", ONE_FOR_ONE, 1), escalate=Escalate.NEVER)
    bench = Bench(spec).start()
    for _ in range(20):
        assert not gave_up(bench.exits("a"))
    assert bench.incarnations() == {"a": 21, "b": 1}
