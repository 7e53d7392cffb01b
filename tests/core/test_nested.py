"""Supervisors under supervisors (S111-S116, scenarios L), each running the real `step`."""

from __future__ import annotations

from bench import KILLED, NORMAL, ONE_FOR_ALL, REST_FOR_ONE, TRANSIENT, Bench, supervisor, worker

from regrow.daemon.core import events as ev


def test_tree() -> None:
    """C129: dynamic children are lost with their supervisor, static ones come back, by the real escalation."""
    top = supervisor(
        [
            supervisor("c1 c2", name="s1"),
            supervisor("", name="s2", intensity=2),
            supervisor("", name="s3", restart=TRANSIENT),
        ],
        ONE_FOR_ALL, 4, 3600.0,
    )  # fmt: skip
    bench = Bench(top).start()
    bench.call(ev.TerminateChild, "s3")
    lower = bench.kernel.benches["s2"]
    lower.script("c3", "ready", then="fail")
    lower.call(ev.StartChild, worker("c3"))
    lower.call(ev.StartChild, worker("c4"))
    lower.exits("c4")
    assert lower.incarnations() == {"c3": 1, "c4": 2}
    assert bench.incarnations() == {"s1": 1, "s2": 1}
    lower.exits("c3")
    assert bench.incarnations() == {"s1": 2, "s2": 2, "s3": 2}
    assert bench.kernel.benches["s2"].which() == {}
    assert bench.kernel.benches["s1"].which() == {"c2": "running", "c1": "running"}


def test_failing_start_adds_up() -> None:
    """C132 (S114): two failed starts below, then three failed starts of the supervisor itself: five."""
    bench = Bench(supervisor([supervisor("w", name="sub", intensity=2, period_s=60.0)], intensity=3, period_s=60.0))
    bench.start()
    bench.said()
    bench.script("w", then="fail")
    bench.kernel.benches["sub"].exits("w")
    assert bench.said() == ["fail w"] * 5
    assert bench.end is not None
    assert bench.end.outcome == "gave_up"


def test_crashes_multiply() -> None:
    """S113: a worker that always starts and always crashes: (1+1) * (1+1) starts under two levels of 1."""
    bench = Bench(supervisor([supervisor("w", name="sub", intensity=1)], intensity=1)).start()
    starts = 1
    while bench.end is None:
        bench.kernel.benches["sub"].exits("w")
        starts = bench.kernel.log.count("start w")
    assert starts == 4


def test_batch_stops_a_whole_subtree() -> None:
    """C133 (S116): z, then y and x inside sub, sub itself before a is started; then a x y z."""
    bench = Bench(supervisor([worker("a"), supervisor("x y", name="sub"), worker("z")], REST_FOR_ONE)).start()
    bench.said()
    bench.exits("a")
    assert bench.said() == ["stop z", "stop y", "stop x", "start a", "start x", "start y", "start z"]
    assert bench.incarnations() == {"a": 2, "sub": 2, "z": 2}


def test_killed_supervisor_comes_back_with_its_list() -> None:
    """C134 (S108): its child died with it before it is started again."""
    bench = Bench(supervisor([supervisor("w", name="sub")])).start()
    below = bench.kernel.benches["sub"]
    below.vanish()
    bench.exits("sub", exit=KILLED)
    assert bench.kernel.benches["sub"] is not below
    assert bench.kernel.benches["sub"].which() == {"w": "running"}


def test_restarted_supervisor_has_its_static_list() -> None:
    """C178 (S111): what was added is gone, what was deleted is back."""
    bench = Bench(supervisor([supervisor("x y", name="sub", intensity=0)], intensity=5)).start()
    below = bench.kernel.benches["sub"]
    below.call(ev.TerminateChild, "y")
    below.call(ev.DeleteChild, "y")
    below.call(ev.StartChild, worker("d"))
    below.exits("x")
    assert bench.kernel.benches["sub"].which() == {"y": "running", "x": "running"}


def test_stop_goes_through_the_tree() -> None:
    """C179: b, then y and x inside sub, sub itself, then a."""
    bench = Bench(supervisor([worker("a"), supervisor("x y", name="sub"), worker("b")])).start()
    bench.said()
    bench.stop()
    assert bench.said() == ["stop b", "stop y", "stop x", "stop a"]
    assert bench.end is not None


def test_permanent_supervisor_that_shuts_itself_down() -> None:
    """C180 (S126): it is restarted, charged, and its parent gives up; c was started exactly twice."""
    below = supervisor("c:M!", name="sub", auto_shutdown="any_significant")
    bench = Bench(supervisor([below], intensity=1)).start()
    for _ in range(2):
        bench.kernel.benches["sub"].exits("c", exit=NORMAL)
    assert bench.end is not None
    assert bench.end.outcome == "gave_up"
    assert bench.said() == ["start c", "start c"]


def test_transient_supervisor_that_gave_up_stays_down() -> None:
    """S115: giving up is shutdown, which a transient child is not restarted after."""
    bench = Bench(supervisor([supervisor("w", name="sub", intensity=0, restart=TRANSIENT), worker("a")])).start()
    bench.kernel.benches["sub"].exits("w")
    assert bench.which() == {"a": "running", "sub": "undefined"}


def test_failed_first_start_goes_up() -> None:
    """S32 through two levels: what was started is stopped, and the top fails with the innermost reason's supervisor."""
    bench = Bench(supervisor([worker("a"), supervisor("x y", name="sub")]))
    bench.script("y", then="fail")
    bench.start()
    assert bench.said() == ["start a", "start x", "fail y", "stop x", "stop a"]
    assert bench.end is not None
    assert bench.end.outcome == "start_failed"
