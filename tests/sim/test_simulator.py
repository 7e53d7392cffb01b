"""The seeded portion of the simulator that runs every time; `python -m tests.sim` runs it at length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulator.command import run, smaller, story

from regrow.daemon.core.supervisor import TRANSITIONS

SEED = int(os.environ.get("REGROW_SIM_SEED", "2"))
EVENTS = int(os.environ.get("REGROW_SIM_EVENTS", "800000"))
PORTIONS = 8


@pytest.mark.slow
@pytest.mark.parametrize("portion", range(PORTIONS))
def test_invariants_hold(portion: int) -> None:
    """Random trees under random faults: every invariant holds after every step, and every tree comes to rest."""
    seed = SEED * PORTIONS + portion
    print(f"REGROW_SIM_SEED={SEED}: python -m tests.sim --seed {seed} --events {EVENTS // PORTIONS}")  # noqa: T201
    sums, last = run(seed, EVENTS // PORTIONS)
    assert last.violation is None, "\n".join(story(smaller(last)))
    assert sums["events"] >= EVENTS // PORTIONS


def test_every_transition_is_taken() -> None:
    """The simulator reaches every state of a child with every event that can meet it there."""
    sums, _ = run(3, 60_000)
    meaningful = {
        f"{state} {kind}" for (state, kind), handler in TRANSITIONS.items() if handler.__name__ != "_stale"
    }
    assert meaningful - set(sums) == set()


def test_same_seed_same_life() -> None:
    """A seed is enough to see a violation again: two runs count the same."""
    assert run(7, 3000)[0] == run(7, 3000)[0]


def test_command_line_says_what_it_did() -> None:
    """`python -m tests.sim` prints seed, events, checks and the verdict, and exits 0 when all held."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent), "--events", "2000", "--seed", "5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "seed 5"
    assert " events in " in lines[1]
    assert " checks of 23 invariants" in lines[2]
    assert lines[-1] == "every invariant held"
