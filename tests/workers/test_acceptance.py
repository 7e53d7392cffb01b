"""Messages are taken in while a handler computes, and an agent with nothing to do does nothing."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from agents import House

from regrow.workers.doorkeeper import TICK_S, TICKS_UNTIL_PARKED, Doorkeeper


def switches(pid: int) -> int:
    """How often the process's threads have given up the processor by themselves: each system call that waits is one."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                count += int(line.split()[1])
    return count


def processor_ticks(pid: int) -> int:
    """The processor time of the process so far, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pause(seconds: float) -> None:
    """Let the agent's time pass: that nothing happens is the point."""
    threading.Event().wait(seconds)


@pytest.mark.parametrize("target", ["fleet:Pricer", "fleet:Waiter"])
def test_idle_agent_does_nothing(house: House, target: str) -> None:
    """Parked, an agent is not woken once, and spends no time; neither before its first message nor after some."""
    agent = house.start(target, "agent")
    for message in ("computes", None):
        pause(2 * TICKS_UNTIL_PARKED * TICK_S + 0.1)
        before = switches(agent.pid), processor_ticks(agent.pid)
        pause(1.0)
        assert (switches(agent.pid), processor_ticks(agent.pid)) == before
        if message:
            house.call("agent", message, 0.05)


@pytest.mark.parametrize("target", ["fleet:Pricer", "fleet:Waiter"])
def test_accepted_while_a_handler_computes(house: House, target: str) -> None:
    """A handler that never lets go of the interpreter by itself keeps no sender waiting."""
    house.start(target, "agent")
    house.call("agent", "computes", 0.0)
    computing = house.submit("agent", "computes", 1.5)
    waits_s = []
    for _ in range(100):
        start_s = time.monotonic()
        house.send("agent", "computes", 0.0)
        waits_s.append(time.monotonic() - start_s)
    assert not computing.done
    assert sorted(waits_s)[95] < 0.05
    assert max(waits_s) < 0.25  # the machine may be busy
    house.outcome(computing)
    assert house.call("agent", "computes", 0.0) in (None, 0, 1)


def test_handler_that_computes_keeps_its_time(house: House) -> None:
    """While nothing comes, being minded costs a computing handler next to nothing."""
    agent = house.start("fleet:Pricer", "agent")
    computing = house.submit("agent", "computes", 1.0)
    pause(0.2)
    before = switches(agent.pid)
    pause(0.5)
    assert switches(agent.pid) - before < 20
    house.outcome(computing)


class FakeDoor:
    """Counts who attends to it, and lets them go when it is told."""

    def __init__(self) -> None:
        self.attended = threading.Event()
        self._woken = threading.Event()
        self.times = 0

    def attend(self, still: object) -> None:
        self.times += 1
        self.attended.set()
        assert callable(still)
        while still():
            self._woken.wait(5.0)
            self._woken.clear()

    def wake(self) -> None:
        self._woken.set()


def test_doorkeeper_minds_only_what_takes_long() -> None:
    """Short tasks leave the door alone; a long one has it attended until it is done; the thread ends at the end."""
    door, relieved = FakeDoor(), threading.Event()
    keeper = Doorkeeper(door, lambda: None, relieved.set)
    for _ in range(100):
        keeper.task = object()
        if keeper.is_parked:
            keeper.unpark()
        keeper.task = None
    assert door.times == 0
    keeper.task = object()
    assert door.attended.wait(5.0)
    assert keeper.is_helping
    keeper.task = None
    door.wake()
    assert relieved.wait(5.0)
    threads = threading.active_count()
    keeper.close()
    assert threading.active_count() == threads - 1


def test_doorkeeper_that_was_never_needed() -> None:
    """Without a message there is no thread."""
    threads = threading.active_count()
    keeper = Doorkeeper(FakeDoor(), lambda: None, lambda: None)
    assert threading.active_count() == threads
    keeper.close()


def test_doorkeeper_wakes_up_when_it_is_needed_again() -> None:
    """Parked after a while without tasks, it comes back for the next long one."""
    door = FakeDoor()
    keeper = Doorkeeper(door, lambda: None, lambda: None)
    for _ in range(3):
        keeper.task = object()
        if keeper.is_parked:
            keeper.unpark()
        assert door.attended.wait(5.0)
        door.attended.clear()
        keeper.task = None
        door.wake()
        deadline_s = time.monotonic() + 5.0
        while not keeper.is_parked:
            assert time.monotonic() < deadline_s
            os.sched_yield()
    keeper.close()
