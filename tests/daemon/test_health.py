"""Liveness, watchdog: a child that lives but does not serve is ended, with the reason, and restarted."""

from __future__ import annotations

from farm import Farm, python, shell


def test_liveness_failing(farm: Farm) -> None:
    """After so many failures in a row: reason liveness, with the number and the last failure."""
    flag = farm.directory / "alive"
    flag.touch()
    probe = {"file": str(flag), "every": "50ms", "timeout": "1s", "failures": 2}
    farm.add("ailing", liveness=probe)
    flag.unlink()
    reason = farm.exited("ailing")
    assert reason["reason"] == "liveness"
    assert "2 checks in a row failed" in reason["text"]
    assert "alive" in reason["text"]
    assert "does not exist" in reason["text"]
    assert farm.entry("ailing")["last_exit"]["reason"] == "liveness"
    assert "2 checks in a row" in farm.why("ailing")
    farm.remove("ailing")


def test_liveness_by_command_that_hangs(farm: Farm) -> None:
    """A check that hangs is a failed check."""
    probe = {"exec": ["tail", "-f", "/dev/null"], "every": "100ms", "timeout": "100ms", "failures": 1}
    farm.add("stuck", liveness=probe)
    reason = farm.exited("stuck")
    assert reason["reason"] == "liveness", reason
    farm.remove("stuck")


def test_liveness_passing(farm: Farm) -> None:
    """Checks that pass change nothing; they are made."""
    counter = farm.directory / "checks"
    probe = {"exec": shell(f"echo >> {counter}"), "every": "50ms", "timeout": "2s", "failures": 1}
    pid = farm.add("well", liveness=probe)
    farm.eventually(lambda: counter.exists() and len(counter.read_text()) > 3)
    assert farm.entry("well")["pid"] == pid
    farm.remove("well")


def test_watchdog_expires(farm: Farm) -> None:
    """A child that shows no progress: reason watchdog with the time, in status and why."""
    farm.add(
        "asleep",
        python("notify('READY=1'); import select; select.select([], [], [])"),
        ready="notify",
        watchdog="200ms",
    )
    reason = farm.exited("asleep")
    assert reason["reason"] == "watchdog"
    assert "0.2 s" in reason["text"]
    assert "no progress shown within 0.2 s" in farm.why("asleep")
    farm.remove("asleep")


def test_watchdog_fed(farm: Farm) -> None:
    """A child that feeds its watchdog lives, until it no longer does; WATCHDOG_USEC and WATCHDOG_PID are set."""
    code = """
import select
assert os.environ["WATCHDOG_USEC"] == "600000", os.environ["WATCHDOG_USEC"]
assert os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
notify("READY=1")
for n in range(12):
    select.select([], [], [], 0.1)
    notify("WATCHDOG=1\\nSTATUS=" + str(n))
select.select([], [], [])
"""
    farm.add("fed", python(code), ready="notify", watchdog="600ms")
    farm.eventually(lambda: farm.entry("fed")["detail"], lambda detail: detail == "11")
    assert farm.entry("fed")["incarnation"] == 1
    assert farm.exited("fed")["reason"] == "watchdog"
    farm.remove("fed")


def test_watchdog_fed_by_a_stranger_does_not_count(farm: Farm) -> None:
    """Only the child's own session feeds it."""
    code = """
import select
notify("READY=1")
if os.fork() == 0:
    os.setsid()
    while True:
        notify("WATCHDOG=1")
        select.select([], [], [], 0.02)
select.select([], [], [])
"""
    farm.add("pretender", python(code), ready="notify", watchdog="300ms")
    assert farm.exited("pretender")["reason"] == "watchdog"
    farm.remove("pretender")


def test_unhealthy_child_is_restarted(farm: Farm) -> None:
    """It counts as a crash: the successor comes."""
    code = "notify('READY=1'); import select; select.select([], [], [])"
    farm.add("again", python(code), under="quick", ready="notify", watchdog="300ms")
    farm.wait("ready", "again", count=2)
    assert farm.entry("again")["last_exit"]["reason"] == "watchdog"
    farm.remove("again", under="quick")
