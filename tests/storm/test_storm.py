"""A short storm of calls; `python -m tests.storm` is the long one."""

from __future__ import annotations

import os
import time

import pytest
from callstorm import Said, Storm, faults
from tree import short_directory

MESSAGES = int(os.environ.get("REGROW_STORM_CALLS") or 6_000)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_outcomes_add_up() -> None:
    """While agents are killed, each message has one outcome, which fits what handlers did; none is late or double."""
    seed = int(os.environ.get("REGROW_STORM_SEED") or time.time_ns() % 1_000_000)
    print(f"REGROW_STORM_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    with short_directory() as directory:
        storm = Storm(directory, seed, agents=6, clients=3)
        try:
            report = storm.run(MESSAGES, 20.0)
        finally:
            storm.dispose()
    assert sum(report.outcomes.values()) == report.messages == MESSAGES
    assert report.kills > 0
    assert report.outcomes["call reply"] > MESSAGES // 10
    assert report.outcomes["send accepted"] > MESSAGES // 10


LAST = {"a": 3}
A2, A3, B2 = ("a", 2), ("a", 3), ("b", 2)


@pytest.mark.parametrize(
    ("outcome", "incarnation", "took_s", "where", "expected"),
    [
        ("reply", 2, 0.1, [A2], []),
        ("accepted", 2, 0.1, [A2], []),
        ("accepted", 2, 0.1, [], []),
        ("down", 2, 0.1, [A2], []),
        ("down", 2, 0.1, [], []),
        ("CallTimeout", 2, 3.1, [A2], []),
        ("NoProcess", 0, 0.1, [], []),
        ("wrong ['b', 2]", 2, 0.1, [A2], ["an answer of, or to, somebody else"]),
        ("reply", 2, 0.1, [A2, A2], ["handled more than once"]),
        ("accepted", 2, 0.1, [A2, A3], ["handled more than once"]),
        ("down", 2, 0.1, [A3], ["handled by another incarnation"]),
        ("reply", 2, 0.1, [B2], ["handled by another incarnation"]),
        ("reply", 2, 0.1, [], ["replied to, but not handled"]),
        ("NoProcess", 2, 0.1, [A2], ["refused, but handled"]),
        ("Backpressure", 2, 0.1, [A2], ["refused, but handled"]),
        ("accepted", 3, 0.1, [], ["accepted by one that lived on, but not handled"]),
        ("reply", 2, 4.1, [A2], ["late"]),
    ],
)
def test_the_judge_sees_each_fault(
    outcome: str, incarnation: int, took_s: float, where: list[tuple[str, int]], expected: list[str]
) -> None:
    """What may be is nothing; what may not be is named."""
    assert faults(Said(1, "call", "a", incarnation, outcome, took_s), where, LAST) == expected
