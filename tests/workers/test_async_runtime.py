"""Agents with an event loop: handlers that take turns."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from agents import House

from regrow.ipc.delivery import Pending
from regrow.ipc.errors import NoProcess, ProcessDown, Refused, RemoteError


def waiting(house: House, count: int) -> list[Pending]:
    """So many handlers that wait for their gates, all of them begun."""
    begun = [house.submit("agent", "wait", f"gate {number}") for number in range(count)]
    while house.call("agent", "inside_now")[0] < count:
        pass
    return begun


def test_async_and_plain_handlers(house: House) -> None:
    """Both kinds answer; an async `init` has run before the first message."""
    agent = house.start("fleet:Waiter", args={"greeting": "hi"})
    house.call("agent", "open", "a")
    assert house.call("agent", "wait", "a") == "hi a"
    assert house.call("agent", "inside_now") == [0, 1]
    assert agent.stop() == 0
    assert agent.printed() == "terminate(shutdown)\n"


def test_handlers_take_turns(house: House) -> None:
    """While two wait, a third opens their gates; the answers come in the order of their ends."""
    house.start("fleet:Waiter")
    first, second = waiting(house, 2)
    house.call("agent", "open", "gate 1")
    assert house.outcome(second) == "hello gate 1"
    assert not first.done
    house.call("agent", "open", "gate 0")
    assert house.outcome(first) == "hello gate 0"


def test_no_more_than_concurrency(house: House) -> None:
    """With every place taken, further messages wait in the mailbox, accepted."""
    house.start("fleet:Waiter")
    begun = waiting(house, 2)
    third = house.submit("agent", "wait", "gate 0")
    house.send("agent", "open", "gate 1")
    opened = house.submit("agent", "open", "gate 0")
    with pytest.raises(AssertionError, match="no outcome"):
        house.outcome(opened, 0.2)
    assert not any(pending.done for pending in [*begun, third])


def test_one_at_a_time_by_default(house: House) -> None:
    """`concurrency` is 1 unless the class says more: then nothing overlaps, and the order is kept (S195)."""
    house.start("fleet:OneByOne")
    steps = [house.submit("agent", "step", number) for number in range(20)]
    assert [house.outcome(pending) for pending in steps] == [[number, 1] for number in range(20)]


def key_to(house: House, gate: str) -> Path:
    """A fifo that opens a gate of `agent` when something is written into it."""
    fifo = house.folder / "key"
    os.mkfifo(fifo)
    house.call("agent", "open_by", gate, str(fifo))
    return fifo


def test_stop_waits_for_all_that_run(house: House) -> None:
    """Handlers under way finish and are answered, what waits is refused, `terminate` runs last."""
    agent = house.start("fleet:Waiter")
    fifo = key_to(house, "gate 0")
    first, second = house.submit("agent", "wait", "gate 0"), house.submit("agent", "wait", "gate 0")
    while house.call("agent", "inside_now")[0] < 2:
        pass
    agent.signal(signal.SIGTERM)
    agent.await_said("STOPPING")
    fifo.write_text("open")
    assert agent.wait() == 0
    assert [house.outcome(pending) for pending in (first, second)] == ["hello gate 0"] * 2
    assert agent.printed() == "terminate(shutdown)\n"


def test_refused_while_the_rest_finishes(house: House) -> None:
    """What comes after the stop has begun is refused at once, though handlers still run."""
    agent = house.start("fleet:Waiter")
    fifo = key_to(house, "gate 0")
    first = house.submit("agent", "wait", "gate 0")
    last = house.submit("agent", "ends")
    agent.await_said("STOPPING")
    with pytest.raises((Refused, NoProcess, ProcessDown)):
        house.call("agent", "inside_now")
    fifo.write_text("open")
    assert house.outcome(first) == "hello gate 0"
    assert house.outcome(last) == "the last word"
    assert agent.wait() == 0


def test_reply_of_the_call_that_stops(house: House) -> None:
    """It comes after `terminate` (S193)."""
    agent = house.start("fleet:Waiter")
    assert house.call("agent", "ends") == "the last word"
    assert agent.wait() == 0
    assert agent.printed() == "terminate(normal)\n"


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        ("crashes", "ValueError: the rates are gone"),
        ("crashes_plainly", "ValueError: the rates are gone"),
        ("cancels_itself", "RuntimeError: a handler was cancelled"),
        ("crashes_in_a_group", "ValueError: the task is gone"),
        ("crashes_later", "ValueError: too late"),
    ],
)
def test_crash_of_one_is_the_crash_of_all(house: House, handler: str, text: str) -> None:
    """An exception ends the agent, whatever else is under way; callers learn it by the death."""
    agent = house.start("fleet:Waiter")
    (other,) = waiting(house, 1)
    house.submit("agent", handler)
    for pending in (house.submit("agent", "wait", "for ever"), other):
        with pytest.raises(ProcessDown):
            house.outcome(pending)
    assert agent.wait() == 1
    (told,) = [fields["X_REGROW_EXCEPTION"] for fields in agent.said if "X_REGROW_EXCEPTION" in fields]
    assert text in told
    assert "terminate(" not in agent.printed()


def test_exception_for_the_caller(house: House) -> None:
    """`replies` holds for async handlers too."""
    house.start("fleet:Waiter")
    with pytest.raises(RemoteError) as raised:
        house.call("agent", "lacks", "A1")
    assert raised.value.type == "KeyError"


@pytest.mark.parametrize(("code", "status"), [(0, 0), (82, 82), (3, 3)])
def test_sys_exit(house: House, code: int, status: int) -> None:
    """An orderly end, as without a loop."""
    agent = house.start("fleet:Waiter")
    with pytest.raises(ProcessDown):
        house.call("agent", "exits", code)
    assert agent.wait() == status
    assert "terminate(" in agent.printed()


def test_tasks_left_behind_are_cancelled(house: House) -> None:
    """What the agent has begun by itself is cancelled after `terminate`, and may clean up."""
    agent = house.start("fleet:Waiter")
    house.call("agent", "begins_a_task")
    assert agent.stop() == 0
    assert agent.printed() == "terminate(shutdown)\ncleaned up\n"


def test_calls_of_handlers_take_turns(house: House) -> None:
    """While one handler awaits another agent's answer, the next ones run; each call carries its own chain."""
    house.start("fleet:Waiter", "far")
    house.start("fleet:Relay", "relay")
    house.start("fleet:Link", "link")
    pending = house.submit("relay", "ask", "far", "wait", ["gate"])
    assert house.call("relay", "ask", "far", "inside_now", []) in ([0, 0], [1, 1])
    assert house.call("relay", "ask", "link", "chain", []) == ["relay", "link"]
    assert house.call("link", "ask_chain", ["relay"]) == ["link", "relay"]
    house.call("far", "open", "gate")
    assert house.outcome(pending) == "hello gate"


def test_two_async_agents_may_call_each_other(house: House) -> None:
    """With room for another handler, what would be a circle of waiting agents is none."""
    for name in ("one", "two"):
        house.start("fleet:Relay", name)
    assert house.call("one", "there_and_back", "two") == ["one", "two", "one"]


def test_hooks_of_async_agents(house: House) -> None:
    """Deaths reach `on_down`, here an async one."""
    house.start("fleet:Relay", "relay")
    far = house.start("fleet:Waiter", "far")
    house.call("relay", "watch", "far")
    far.stop()
    seen: Any = None
    while not seen:
        seen = house.call("relay", "seen")
    assert seen == ["far"]
