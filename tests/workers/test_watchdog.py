"""The supervisor hears of an agent as long as it gets on, and of one that hangs no more."""

from __future__ import annotations

import threading
import time

import pytest
from agents import House, Running

from regrow.workers.watchdog import Watchdog

WATCHED = {"WATCHDOG_USEC": "400000"}
TARGETS = pytest.mark.parametrize("target", ["fleet:Worker", "fleet:AsyncWorker"])


def fed(agent: Running, seconds: float) -> int:
    """How often the watchdog is fed in the time that comes."""
    agent.hear_all()
    agent.said.clear()
    threading.Event().wait(seconds)
    agent.hear_all()
    return sum("WATCHDOG" in fields for fields in agent.said)


@TARGETS
def test_idle_agent_is_fed_by_a_timer(house: House, target: str) -> None:
    """At half the time that the supervisor allows, and no more often than that."""
    agent = house.start(target, environ=WATCHED)
    assert 4 <= fed(agent, 1.1) <= 6


def test_without_a_watchdog_nothing_is_said(house: House) -> None:
    """Nobody asked."""
    agent = house.start("fleet:Worker")
    house.call("agent", "works", 0.2, True)
    assert fed(agent, 0.3) == 0


@TARGETS
def test_busy_agent_is_fed_between_messages(house: House, target: str) -> None:
    """An agent that is never idle says that it gets on, though not at every message."""
    agent = house.start(target, environ=WATCHED)
    agent.said.clear()
    end_s = time.monotonic() + 1.1
    count = 0
    while time.monotonic() < end_s:
        house.call("agent", "nothing")
        count += 1
    agent.hear_all()
    assert count > 100
    assert 4 <= sum("WATCHDOG" in fields for fields in agent.said) <= 6


@TARGETS
def test_hanging_handler_is_not_fed(house: House, target: str) -> None:
    """Whatever goes on beside it: nothing ticks for a handler that does not come back."""
    agent = house.start(target, environ=WATCHED)
    working = house.submit("agent", "works", 1.2, False)
    threading.Event().wait(0.1)
    assert fed(agent, 1.0) == 0
    house.outcome(working)
    assert agent.await_said("WATCHDOG", 0.5) == "1"


@TARGETS
def test_progress_in_a_long_handler(house: House, target: str) -> None:
    """`self.progress()` feeds it, and does not flood the supervisor however often it is called."""
    agent = house.start(target, environ=WATCHED)
    working = house.submit("agent", "works", 1.2, True)
    threading.Event().wait(0.1)
    assert 4 <= fed(agent, 1.0) <= 60
    house.outcome(working)


def test_loop_that_goes_round_and_gets_nowhere(house: House) -> None:
    """When every place is taken by a handler that does not come back, an event loop that turns is no progress."""
    agent = house.start("fleet:AsyncWorker", environ=WATCHED)
    one = house.submit("agent", "waits")
    assert fed(agent, 1.0) >= 3
    other = house.submit("agent", "waits")
    threading.Event().wait(0.5)
    assert fed(agent, 1.0) == 0
    assert not one.done
    assert not other.done


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
    ],
)
def test_what_the_supervisor_asks_for(environ: dict[str, str], interval_s: float) -> None:
    """As sd_watchdog_enabled(3) reads it: a time for this process, or none."""
    assert Watchdog(environ).interval_s == interval_s
