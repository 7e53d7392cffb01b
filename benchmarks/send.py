"""
Messages one way, each of them monitored: how many a second, until all are accepted and handled?

Floor: DEALER to ROUTER of bare pyzmq over ipc, the same payload and the same number of processes; nobody is told of
anything. Time a message, so that a ratio of 2.5 is 0.4 of the floor's throughput.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.contenders import Daemon, agent, supervisor, workspace
from benchmarks.measure import Row, Size, Summary, ratio_row
from benchmarks.raw import Raw
from regrow.ipc import Client

PAYLOAD = 64
MANY = 8
MOST = 2.5


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    names = [f"echo.{number}" for number in range(MANY)]
    tables = (
        supervisor("app", ["echo", "driver"])
        + agent("echo", "agents:Echo", MANY)
        + agent("driver", "agents:Driver", MANY)
    )
    rows = []
    with workspace() as directory, Daemon(directory, tables) as daemon, ExitStack() as stack:
        client = stack.enter_context(Client(daemon.run_dir))
        paths = [directory / f"raw{number}" for number in range(MANY)]
        for path in paths:
            stack.enter_context(Raw("server", path))
        many_to_one = [stack.enter_context(Raw("driver", paths[0])) for _ in range(MANY)]
        many_to_many = [stack.enter_context(Raw("driver", path)) for path in paths]
        total = size.of(80_000, 4_000)
        for label, raws, receivers in (
            ("one to one", many_to_one[:1], names[:1]),
            (f"{MANY} to 1", many_to_one, names[:1] * MANY),
            (f"{MANY} to {MANY}", many_to_many, names),
        ):
            sides = (
                partial(floor_s, raws, total),
                partial(regrow_s, client, "sends", receivers, total),
                partial(regrow_s, client, "casts", receivers, total),
            )
            floor, sent, cast = in_turn(sides, size.of(10, 2), total)
            rows.append(ratio_row(f"send, monitored, {label}", "µs each", floor, sent, MOST))
            rows.append(Row(f"cast, {label}", "µs each", floor, cast))
    return rows


def floor_s(raws: list[Raw], total: int) -> float:
    """Seconds for `total` messages, shared out."""
    began_s = time.perf_counter()
    for raw in raws:
        raw.say(f"sends {total // len(raws)} {PAYLOAD}")
    for raw in raws:
        raw.answer()
    return time.perf_counter() - began_s


def regrow_s(client: Client, verb: str, receivers: list[str], total: int) -> float:
    """The same between agents: driver number n sends to the n-th receiver."""
    began_s = time.perf_counter()
    requests = [
        client.send_request(f"driver.{number}", verb, to, total // len(receivers), PAYLOAD)
        for number, to in enumerate(receivers)
    ]
    for request in requests:
        request.wait_response(120.0)
    return time.perf_counter() - began_s


def in_turn(sides: Sequence[Callable[[], float]], rounds: int, total: int) -> list[Summary]:
    """All sides by turns, the first round not counted; µs a message."""
    samples: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for side, taken in zip(sides, samples, strict=True):
            found = side() * 1e6 / total
            if number:
                taken.append(found)
    return [Summary.of(taken) for taken in samples]
