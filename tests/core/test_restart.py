"""Which exits call for a restart: the whole table, and what a supervisor makes of it (scenarios C23-C32)."""

from __future__ import annotations

import pytest
from bench import (
    CODE_82,
    CRASH,
    KILLED,
    NORMAL,
    PERMANENT,
    SHUTDOWN,
    TEMPORARY,
    TERMED,
    TRANSIENT,
    Bench,
    supervisor,
    worker,
)
from msgspec.structs import replace

from regrow.config.spec import Restart
from regrow.daemon.core import events as ev
from regrow.daemon.core.effects import Signal
from regrow.daemon.core.events import Exit, ExitReason
from regrow.daemon.core.restart import ExitClass, exit_class, known_exit, wants_restart
from regrow.daemon.core.state import Slot

TABLE = {
    (PERMANENT, ExitClass.NORMAL): True,
    (PERMANENT, ExitClass.SHUTDOWN): True,
    (PERMANENT, ExitClass.ABNORMAL): True,
    (TRANSIENT, ExitClass.NORMAL): False,
    (TRANSIENT, ExitClass.SHUTDOWN): False,
    (TRANSIENT, ExitClass.ABNORMAL): True,
    (TEMPORARY, ExitClass.NORMAL): False,
    (TEMPORARY, ExitClass.SHUTDOWN): False,
    (TEMPORARY, ExitClass.ABNORMAL): False,
}
EXITS = {
    "normal": (NORMAL, ExitClass.NORMAL),
    "shutdown": (SHUTDOWN, ExitClass.SHUTDOWN),
    "code_82": (CODE_82, ExitClass.SHUTDOWN),
    "code_1": (CRASH, ExitClass.ABNORMAL),
    "code_255": (Exit(ExitReason.EXIT, code=255), ExitClass.ABNORMAL),
    "killed": (KILLED, ExitClass.ABNORMAL),
    "termed": (TERMED, ExitClass.ABNORMAL),
    "oom": (Exit(ExitReason.OOM, signal=9), ExitClass.ABNORMAL),
    "exception": (Exit(ExitReason.EXCEPTION, code=1), ExitClass.ABNORMAL),
    "watchdog": (Exit(ExitReason.WATCHDOG, signal=9), ExitClass.ABNORMAL),
    "liveness": (Exit(ExitReason.LIVENESS, signal=9), ExitClass.ABNORMAL),
    "memory": (Exit(ExitReason.MEMORY, signal=9), ExitClass.ABNORMAL),
    "normal_but_forced": (Exit(ExitReason.WATCHDOG, code=0), ExitClass.ABNORMAL),
}


@pytest.mark.parametrize(("restart", "exit"), TABLE, ids=str)
def test_table_is_otps(restart: Restart, exit: ExitClass) -> None:
    """Permanent always, transient after abnormal ends only, temporary never (S43-S46)."""
    assert wants_restart(restart, exit) is TABLE[restart, exit]


@pytest.mark.parametrize("name", EXITS)
def test_exit_is_filed_under_its_class(name: str) -> None:
    """Exit 0 is normal, the reserved word is shutdown, everything else is abnormal."""
    exit, expected = EXITS[name]
    assert exit_class(exit, worker("a")) is expected
    assert exit_class(exit, supervisor("")) is expected


def test_normal_exit_of_a_worker_is_its_own_list() -> None:
    """`normal_exit` replaces 0, and may hold even the reserved code."""
    spec = worker("a", normal_exit=(3, 82))
    assert exit_class(Exit(ExitReason.EXIT, code=3), spec) is ExitClass.NORMAL
    assert exit_class(NORMAL, spec) is ExitClass.ABNORMAL
    assert exit_class(CODE_82, spec) is ExitClass.NORMAL


def test_forced_exit_keeps_what_the_kernel_said() -> None:
    """A child that the supervisor killed ended of the supervisor's reason, by the kernel's signal."""
    slot = Slot(worker("a"), forced=Exit(ExitReason.WATCHDOG, text="silent for 30 s"))
    assert known_exit(slot, replace(KILLED, text="last words")) == Exit(
        ExitReason.WATCHDOG, signal=9, text="silent for 30 s; last words"
    )
    assert known_exit(replace(slot, forced=None), KILLED) == KILLED


