"""Fixtures of the chaos tests: the seed, a storm, and the tree of a storm that is struck by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from storm.driver import Storm
from storm.garden import Garden
from tree import short_directory

SEED = "REGROW_CHAOS_SEED"


@pytest.fixture
def seed(record_property: Callable[[str, object], None]) -> int:
    """What all choices come from: $REGROW_CHAOS_SEED, else of this moment. Printed when the test fails."""
    seed = int(os.environ.get(SEED) or time.time_ns() % 1_000_000)
    record_property("seed", seed)
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it with a failure
    return seed


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short-named directory of this test's own."""
    with short_directory() as path:
        yield path


@pytest.fixture
def storm(directory: Path, seed: int) -> Iterator[Storm]:
    """A storm that has not begun; after the test nothing is left of it."""
    storm = Storm(directory, seed)
    yield storm
    storm.dispose()


@pytest.fixture
def garden(directory: Path) -> Iterator[Garden]:
    """The tree of 60, running and whole; it is stopped and checked after the test."""
    garden = Garden(directory, f"{os.getpid()}-{directory.name}")
    with ExitStack() as stack:
        stack.callback(garden.lives.dispose)
        garden.plant()
        yield garden
        garden.down()
