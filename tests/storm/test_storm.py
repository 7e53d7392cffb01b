"""A short storm of calls; `python -m tests.storm` is the long one."""

from __future__ import annotations

import os
import time

import pytest
from callstorm import Storm
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