@pytest.mark.parametrize("exit_name", EXITS)
@pytest.mark.parametrize("restart", Restart)
def test_supervisor_follows_the_table(restart: Restart, exit_name: str) -> None:
    """A child alone: running again, undefined (transient), or gone (temporary) (C23-C31)."""
    exit, kind = EXITS[exit_name]
    bench = Bench(supervisor([worker("a", restart)], intensity=2, period_s=3600.0)).start()
    bench.exits("a", exit=exit)
    if TABLE[restart, kind]:
        assert bench.incarnations() == {"a": 2}
        assert bench.counts() == [1, 1, 0, 1]
    elif restart is TEMPORARY:
        assert bench.which() == {}
        assert bench.counts() == [0, 0, 0, 0]
    else:
        assert bench.which() == {"a": "undefined"}
        assert bench.counts() == [1, 0, 0, 1]


def test_permanent_supervisor_that_shut_down_restarts() -> None:
    """C26: a permanent nested supervisor is back after it ended with shutdown."""
    bench = Bench(supervisor([supervisor("c:M!", name="sub", auto_shutdown="any_significant")])).start()
    bench.kernel.benches["sub"].exits("c", exit=NORMAL)
    assert bench.incarnations() == {"sub": 2}


def test_transient_supervisor_that_shut_down_stays_down() -> None:
    """C27: both times left undefined, restart_child works in between."""
    sub = supervisor("c:M!", name="sub", auto_shutdown="any_significant", restart=TRANSIENT)
    bench = Bench(supervisor([sub])).start()
    for _ in range(2):
        bench.kernel.benches["sub"].exits("c", exit=NORMAL)
        assert bench.which() == {"sub": "undefined"}
        assert bench.call(ev.RestartChild, "sub") == {"pid": bench.state.slots["sub"].pid}
        assert bench.which() == {"sub": "running"}


def test_temporary_supervisor_that_shut_down_is_gone() -> None:
    """C28: the spec is gone each time, and start_child with the same id works."""
    sub = supervisor("c:M!", name="sub", auto_shutdown="any_significant", restart=TEMPORARY)
    bench = Bench(supervisor([sub])).start()
    for _ in range(2):
        bench.kernel.benches["sub"].exits("c", exit=NORMAL)
        assert bench.which() == {}
        assert isinstance(bench.call(ev.StartChild, sub), dict)


def test_ends_without_restart_are_not_counted() -> None:
    """C32: under intensity 0, temporary crashes and normal ends of transient children leave the supervisor alive."""
    bench = Bench(supervisor("a:M b:T", intensity=0)).start()
    for _ in range(3):
        bench.exits("a")
        bench.call(ev.StartChild, worker("a", TEMPORARY))
    bench.exits("b", exit=NORMAL)
    assert bench.end is None
    assert bench.which() == {"a": "running", "b": "undefined"}


def test_stranger_changes_nothing() -> None:
    """C46: the end of what is no child, or of an incarnation that was replaced, is neither charged nor acted upon."""
    bench = Bench(supervisor("a b", intensity=0)).start()
    before = bench.state
    for event in (
        ev.ChildExited("x", 1, CRASH),
        ev.ChildExited("a", 0, CRASH),
        ev.ChildExited("a", 2, CRASH),
        ev.ChildUnhealthy("x", 1, CRASH),
        ev.TimerElapsed(ev.TimerKind.RETRY, "a", 1),
        ev.TimerElapsed(ev.TimerKind.START, "a", 1),
        ev.TimerElapsed(ev.TimerKind.STOP, "a", 1),
        ev.ChildReady("a", 1),
        ev.ChildIgnored("a", 1),
        ev.SpawnFailed("a", 1, CRASH),
        ev.Spawned("a", 1, 99),
        ev.Started(),
    ):
        bench.feed(event)
        assert bench.state == before
        assert bench.effects == []


@pytest.mark.parametrize("reason", [ExitReason.WATCHDOG, ExitReason.LIVENESS, ExitReason.MEMORY])
def test_unhealthy_child_is_killed_and_restarted(reason: ExitReason) -> None:
    """An unhealthy child is killed once; its death carries the supervisor's reason and counts as abnormal."""
    bench = Bench(supervisor("a:T")).start()
    bench.kernel.held.add("a")
    sick = ev.ChildUnhealthy("a", 1, Exit(reason, text="no answer"))
    bench.feed(sick)
    assert [effect.kind for effect in bench.done(Signal)] == ["kill"]
    bench.feed(sick)
    assert bench.effects == []
    bench.exits("a", exit=KILLED)
    (report,) = bench.reports("exited")
    assert report.exit == Exit(reason, signal=9, text="no answer")
    assert bench.incarnations() == {"a": 2}


