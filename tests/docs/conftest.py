"""A shell that plays pages, in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Session


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session whose daemon, if any is left, is ended afterwards."""
    made = Session(tmp_path)
    yield made
    made.close()
