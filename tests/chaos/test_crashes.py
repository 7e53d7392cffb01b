"""SIGKILL at the worst moments; afterwards exactly the configured tree, and no orphan."""

from __future__ import annotations

import os

import pytest
from storm.crashes import Crashes
from storm.garden import Garden

ROUNDS = int(os.environ.get("REGROW_CHAOS_ROUNDS") or 2)

BLOWS = (
    Crashes.everything,
    Crashes.root_starting,
    Crashes.root_stopping,
    Crashes.root_restarting,
    Crashes.supervisor_restarting,
    Crashes.asked_and_killed,
)


@pytest.mark.slow
@pytest.mark.timeout(max(180, 12 * ROUNDS))
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: blow.__name__)
def test_killed_while(blow: object, garden: Garden, seed: int) -> None:
    """At whichever moment the blow falls: the tree is whole again, escapees and all, and nothing else is there."""
    crashes = Crashes(garden, seed)
    for _ in range(ROUNDS):
        blow(crashes)  # type: ignore[operator]
