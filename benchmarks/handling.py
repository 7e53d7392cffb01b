"""
What one small message costs an agent apart from its transport, and what recording a step costs a supervisor.

Floors: the arguments decoded and the method called, bare; the step of the core alone. Processor time in a loop, so
everything is warm: a message that wakes somebody costs several times as much, see `call`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.contenders import Daemon, agent, supervisor, workspace
from benchmarks.measure import Row, Size, Summary
from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.core.events import Started
from regrow.daemon.core.state import initial
from regrow.daemon.core.supervisor import step
from regrow.daemon.record import Recorder
from regrow.ipc import Client

TREE = SupervisorSpec(name="app", children=(WorkerSpec(name="web", kind=Kind.COMMAND),))


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    rounds, count = size.of(30, 2), size.of(5_000, 20)
    with workspace() as directory:
        tables = supervisor("app", ["handling"]) + agent("handling", "agents:Handling")
        with Daemon(directory, tables) as daemon, Client(daemon.run_dir) as client:
            found = [client.call("handling", "costs", count, timeout=120.0) for _ in range(rounds)]
    bare, by_position, by_name = ([sample[column] * 1e6 for sample in found] for column in range(3))
    alone, recorded = steps(rounds, size.of(100, 5))
    return [
        Row("message handled, arguments by position", "µs", Summary.of(bare), Summary.of(by_position)),
        Row("… by name", "µs", Summary.of(bare), Summary.of(by_name)),
        Row("step of a supervisor, recorded", "µs", Summary.of(alone), Summary.of(recorded)),
    ]


def steps(rounds: int, count: int) -> tuple[list[float], list[float]]:
    """µs of a step, and of one that is recorded, in each round."""
    state, recorder = initial(TREE), Recorder("app", lambda line: None)

    def alone() -> None:
        step(state, Started(), 1.0)

    def recorded() -> None:
        after, effects = step(state, Started(), 1.0)
        recorder.step(state, Started(), 1.0, after, effects)

    taken = [(each_us(alone, count), each_us(recorded, count)) for _ in range(rounds)]
    return [first for first, _ in taken], [second for _, second in taken]


def each_us(call: Callable[[], None], count: int) -> float:
    """Processor time of one call, of `count`, in µs."""
    began_s = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - began_s) / count * 1e6
