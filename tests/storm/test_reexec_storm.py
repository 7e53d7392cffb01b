"""Calls under re-executions, a few; `python -m tests.storm.reexec` is the long one."""

from __future__ import annotations

import os
import time

import pytest
from reexecstorm import Storm
from tree import short_directory

CALLS = int(os.environ.get("REGROW_REEXEC_CALLS") or 500)


@pytest.mark.timeout(180)
def test_nobody_notices() -> None:
    """No call fails, no post or line is lost, and no pid changes while root and supervisors are exec'd twice."""
    seed = int(os.environ.get("REGROW_STORM_SEED") or time.time_ns() % 1_000_000)
    print(f"REGROW_STORM_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    with short_directory() as directory:
        storm = Storm(directory, seed, callers=2)
        try:
            report = storm.run(CALLS, 2)
        finally:
            storm.dispose()
    assert len(report.busy_s) >= CALLS
    assert len(report.answers) >= 2
