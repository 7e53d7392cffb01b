"""First starts: order, ignore, failure and roll back (scenarios A), all at once where the supervisor says so."""

from __future__ import annotations

from bench import DYNAMIC, ONE_FOR_ALL, Bench, supervisor, worker

from regrow.config.spec import Start
from regrow.daemon.core import events as ev
from regrow.daemon.core.effects import ArmTimer, CancelTimer, Ready, Signal, Spawn


def outcome(bench: Bench) -> str:
    """How the supervisor ended."""
    assert bench.end is not None
    return str(bench.end.outcome)


def test_no_children() -> None:
    """C1: an empty supervisor is ready, and ends when asked."""
    bench = Bench(supervisor("")).start()
    assert len(bench.done(Ready)) == 1
    assert outcome(bench.stop()) == "stopped"


def test_children_start_one_after_the_other() -> None:
    """C2: in list order, each only after the previous one is ready."""
    order = "c7 c3 c10 c2 c5"
    bench = Bench(supervisor(order))
    for child in order.split():
        bench.script(child, "hang")
    bench.start()
    for child in order.split():
        assert list(bench.live)[-1] == child
        assert bench.done(Ready) == []
        bench.feed(bench.ready(child))
    assert bench.said() == [f"start {child}" for child in order.split()]
    assert len(bench.done(Ready)) == 1


def test_temporary_ignore_is_gone() -> None:
    """C6: the spec of a temporary child that ignores is discarded and the start goes on."""
    bench = Bench(supervisor("a:M b:M"))
    bench.script("a", "ignore")
    bench.start()
    assert bench.which() == {"b": "running"}
    assert bench.counts() == [1, 1, 0, 1]


def test_permanent_ignore_stays_undefined() -> None:
    """C7 and S30: a permanent or transient child that ignores keeps its spec."""
    bench = Bench(supervisor("a:P b:P c:T"))
    bench.script("a", "ignore")
    bench.script("c", "ignore")
    bench.start()
    assert bench.which() == {"c": "undefined", "b": "running", "a": "undefined"}
    assert bench.counts() == [3, 1, 0, 3]


def test_start_failure_rolls_back() -> None:
    """S32: those already started are stopped in reverse order, temporary ones too; later ones never start."""
    bench = Bench(supervisor("a b:M c d"))
    bench.script("c", then="fail")
    bench.start()
    assert bench.said() == ["start a", "start b", "fail c", "stop b", "stop a"]
    assert outcome(bench) == "start_failed"
    assert bench.end is not None
    assert bench.end.text.startswith("c could not be started: start_failed, code 1")
    assert bench.done(Ready) == []
    assert bench.state.restarts_s == ()


def test_fork_failure_rolls_back() -> None:
    """A child for which the kernel has no process is a start failure too, with its reason."""
    bench = Bench(supervisor("a b"))
    bench.script("b", "refuse")
    bench.start()
    assert outcome(bench) == "start_failed"
    assert bench.end is not None
    assert "fork: EAGAIN" in bench.end.text


def test_start_timeout_kills() -> None:
    """C13: a child that is not ready in time is killed, and its reason is the time-out."""
    bench = Bench(supervisor([worker("a", ready_s=0.2)]))
    bench.script("a", "hang")
    bench.start()
    assert [(timer.kind, timer.after_s) for timer in bench.done(ArmTimer)] == [("start", 0.2)]
    bench.advance(0.2)
    assert [signal.kind for signal in bench.done(Signal)] == ["kill"]
    (report,) = bench.reports("start_failed")
    assert report.exit is not None
    assert report.exit.reason == "start_timeout"
    assert report.exit.text == "not ready within 0.2 s"
    assert outcome(bench) == "start_failed"


def test_ready_after_the_timeout_comes_too_late() -> None:
    """A child that becomes ready while it is being killed for not being ready stays failed."""
    bench = Bench(supervisor([worker("a", ready_s=1.0)]))
    bench.script("a", "hang")
    bench.kernel.held.add("a")
    bench.start().advance(1.0)
    bench.feed(bench.ready("a"))
    assert bench.state.slots["a"].state == "starting"
    bench.exits("a")
    assert outcome(bench) == "start_failed"


