"""Posts over the hub: kept when they are answered, once for each id, and refused in words when they cannot be."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hub_host import HubHost, RawClient, value
from storehouse import make_store

from regrow.ipc import AsyncClient, BadRequest, NoProcess, by_key, clocks, hub_wire, timers
from regrow.ipc.hub_wire import Done, Refusal, pack
from regrow.ipc.posts import Box, Post, decode
from regrow.ipc.remote import RemoteClient
from regrow.ipc.remote_aio import AsyncRemoteClient
from regrow.ipc.store import Store


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A hub, and a store that knows two agents and a group."""
    with closing(HubHost(tmp_path)) as made:
        make_store(Path(made.run_dir), Path(made.state_dir), agent=0, other=0, pair=2)
        made.start()
        yield made


def waiting(host: HubHost, name: str) -> list[Post]:
    """What is in a box."""
    store = Store.open(host.run_dir)
    try:
        rows = store.look(lambda txn: Box(store.messages, name).after(txn, -1, 1000, 1 << 30))
    finally:
        store.close()
    return [decode(row) for _, row in rows]


def test_post_is_kept(host: HubHost) -> None:
    """In the order of the posts, with arguments and an id, for an agent that has never run."""
    with RemoteClient(host.run_dir) as client:
        ids = [client.post("agent", "note", number, k=b"\0") for number in range(20)]
        assert client.post("agent", "note", id="o-1", expires=60.0) == "o-1"
    kept = waiting(host, "agent")
    assert [post.id for post in kept] == [*ids, "o-1"]
    assert [bytes(post.args) for post in kept[:20]] == [bytes(pack([number])) for number in range(20)]
    assert bytes(kept[0].kwargs) == bytes(pack({"k": b"\0"}))
    assert kept[-1].expires_at == pytest.approx(kept[-1].at + 60.0)
    assert len(set(ids)) == 20


def test_posts_that_are_put_off(host: HubHost) -> None:
    """They wait as timers; what is no time is refused before it is sent."""
    at = datetime.now(UTC) + timedelta(hours=2)
    with RemoteClient(host.run_dir) as client:
        ids = [client.post("agent", "note", delay=3600.0), client.post("agent", "note", at=at, expires=60.0)]
        client.post("agent", "note", at=datetime(1970, 1, 1, tzinfo=UTC), id="now")
        for bad in ({"delay": -1}, {"at": datetime(2030, 1, 1)}, {"delay": 1, "at": at}):  # noqa: DTZ001 - the fault
            with pytest.raises(BadRequest):
                client.post("agent", "note", **bad)
    assert [post.id for post in waiting(host, "agent")] == ["now"]
    store = Store.open(host.run_dir)
    try:
        found = store.look(lambda txn: list(timers.listed(txn, store.messages, clocks.now())))
    finally:
        store.close()
    assert [(timer.id, timer.expires) for _, timer in found] == list(zip(ids, (None, 60.0), strict=True))
    assert abs(found[1][0] / 1e6 - at.timestamp()) < 1e-5


def test_same_id_is_one_post(host: HubHost) -> None:
    """Also over another connection and another hub, and for one agent only."""
    with RemoteClient(host.run_dir) as client:
        for _ in range(2):
            assert client.post("agent", "note", id="o-1") == "o-1"
        client.post("other", "note", id="o-1")
    host.restart()
    with RemoteClient(host.run_dir) as client:
        client.post("agent", "note", id="o-1")
    assert [len(waiting(host, name)) for name in ("agent", "other")] == [1, 1]


def test_group(host: HubHost) -> None:
    """A key belongs to one member, and the others take their turns."""
    with RemoteClient(host.run_dir) as client:
        for _ in range(4):
            client.post(by_key("pair", "A1"), "note")
        by_keys = [len(waiting(host, f"pair.{number}")) for number in (0, 1)]
        assert sorted(by_keys) == [0, 4]
        for _ in range(4):
            client.post("pair", "note")
    assert [len(waiting(host, f"pair.{number}")) - by_keys[number] for number in (0, 1)] == [2, 2]


def test_refusals(host: HubHost) -> None:
    """Unknown names, ids and arguments that cannot be, time limits that are none: nothing is kept."""
    with RemoteClient(host.run_dir) as client:
        with pytest.raises(NoProcess):
            client.post("nobody", "note")
        for wrong in ("", "\0", "x" * 201):
            with pytest.raises(BadRequest):
                client.post("agent", "note", id=wrong)
        for limit in (0, -1.0, float("nan"), float("inf")):
            with pytest.raises(BadRequest):
                client.post("agent", "note", expires=limit)
        with pytest.raises(BadRequest):
            client.post("agent", "note", object())
    assert waiting(host, "agent") == []


