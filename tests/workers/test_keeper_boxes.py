"""What the keeper does about boxes, where the store does not let it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from regrow.ipc.errors import StoreFull
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.keeper_boxes import Forgetting


class FullStore:
    """One in which there is an old id, and no room."""

    messages = None

    def __init__(self) -> None:
        self.is_full = True
        self.forgotten = 0

    def read(self, _look: Callable[[Any], Any]) -> float | None:
        return None if self.forgotten else 1.0

    def write(self, _change: Callable[[Any], Any]) -> None:
        if self.is_full:
            raise StoreFull("the store", "No space left on device")
        self.forgotten += 1


def test_full_disk() -> None:
    """Ids are forgotten when there is room again; until then the keeper has other things to do."""
    now_s = 0.0
    store, timers = FullStore(), Timers(lambda: now_s)
    Forgetting(cast(Any, store), timers)
    for _ in range(3):
        timers.run()
        assert len(timers) == 1
        now_s += 3600.0
    store.is_full = False
    timers.run()
    assert store.forgotten == 1