def test_ready_cancels_its_timer() -> None:
    """Every armed timer fires or is cancelled."""
    bench = Bench(supervisor("a")).start()
    assert len(bench.done(ArmTimer)) == len(bench.done(CancelTimer)) == 1
    assert bench.timers == {}


def test_death_during_the_start_waits() -> None:
    """S36: a child that dies while its siblings still start is an ordinary, counted death once all is up."""
    bench = Bench(supervisor("a b"))
    bench.script("b", "hang")
    bench.start()
    bench.exits("a")
    assert bench.state.restarts_s == ()
    bench.feed(bench.ready("b"))
    assert bench.incarnations() == {"a": 2, "b": 1}
    assert len(bench.state.restarts_s) == 1


def test_ignore_then_bad_exit_is_a_failure() -> None:
    """Not being needed is said with exit 0; another exit is a failed start."""
    bench = Bench(supervisor("a"))
    bench.script("a", "hang")
    bench.start()
    bench.feed(ev.ChildIgnored("a", 1))
    bench.exits("a")
    assert outcome(bench) == "start_failed"


def test_ignore_without_exit_ends_at_the_timeout() -> None:
    """Who says that it is not needed and stays is killed when its start time is over, and failed."""
    bench = Bench(supervisor("a"))
    bench.script("a", "hang")
    bench.start()
    bench.feed(ev.ChildIgnored("a", 1))
    bench.feed(bench.ready("a"))
    assert bench.state.slots["a"].state == "starting"
    bench.advance(30.0)
    assert outcome(bench) == "start_failed"


def test_parallel_starts_all_at_once() -> None:
    """Start = "parallel": all processes are made in one step; ready is said when the last is."""
    bench = Bench(supervisor("a b c", start=Start.PARALLEL))
    for child in "abc":
        bench.script(child, "hang")
    bench.start()
    assert [spawn.child for spawn in bench.done(Spawn)] == ["a", "b", "c"]
    bench.feed(bench.ready("c"), bench.ready("a"))
    assert bench.done(Ready) == []
    bench.feed(bench.ready("b"))
    assert len(bench.done(Ready)) == 1


def test_parallel_start_failure_stops_all_at_once() -> None:
    """One failure among parallel starts stops every other, ready or not, and fails the supervisor."""
    bench = Bench(supervisor("a b c", start=Start.PARALLEL))
    for child in "ac":
        bench.script(child, "hang")
    bench.kernel.held.update("ac")
    bench.start()
    bench.exits("a")
    assert [(signal.child, signal.kind) for signal in bench.done(Signal)] == [("c", "stop"), ("b", "stop")]
    assert outcome(bench.exits("c")) == "start_failed"
    assert bench.timers == {}


def test_parallel_fork_failures_are_one_failure() -> None:
    """Several children without a process at once: one failure, no second end."""
    bench = Bench(supervisor("a b c", start=Start.PARALLEL))
    for child in "abc":
        bench.script(child, "refuse")
    assert outcome(bench.start()) == "start_failed"
    assert [report.child for report in bench.reports("start_failed")] == ["a"]
    assert [report.child for report in bench.reports("stopped")] == ["b", "c", ""]


def test_parallel_stops_all_at_once() -> None:
    """Children that start all at once stop all at once."""
    bench = Bench(supervisor("a b c", start=Start.PARALLEL)).start()
    bench.kernel.held.update("abc")
    bench.stop()
    assert [signal.child for signal in bench.done(Signal)] == ["c", "b", "a"]


def test_dynamic_starts_nothing() -> None:
    """S38: a dynamic supervisor is ready without children."""
    bench = Bench(supervisor("", DYNAMIC)).start()
    assert len(bench.done(Ready)) == 1
    assert bench.counts() == [0, 0, 0, 0]


def test_stop_during_the_start() -> None:
    """A stop that comes in the middle of the start stops what there is, in reverse, and ends."""
    bench = Bench(supervisor("a b c", ONE_FOR_ALL))
    bench.script("b", "hang")
    bench.start()
    bench.said()
    assert outcome(bench.stop()) == "stopped"
    assert bench.said() == ["stop a"]
    assert bench.timers == {}
