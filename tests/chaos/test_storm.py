"""A short storm; `python -m tests.chaos` is the long one."""

from __future__ import annotations

import os

import pytest
from storm.driver import Storm

KILLS = int(os.environ.get("REGROW_CHAOS_KILLS") or 80)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_storm(storm: Storm) -> None:
    """
    Whatever is killed or stopped, the tree is always whole again, and nobody is ever there twice.

    No orphan, no zombie and nothing unknown is left, no line is lost or doubled, and nobody grows.
    """
    report = storm.run(KILLS)
    assert report.killed >= KILLS
