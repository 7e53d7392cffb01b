"""
A tree of 500 workers with nothing to do: processor time and wake-ups of regrow's own processes.

Counted twice: by the kernel's accounting, then (where strace is there and may be used) as system calls of the root
and of one supervisor. There is no floor but 0.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time

from benchmarks.contenders import Daemon, agent, command, function, supervisor, workspace
from benchmarks.measure import Row, Size, Summary, most_row
from benchmarks.procs import cpu_ticks, wake_ups
from benchmarks.programs import Announcements, tiny_program

SUPERVISORS, COMMANDS, FUNCTIONS, AGENTS = 10, 43, 5, 2
AT_REST_S = 2.0


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    lasting_s = size.of(20, 2)
    with workspace() as directory:
        heard = Announcements(directory / "fifo")
        program = tiny_program(directory)
        names = [f"s{number}" for number in range(SUPERVISORS)]
        tables = supervisor("app", names) + "".join(
            supervisor(name, [f"{name}c", f"{name}f", f"{name}a"])
            + command(f"{name}c", program, heard.path, COMMANDS)
            + function(f"{name}f", replicas=FUNCTIONS)
            + agent(f"{name}a", "agents:Echo", AGENTS)
            for name in names
        )
        with Daemon(directory, tables) as daemon:
            own = daemon.own_pids() | daemon.pids("agent")
            time.sleep(AT_REST_S)
            return idle_rows(list(own.values()), lasting_s) + strace_rows([daemon.pid, own["s0"]], lasting_s)


def idle_rows(pids: list[int], lasting_s: float) -> list[Row]:
    """Sums over `pids` within `lasting_s`."""
    ticks, woken = used(pids, lasting_s)
    workers = SUPERVISORS * (COMMANDS + FUNCTIONS + AGENTS)
    what = f"of {len(pids)} regrow processes, {workers} idle workers, {lasting_s:g} s"
    return [
        most_row(f"processor time {what}", "ticks", Summary.of([ticks]), 0),
        most_row(f"wake-ups {what}", "", Summary.of([woken]), 0),
    ]


def used(pids: list[int], lasting_s: float) -> tuple[int, int]:
    """(ticks, wake-ups) of all `pids` together while `lasting_s` pass."""
    before = [(cpu_ticks(pid), wake_ups(pid)) for pid in pids]
    time.sleep(lasting_s)
    after = [(cpu_ticks(pid), wake_ups(pid)) for pid in pids]
    changes = list(zip(before, after, strict=True))
    return sum(new[0] - old[0] for old, new in changes), sum(new[1] - old[1] for old, new in changes)


def strace_rows(pids: list[int], lasting_s: float) -> list[Row]:
    """System calls of `pids` within `lasting_s`; none where strace is missing or may not trace."""
    strace = shutil.which("strace")
    if strace is None:
        return []
    targets = [word for pid in pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen([strace, "-c", "-f", *targets], stderr=subprocess.PIPE, text=True)
    try:
        tracer.wait(lasting_s)
    except subprocess.TimeoutExpired:
        tracer.send_signal(signal.SIGINT)
    _, said = tracer.communicate()
    if said.count("attached") < len(pids):
        return []
    total = re.search(r"^\s*100\.00.*?(\d+)(?:\s+\d+)?\s+total$", said, re.MULTILINE)
    calls = int(total.group(1)) if total else 0
    return [most_row(f"system calls of root and a supervisor (strace -c), {lasting_s:g} s", "", Summary.of([calls]), 0)]
