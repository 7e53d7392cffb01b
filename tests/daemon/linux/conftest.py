"""Fixtures of the tests of probes: peers, and folders in memory and on a disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from probing import World


@pytest.fixture
def world() -> Iterator[World]:
    """A loop with peers."""
    made = World()
    yield made
    made.close()


@pytest.fixture(params=["/dev/shm", None], ids=["tmpfs", "tmp"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in memory, and one on whatever holds temporary files."""
    with tempfile.TemporaryDirectory(dir=request.param) as path:
        yield Path(path)
