"""How children are stopped, and a supervisor's own end (S90-S105, scenarios G)."""

from __future__ import annotations

from bench import DYNAMIC, NORMAL, ONE_FOR_ALL, ONE_FOR_ONE, REST_FOR_ONE, Backoff, Bench, supervisor, within, worker

from regrow.config.spec import BRUTAL_KILL, WAIT_FOREVER, Shutdown
from regrow.daemon.core import events as ev
from regrow.daemon.core.effects import ArmTimer, Signal


def signals(bench: Bench) -> list[tuple[str, str]]:
    """Return the signals sent since the last event, in order."""
    return [(signal.child, str(signal.kind)) for signal in bench.done(Signal)]


def alone(shutdown: Shutdown) -> Bench:
    """One child that does not die of its stop signal."""
    bench = Bench(supervisor([worker("a", shutdown=shutdown)])).start()
    bench.kernel.held.add("a")
    return bench


def test_reverse_start_order() -> None:
    """C70: last started, first stopped, in every static strategy."""
    for strategy in (ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE):
        bench = Bench(supervisor("c7 c3 c10 c2 c5", strategy)).start()
        bench.said()
        bench.stop()
        assert bench.said() == ["stop c5", "stop c2", "stop c10", "stop c3", "stop c7"]
        assert bench.end is not None
        assert bench.end.outcome == "stopped"


def test_one_after_the_other() -> None:
    """C71: the next gets its signal only when the one before it is dead."""
    bench = Bench(supervisor("a b c")).start()
    bench.kernel.held.update("abc")
    for child in "cba":
        bench.stop() if child == "c" else None
        assert signals(bench) == [(child, "stop")]
        assert bench.end is None
        bench.exits(child, exit=NORMAL)
    assert bench.end is not None


def test_stop_timeout_kills() -> None:
    """C72 and S92: asked, killed when the time is over, the next one gracefully."""
    bench = Bench(supervisor([worker("a", shutdown=within(1.0)), worker("b", shutdown=within(1.0))])).start()
    bench.kernel.stubborn.add("b")
    bench.said()
    bench.stop()
    bench.advance(0.99)
    assert bench.said() == []
    bench.advance(0.01)
    assert bench.said() == ["kill b", "stop a"]
    assert bench.timers == {}


def test_brutal_kill_does_not_ask() -> None:
    """C73 and S95."""
    bench = Bench(supervisor([worker("a"), worker("b", shutdown=BRUTAL_KILL)])).start()
    bench.said()
    bench.stop()
    assert bench.said() == ["kill b", "stop a"]


def test_infinity_waits_for_ever() -> None:
    """C74 and S94: no timer, no kill."""
    bench = alone(WAIT_FOREVER).stop()
    assert signals(bench) == [("a", "stop")]
    assert bench.done(ArmTimer) == []
    bench.advance(1e6)
    assert signals(bench) == []
    assert bench.end is None


def test_shutdown_0_asks_and_kills() -> None:
    """C80 and S93: the stop signal is sent, and the kill follows at once."""
    bench = alone(within(0.0))
    bench.begin(ev.TerminateChild, "a")
    assert signals(bench) == [("a", "stop"), ("a", "kill")]


def test_stop_timer_is_cancelled() -> None:
    """A child that stops in time leaves no timer."""
    bench = alone(within(5.0)).stop()
    assert len(bench.timers) == 1
    bench.exits("a", exit=NORMAL)
    assert bench.timers == {}


def test_dead_sibling_is_not_signalled() -> None:
    """S100: who died by itself before its turn is not asked to stop, and its true reason is told."""
    bench = Bench(supervisor("a b")).start()
    bench.kernel.held.add("b")
    bench.stop()
    bench.exits("a")
    (report,) = bench.reports("exited")
    assert report.exit is not None
    assert (report.child, report.exit.code) == ("a", 1)
    bench.exits("b")
    assert signals(bench) == []
    assert bench.end is not None


def test_stop_cancels_a_waiting_restart() -> None:
    """S101: slots without a process need nothing; their timers are cancelled."""
    bench = Bench(supervisor("a b", backoff=Backoff(first_s=5.0))).start()
    bench.exits("a")
    bench.stop()
    assert bench.end is not None
    assert bench.timers == {}


def test_start_that_fails_while_stopping_is_over() -> None:
    """A child whose restart fails while its supervisor is stopping is down: no retry is armed, nothing is charged."""
    bench = Bench(supervisor("a b", backoff=Backoff())).start()
    bench.script("a", "hang")
    bench.exits("a").advance(1.0)
    bench.kernel.held.add("b")
    bench.stop()
    bench.exits("a")
    assert bench.done(ArmTimer) == []
    bench.exits("b")
    assert bench.end is not None
    assert bench.timers == {}


def test_now_skips_the_asking() -> None:
    """A stop `now` kills everything at once."""
    bench = Bench(supervisor("a b")).start()
    bench.kernel.held.update("ab")
    assert signals(bench.stop(now=True)) == [("b", "kill"), ("a", "kill")]


def test_now_overtakes_an_orderly_stop() -> None:
    """A second stop, `now`, kills what is being stopped and what would have come later."""
    bench = Bench(supervisor("a b")).start()
    bench.kernel.held.update("ab")
    bench.stop()
    assert signals(bench.stop(now=True)) == [("b", "kill"), ("a", "kill")]
    assert signals(bench.stop(now=True)) == []


def test_dynamic_stops_all_at_once() -> None:
    """C114, C115, C123 (S91): all are signalled in one step, each by its own shutdown."""
    bench = Bench(supervisor("", DYNAMIC)).start()
    for name, shutdown in (("a", WAIT_FOREVER), ("b", BRUTAL_KILL), ("c", within(0.001))):
        bench.call(ev.StartChild, worker(name, shutdown=shutdown))
    bench.kernel.held.update("abc")
    assert signals(bench.stop()) == [("c", "stop"), ("b", "kill"), ("a", "stop")]
    bench.advance(0.001)
    assert signals(bench) == [("c", "kill")]
    bench.exits("a", "b", "c")
    assert bench.end is not None


def test_stop_interrupts_a_batch() -> None:
    """S104: a stop that comes in the middle of a batch restart turns it into the end."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL)).start()
    bench.kernel.held.add("c")
    bench.exits("a")
    bench.said()
    bench.stop()
    assert signals(bench) == []
    bench.exits("c")
    assert bench.said() == ["stop b"]
    assert bench.end is not None
    assert bench.end.outcome == "stopped"


def test_end_is_said_once() -> None:
    """Nothing but refusals follows the end."""
    bench = Bench(supervisor("a")).start().stop()
    for event in (ev.StopRequested(), ev.StopRequested(now=True), ev.Started(), ev.ChildExited("a", 1, NORMAL)):
        assert bench.feed(event).effects == []
