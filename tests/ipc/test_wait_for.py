"""Waiting until somebody has a name."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from regrow.ipc import AsyncClient, Client, NoProcess
from regrow.ipc.node import MailboxSpec, Node
from regrow.ipc.verbs import looks


def test_a_name_that_comes(run_dir: Path) -> None:
    """Who waits is told as soon as the name is there; who comes later, at once."""
    with (
        Client(run_dir) as client,
        closing(Node(str(run_dir), MailboxSpec("late", 3))) as node,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.wait_for, "late", 30.0)
        node.announce()
        assert waiting.result(30.0).incarnation == 3
        assert client.wait_for("late", 0.0) == client.whereis("late")


def test_a_name_that_does_not_come(run_dir: Path) -> None:
    """After the time limit: NoProcess, which says so."""
    with Client(run_dir) as client, pytest.raises(NoProcess, match="within"):
        client.wait_for("nobody", 0.01)

    async def wait() -> None:
        async with AsyncClient(run_dir) as other:
            with pytest.raises(NoProcess, match="within"):
                await other.wait_for("nobody", 0.01)
            with closing(Node(str(run_dir), MailboxSpec("somebody", 1))) as node:
                node.announce()
                assert (await other.wait_for("somebody")).name == "somebody"

    asyncio.run(wait())


def test_pauses_grow_and_end() -> None:
    """At least one look, none after the end, none more than 50 ms apart."""
    assert list(looks(time.monotonic() - 1.0)) == [0.0]
    pauses = looks(time.monotonic() + 3600.0)
    first = [next(pauses) for _ in range(20)]
    assert first == sorted(first)
    assert (first[0], first[-1]) == (0.001, 0.05)
