"""
One tree with 100 children, then with 1,000: what grows, and how. The column `floor` is the tree of 100.
"""

from __future__ import annotations

import time

from benchmarks.contenders import Daemon, command, supervisor, workspace
from benchmarks.idle import AT_REST_S, used
from benchmarks.measure import Row, Size, Summary, timed_ms
from benchmarks.procs import descriptors, private_kib
from benchmarks.programs import Announcements, tiny_program
from benchmarks.status import run_ms, status_line

FEW, MANY = 100, 1000


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    few, many = figures(FEW, size), figures(MANY, size)
    return [
        Row(f"{MANY} against {FEW} children: {name}", unit, few[name, unit], many[name, unit]) for name, unit in many
    ]


def figures(count: int, size: Size) -> dict[tuple[str, str], Summary]:
    """What a tree of `count` commands takes, by (what, unit)."""
    with workspace() as directory:
        heard = Announcements(directory / "fifo")
        tables = supervisor("app", ["many"]) + supervisor("many", ["one"], 'start = "parallel"')
        tables += command("one", tiny_program(directory), heard.path, count)
        began_s = time.perf_counter()
        with Daemon(directory, tables) as daemon:
            up_ms = (time.perf_counter() - began_s) * 1e3
            found = {("regrow up until all ready", "ms"): Summary.of([up_ms])}
            found.update(start_and_stop(daemon, heard, count, size))
            found.update(looking(daemon, size))
            found.update(resting(daemon, size))
        return found


def start_and_stop(
    daemon: Daemon, heard: Announcements, count: int, size: Size
) -> dict[tuple[str, str], Summary]:
    """Requests to stop and to start the supervisor of all."""
    starts, stops = [], []
    for _ in range(size.of(7, 2)):
        heard.next(count)
        stops.append(timed_ms(lambda: daemon.call("stop", names=["many"], timeout_s=60.0)))
        starts.append(timed_ms(lambda: daemon.call("start", names=["many"], timeout_s=60.0)))
    heard.next(count)
    return {("start", "ms"): Summary.of(starts), ("stop", "ms"): Summary.of(stops)}


def looking(daemon: Daemon, size: Size) -> dict[tuple[str, str], Summary]:
    """Status, on the socket and as a command."""
    rounds = range(size.of(20, 2))
    return {
        ("status, on the control socket", "ms"): Summary.of([timed_ms(lambda: daemon.call("status")) for _ in rounds]),
        ("regrow status", "ms"): Summary.of([run_ms(status_line(daemon.run_dir)) for _ in rounds]),
    }


def resting(daemon: Daemon, size: Size) -> dict[tuple[str, str], Summary]:
    """What the tree takes while nothing happens."""
    own = daemon.own_pids()
    time.sleep(AT_REST_S)
    lasting_s = size.of(20, 2)
    ticks, woken = used(list(own.values()), lasting_s)
    mib = {name: private_kib(own[who]) / 1024 for name, who in (("root", "root"), ("supervisor", "many"))}
    return {
        (f"idle processor time in {lasting_s} s", "ticks"): Summary.of([ticks]),
        (f"idle wake-ups in {lasting_s} s", ""): Summary.of([woken]),
        ("private memory of the root", "MiB"): Summary.of([mib["root"]]),
        ("private memory of the supervisor", "MiB"): Summary.of([mib["supervisor"]]),
        ("private memory of the logger", "MiB"): Summary.of([private_kib(own["regrow.logger"]) / 1024]),
        ("descriptors of the root", ""): Summary.of([descriptors(own["root"])]),
        ("descriptors of the supervisor", ""): Summary.of([descriptors(own["many"])]),
    }

