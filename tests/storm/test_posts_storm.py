"""A short storm of posts; `python -m tests.storm.posts` is the long one."""

from __future__ import annotations

import os
import time

import pytest
from poststorm import storm
from tree import short_directory

POSTS = int(os.environ.get("REGROW_STORM_POSTS") or 400)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("durability", ["process", "system", "full"])
def test_exactly_once(durability: str) -> None:
    """Whoever is killed, at named points and anywhere: all states are those of a run without kills, byte for byte."""
    seed = int(os.environ.get("REGROW_STORM_SEED") or time.time_ns() % 1_000_000)
    print(f"REGROW_STORM_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    with short_directory() as directory:
        report = storm(directory, POSTS, POSTS // 8, durability, seed, lambda _: None)
    assert report.killed >= POSTS // 8
    assert report.points.total() > 0
