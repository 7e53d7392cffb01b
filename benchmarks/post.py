"""
Posts, from being written until each has taken effect, and is gone: what one takes.

Posters and receiver are processes of their own; a post changes one key. Floor: bare LMDB with the same number of
processes: put in one transaction for each batch, then delete and put in one for each batch. Time a message, so that a
ratio of 2.5 is 0.4 of the floor's rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.keeping import FLOORS, House, keeping
from benchmarks.measure import Row, Size, ratio_row
from benchmarks.raw import Told
from benchmarks.send import in_turn
from regrow.config.spec import Durability
from regrow.ipc import Client

PAYLOAD = 64
MANY = 8
BATCHES = (1, 10, 100, 1000)
MOST = 2.5
SYNCED = 10
"""How many times fewer messages where each batch is synced."""


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    rows = []
    for level in Durability:
        with keeping(level) as house, RawQueue("lmdb", house, FLOORS[level]) as raw, regrow(house) as posting:
            rows.append(from_an_agent(level, house, raw, size))
            for batch in BATCHES:
                for posters in (1, MANY):
                    total = size.of(24_000, 800)
                    if batch == 1 and level is not Durability.PROCESS:
                        total //= SYNCED
                    batch_of = min(batch, total // posters)
                    sides = (partial(raw.run_s, posters, total, batch_of), partial(posting, posters, total, batch_of))
                    floor, ours = in_turn(sides, size.of(7, 2), total)
                    label = f"post, {level}, {posters} to 1, {batch} at once"
                    rows.append(ratio_row(label, "µs each", floor, ours, MOST))
    return rows


def from_an_agent(level: Durability, house: House, raw: RawQueue, size: Size) -> Row:
    """Posts from a handler, each hundred together with a change of its own state."""
    total, batch = size.of(24_000, 800), 100
    with Client(house.run_dir) as client:

        def ours() -> float:
            client.call("ledger", "expect", total)
            began_s = time.perf_counter()
            request = client.send_request("ask", "posts", "ledger", total, batch, PAYLOAD)
            house.heard.next()
            client.call("ledger", "total")
            taken_s = time.perf_counter() - began_s
            request.wait_response(60.0)
            return taken_s

        sides = (partial(raw.run_s, 1, total, batch), ours)
        floor, regrow = in_turn(sides, size.of(7, 2), total)
    return ratio_row(f"post, {level}, agent to agent, {batch} at once", "µs each", floor, regrow, MOST)


class RawQueue:
    """A receiver and `MANY` posters without regrow, as a context manager; `path`: another place than its own."""

    def __init__(self, kind: str, house: House, level: str, path: Path | None = None) -> None:
        self._stack = ExitStack()
        path = path or house.directory / f"{kind}.{level}"
        self.receiver = self._stack.enter_context(Told("raw_queue", kind, path, level))
        self.receiver.ask("listen")
        self._posters = [self._stack.enter_context(Told("raw_queue", kind, path, level)) for _ in range(MANY)]

    def run_s(self, posters: int, total: int, batch: int) -> float:
        """Seconds until `total` messages have taken effect."""
        began_s = time.perf_counter()
        self.receiver.say(f"takes {total} {batch}")
        for number, poster in enumerate(self._posters[:posters]):
            poster.say(f"puts {total // posters} {batch} {PAYLOAD} {number}")
        self.receiver.answer()
        taken_s = time.perf_counter() - began_s
        for poster in self._posters[:posters]:
            poster.answer()
        return taken_s

    def __enter__(self) -> RawQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@contextmanager
def regrow(house: House) -> Iterator[Callable[[int, int, int], float]]:
    """The same with `MANY` clients and the agent `ledger`; yields what takes that long."""
    with ExitStack() as stack:
        client = stack.enter_context(Client(house.run_dir))
        posters = [stack.enter_context(Told("poster", house.run_dir)) for _ in range(MANY)]

        def run_s(count: int, total: int, batch: int) -> float:
            client.call("ledger", "expect", total)
            before = client.call("ledger", "total")
            began_s = time.perf_counter()
            for poster in posters[:count]:
                poster.say(f"posts ledger {total // count} {batch} {PAYLOAD}")
            house.heard.next()
            after = client.call("ledger", "total")  # it answers when the last ones are committed
            taken_s = time.perf_counter() - began_s
            assert after == before + total, f"{after - before} of {total} posts have taken effect"
            for poster in posters[:count]:
                poster.answer()
            return taken_s

        yield run_s
