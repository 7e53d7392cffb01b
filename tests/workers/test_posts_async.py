"""Posts of agents with an event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from agents import House
from mockups import MockNode
from storehouse import make_store

from regrow.ipc.errors import RemoteError
from regrow.ipc.posting import Posting
from regrow.ipc.posting_aio import AsyncPosting
from regrow.ipc.transaction import Outgoing


def test_post_leaves_when_its_handler_commits(house: House, tmp_path: Path) -> None:
    """`aio.post` returns at once and is part of the handler: of one that raises nothing arrives; an id counts once."""
    make_store(house.run_dir, tmp_path / "state", poster=0, counter=0)
    house.start("posting_agents:Poster", "poster")
    house.start("keeping_agents:Counter", "counter")
    with pytest.raises(RemoteError):
        house.call("poster", "forward", "counter", 1000, refuse=True)
    assert [house.call("poster", "forward", "counter", n) for n in (1, 2, 1)] == ["n-1", "n-2", "n-1"]
    house.call("poster", "forward", "counter", 3)
    while house.call("counter", "total") != 6:
        pass


def test_somebody_cancels_all_tasks(house: House, tmp_path: Path) -> None:
    """Posts that were under way are cancelled with them, and later ones are kept."""
    make_store(house.run_dir, tmp_path / "state", agent=0)
    begun, go_on = threading.Event(), threading.Event()

    async def posts() -> None:
        posting = AsyncPosting(Posting(cast(Any, MockNode(str(house.run_dir)))))

        def make() -> Outgoing:
            return posting.write("agent", "take", (), {})

        def make_slowly() -> Outgoing:
            begun.set()
            assert go_on.wait(10.0)
            return make()

        waiting = [asyncio.create_task(posting.post(each)) for each in (make_slowly, make)]
        await asyncio.to_thread(begun.wait, 10.0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait(waiting, timeout=10.0)
        assert all(task.cancelled() for task in waiting)
        go_on.set()
        assert await asyncio.wait_for(posting.post(make), 10.0)
        await posting.close()

    asyncio.run(posts())


def test_close_waits_for_the_thread_of_a_cancelled_commit(house: House, tmp_path: Path) -> None:
    """It goes on when its task is cancelled, and would open the store once more behind the end."""
    make_store(house.run_dir, tmp_path / "state", agent=0)
    begun, go_on = threading.Event(), threading.Event()

    async def posts() -> None:
        posting = AsyncPosting(Posting(cast(Any, MockNode(str(house.run_dir)))))

        def make_slowly() -> Outgoing:
            begun.set()
            assert go_on.wait(10.0)
            return posting.write("agent", "take", (), {})

        waiting = asyncio.create_task(posting.post(make_slowly))
        await asyncio.to_thread(begun.wait, 10.0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([waiting], timeout=10.0)
        closing = asyncio.create_task(posting.close())
        done, _ = await asyncio.wait([closing], timeout=0.01)
        assert not done
        go_on.set()
        await closing

    asyncio.run(posts())