def test_no_store(tmp_path: Path) -> None:
    """Where there is none, the post is refused, and the next one is not when there is one."""
    with closing(HubHost(tmp_path)) as host:
        host.start()
        with RemoteClient(host.run_dir) as client, closing(RawClient(host.run_dir)) as raw:
            with pytest.raises(Exception, match="cannot use the store"):
                client.post("agent", "note")
            raw.welcome()
            refusal = raw.answer(hub_wire.Post(raw.id(), "agent", "note"))
            assert isinstance(refusal, Refusal)
            assert (refusal.code, refusal.details) == ("not_kept", {"type": "StoreUnusable"})
            make_store(Path(host.run_dir), Path(host.state_dir), agent=0)
            client.post("agent", "note")
        assert len(waiting(host, "agent")) == 1


def test_byte_by_byte(host: HubHost) -> None:
    """Many at once are answered in order; odd names, arguments and ids are refused."""
    with closing(RawClient(host.run_dir)) as client:
        client.welcome()
        ids = [client.id() for _ in range(500)]
        client.say(*(hub_wire.Post(id, "agent", "note", pack([id])) for id in ids))
        assert [client.hear().id for _ in ids] == ids  # type: ignore[union-attr]
        assert [bytes(post.args) for post in waiting(host, "agent")] == [bytes(pack([id])) for id in ids]
        for name in ("\0", "\0sub:", "a" * 500, "ü" * 500, "agent\0", "\n", ".", "q"):
            found = client.answer(hub_wire.Post(client.id(), name, "note"))
            assert isinstance(found, Refusal), name
            assert found.code == "noproc", found
        for post in ("\0", "ü" * 150):
            found = client.answer(hub_wire.Post(client.id(), "agent", "note", post=post))
            assert isinstance(found, Refusal), post
        found = client.answer(hub_wire.Post(client.id(), "agent", "note", pack({})))
        assert isinstance(found, Refusal)
        done = client.answer(hub_wire.Post(client.id(), "agent", "note", post="last"))
        assert isinstance(done, Done)
        assert value(done) == "last"


def test_hub_does_not_wait_for_the_store(host: HubHost) -> None:
    """While somebody else writes, it serves; what is given up meanwhile is not answered, and kept all the same."""
    store = Store.open(host.run_dir)
    with closing(RawClient(host.run_dir)) as client:
        client.welcome()
        first, second = client.id(), client.id()

        def write(_txn: object) -> list[hub_wire.FromHub]:
            client.say(hub_wire.Post(first, "agent", "note"), hub_wire.Post(second, "agent", "note"))
            client.say(hub_wire.Cancel(first))
            return client.hear_all()

        try:
            assert store.write(write) == []
        finally:
            store.close()
        heard = client.hear()
        assert isinstance(heard, Done)
        assert heard.id == second
    assert len(waiting(host, "agent")) == 2


async def posts_then_raises(client: AsyncClient) -> None:
    """One post, and an end that takes it back."""
    async with client.transaction():
        await client.post("agent", "note", -1)
        raise KeyError


def test_from_event_loops(host: HubHost) -> None:
    """A local and a remote client of a loop: in order, together in a transaction, nothing of one that raises."""

    async def posts() -> None:
        async with AsyncClient(host.run_dir) as client:
            await asyncio.gather(*(client.post("agent", "note", number) for number in range(50)))
            async with client.transaction():
                assert await client.post("agent", "note", 50, id="a") == "a"
                await client.post("agent", "note", 51)
                await asyncio.create_task(client.post("other", "note"))  # a task of its own: kept at once
                assert len(waiting(host, "agent")) == 50
            with pytest.raises(KeyError):
                await posts_then_raises(client)
            with pytest.raises(NoProcess):
                await client.post("nobody", "note")
        async with AsyncRemoteClient(host.run_dir) as remote:
            await remote.post("agent", "note", 52)

    asyncio.run(posts())
    assert [bytes(post.args) for post in waiting(host, "agent")] == [bytes(pack([number])) for number in range(53)]
    assert len(waiting(host, "other")) == 1


def test_hub_is_killed(host: HubHost) -> None:
    """Whoever posts again with the same id when the hub is gone, posts once."""
    with RemoteClient(host.run_dir) as client:
        client.subscribe("n.>")
        client.post("agent", "note", id="first")
        assert host.hub is not None
        host.hub.signal(signal.SIGSTOP)
        request = client._asking.ask("agent", "note", lambda id: hub_wire.Post(id, "agent", "note", post="second"))
        host.restart()
        request[1].wait_until_done(10)
        assert request[1].done
        client.publish("n.back", None)
        assert client.next_signal(20.0) is not None  # so there is a connection
        client.post("agent", "note", id="second")
    assert [post.id for post in waiting(host, "agent")] == ["first", "second"]


def test_long_names_and_ids(tmp_path: Path) -> None:
    """What a key of the store has no room for is refused in words, and not by LMDB."""
    name = "a" * 400
    with closing(HubHost(tmp_path)) as host:
        agents: dict[str, Any] = {name: 0}
        make_store(Path(host.run_dir), Path(host.state_dir), **agents)
        host.start()
        with RemoteClient(host.run_dir) as client:
            client.post(name, "note")
            client.post(name, "note", id="x" * 100)
            with pytest.raises(BadRequest, match="too long together"):
                client.post(name, "note", id="x" * 101)
            with pytest.raises(NoProcess):
                client.post("b" * 490, "note")
