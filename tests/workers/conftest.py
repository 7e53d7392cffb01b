"""Fixtures of the tests of workers."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import House
from logger_process import LoggerProcess


@pytest.fixture
def logger() -> Iterator[LoggerProcess]:
    """A running logger."""
    with LoggerProcess() as process:
        yield process


@pytest.fixture
def dice() -> random.Random:
    """Randomness whose seed is shown when the test fails; REGROW_TEST_SEED repeats it."""
    seed = int(os.environ.get("REGROW_TEST_SEED", random.randrange(1 << 32)))
    sys.stdout.write(f"REGROW_TEST_SEED={seed}\n")
    return random.Random(seed)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A run_dir in which agents can be started."""
    made = House(tmp_path)
    try:
        yield made
    finally:
        made.close()
