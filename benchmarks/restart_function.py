"""
A function is killed: how long until its successor runs its first line? An agent: until its `init` runs?

Floor: a single-threaded loop that waits on a pidfd, forks, and whose child writes at once. Both sides run the same
user code. `preloaded` has the user's module imported in the supervisor (`preload`); else each successor imports it.
`spare` has `standby = 1`, and is killed when a spare is ready: that is the successor then.
The agents have their mailbox by then; others find them right after.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from benchmarks.contenders import (
    STANDBY,
    UNLIMITED,
    Daemon,
    Floor,
    agent,
    await_spare,
    function,
    supervisor,
    workspace,
)
from benchmarks.measure import Row, Sample, Size, interleave, ratio_row
from benchmarks.programs import Announcements


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    with workspace() as directory:
        kinds = ("floor", "function", "preloaded", "spare", "agent", "preloaded_agent", "spare_agent")
        heard = {kind: Announcements(directory / f"{kind}.fifo") for kind in kinds}
        tables = (
            supervisor("app", ["plain", "preloading", "agents", "preloading_agents"], UNLIMITED)
            + supervisor("plain", ["function", "spare"], UNLIMITED)
            + supervisor("preloading", ["preloaded"], UNLIMITED, 'preload = ["worker"]')
            + supervisor("agents", ["agent", "spare_agent"], UNLIMITED)
            + supervisor("preloading_agents", ["preloaded_agent"], UNLIMITED, 'preload = ["agents"]')
            + function("function", heard["function"].path)
            + function("preloaded", heard["preloaded"].path)
            + function("spare", heard["spare"].path)
            + STANDBY
            + agent("agent", "agents:Announcing", args=f'{{ fifo = "{heard["agent"].path}" }}')
            + agent("preloaded_agent", "agents:Announcing", args=f'{{ fifo = "{heard["preloaded_agent"].path}" }}')
            + agent("spare_agent", "agents:Announcing", args=f'{{ fifo = "{heard["spare_agent"].path}" }}')
            + STANDBY
        )
        with Floor("fork", heard["floor"].path), Daemon(directory, tables) as daemon:
            contenders = {kind: killing(heard[kind], ready_for(daemon, kind)) for kind in kinds}
            found = interleave(contenders, size.of(400, 20), warm_up=size.of(20, 3))
    return [
        ratio_row("function killed → successor's first line", "µs", found["floor"], found["function"], 2, 3),
        ratio_row("… with its module preloaded", "µs", found["floor"], found["preloaded"], 2, 3),
        ratio_row("… taken over by a spare", "µs", found["floor"], found["spare"], 2, 3),
        ratio_row("agent killed → successor's init", "µs", found["floor"], found["agent"], 2, 3),
        ratio_row("… with its module preloaded", "µs", found["floor"], found["preloaded_agent"], 2, 3),
        ratio_row("… taken over by a spare", "µs", found["floor"], found["spare_agent"], 2, 3),
    ]


def ready_for(daemon: Daemon, kind: str) -> Callable[[], None]:
    """Waits until what is to be killed next has a spare, where it has any."""

    def wait() -> None:
        if kind.startswith("spare"):
            await_spare(daemon, kind)

    return wait


def killing(heard: Announcements, ready: Callable[[], None]) -> Sample:
    """Kill the process that announced itself last; the sample is the time to the next announcement, in µs."""
    latest = heard.next()

    def sample() -> float:
        ready()
        began_s = time.perf_counter()
        os.kill(latest[0], signal.SIGKILL)
        latest[:] = heard.next()
        return (time.perf_counter() - began_s) * 1e6

    return sample
