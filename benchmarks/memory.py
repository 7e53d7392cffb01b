"""
Memory that is a process's alone: of each supervisor, each idle function and each idle agent.

Floor: a process forked from a bare Python interpreter that waits, among as many siblings.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.contenders import Daemon, Floor, agent, function, supervisor, workspace
from benchmarks.measure import Row, Size, Summary, most_row
from benchmarks.procs import private_kib

SUPERVISORS, FUNCTIONS, AGENTS = 4, 10, 5
MOST_MIB = 2.0


def measure(_size: Size) -> list[Row]:
    """The rows of this benchmark."""
    names = [f"s{number}" for number in range(SUPERVISORS)]
    tables = supervisor("app", names) + "".join(
        supervisor(name, [f"{name}f", f"{name}a"])
        + function(f"{name}f", replicas=FUNCTIONS)
        + agent(f"{name}a", "agents:Echo", AGENTS)
        for name in names
    )
    with workspace() as directory, Floor("idle", FUNCTIONS) as floor, Daemon(directory, tables) as daemon:
        bare = private_mib(map(int, floor.ask("").split()))
        supervisors = {name: pid for name, pid in daemon.pids("supervisor").items() if name in (*names, "app")}
        functions = {name: pid for name, pid in daemon.pids("function").items() if not name.startswith("regrow.")}
        agents = daemon.pids("agent")
        own = daemon.own_pids()
        return [
            most_row("private memory of a supervisor", "MiB", private_mib(supervisors.values()), MOST_MIB, bare),
            most_row("private memory of an idle function", "MiB", private_mib(functions.values()), MOST_MIB, bare),
            most_row("private memory of an idle agent", "MiB", private_mib(agents.values()), MOST_MIB, bare),
            Row("private memory of the root", "MiB", bare, private_mib([own["root"]])),
            Row("private memory of the logger", "MiB", bare, private_mib([own["regrow.logger"]])),
        ]


def private_mib(pids: Iterable[int]) -> Summary:
    """Of these processes."""
    return Summary.of([private_kib(pid) / 1024 for pid in pids])
