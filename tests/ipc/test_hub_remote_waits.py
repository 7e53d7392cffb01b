"""What a remote client waits for ends in its time limit, however much else is waited for, and whatever was asked."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hub_host import HubHost

from regrow.ipc import MessageError, by_key
from regrow.ipc.errors import Backpressure, BadRequest, CallTimeout, NoProcess
from regrow.ipc.remote import RemoteClient
from regrow.ipc.remote_aio import AsyncRemoteClient
from regrow.workers.system.hub_peer import MAX_MONITORS


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A hub with an agent."""
    with closing(HubHost(tmp_path)) as made:
        made.start()
        made.actor("actor")
        yield made


@pytest.fixture
def client(host: HubHost) -> Iterator[RemoteClient]:
    """One that is connected."""
    with RemoteClient(host.run_dir) as made:
        yield made


def test_any_number_of_tasks_may_wait(host: HubHost) -> None:
    """Two hundred tasks wait for what does not come; a call beside them is answered, and its time limit is its own."""

    async def talk() -> None:
        async with AsyncRemoteClient(host.run_dir) as remote:
            monitor = await remote.monitor("actor")
            waits: list[asyncio.Task[Any]] = [asyncio.create_task(remote.next_signal(60.0)) for _ in range(100)]
            waits += [asyncio.create_task(monitor.wait(60.0)) for _ in range(50)]
            waits += [asyncio.create_task(remote.call("actor", "never", timeout=60.0)) for _ in range(50)]
            assert await remote.call("actor", "echo", 1) == [[1], {}]
            late = [remote.call("actor", "never", timeout=0.05) for _ in range(200)]
            found = await asyncio.wait_for(asyncio.gather(*late, return_exceptions=True), 10)
            assert {type(each) for each in found} == {CallTimeout}
            assert await remote.subscribe("n.>")
            assert await remote.publish("n.x", 1, timeout=5.0) == 1
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            assert [getattr(each.result(), "topic", None) for each in done] == ["n.x"]  # one of them has it
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(talk())


def test_who_is_cancelled_gives_up(host: HubHost) -> None:
    """Calls whose tasks are cancelled are open no more, on either side: a thousand are allowed, and more have begun."""

    async def talk() -> None:
        async with AsyncRemoteClient(host.run_dir) as remote:
            for _ in range(4):
                calls = [asyncio.create_task(remote.call("actor", "never", timeout=60.0)) for _ in range(400)]
                assert await remote.call("actor", "echo", 1) == [[1], {}]  # all of them are on their way
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            assert (await remote._remote())._asking._waits == {}

    asyncio.run(talk())


def test_without_a_block(host: HubHost) -> None:
    """It connects at its first use, once for all that are first, as in a notebook; after its end it says so."""

    async def talk() -> None:
        remote = AsyncRemoteClient(host.run_dir)
        found = await asyncio.gather(*(remote.call("actor", "echo", number) for number in range(10)))
        assert found == [[[number], {}] for number in range(10)]
        assert len([each for each in threading.enumerate() if each.name == "regrow remote"]) == 1
        await remote.close()
        await remote.close()
        with pytest.raises(RuntimeError, match="was closed"):
            await remote.call("actor", "echo")

    asyncio.run(talk())


def test_waiting_for_a_name(host: HubHost, client: RemoteClient) -> None:
    """Who waits for a name that nobody takes is told in time."""
    assert client.wait_for("actor").name == "actor"
    with pytest.raises(NoProcess, match=r"within 0\.05 s"):
        client.wait_for("nobody", timeout=0.05)

    async def wait() -> None:
        async with AsyncRemoteClient(host.run_dir) as remote:
            assert (await remote.wait_for("actor")).name == "actor"
            with pytest.raises(NoProcess, match=r"within 0\.05 s"):
                await remote.wait_for("nobody", timeout=0.05)

    asyncio.run(wait())


def test_a_monitor_that_the_hub_refuses(client: RemoteClient) -> None:
    """Too many of them, or a name that is none: `wait` raises it at once."""
    for name in ("", "x" * 600):
        with pytest.raises(BadRequest):
            client.monitor(name).wait(20)
    monitors = [client.monitor("actor") for _ in range(MAX_MONITORS + 1)]
    with pytest.raises(Backpressure):
        monitors[-1].wait(20)
    assert monitors[0].demonitor() is True
    assert monitors[-1].demonitor() is False
    assert client.monitor("actor").wait(0.05) is None


@pytest.mark.parametrize("to", ["\ud800", by_key("actor", object()), by_key("actor", 1 << 70)], ids=str)
def test_addresses_that_cannot_be_sent(client: RemoteClient, to: object) -> None:
    """They are a bad request, whichever verb it is; a delivery and a request have it as their outcome."""
    verbs: list[Callable[[], object]] = [
        lambda: client.call(to, "echo"),  # type: ignore[arg-type]
        lambda: client.cast(to, "echo"),  # type: ignore[arg-type]
        client.send(to, "echo").wait,  # type: ignore[arg-type]
        client.send_request(to, "echo").wait_response,  # type: ignore[arg-type]
    ]
    for verb in verbs:
        with pytest.raises(BadRequest, match="no message can carry this"):
            verb()
    assert client.call("actor", "echo", 1) == [[1], {}]


@pytest.mark.parametrize("to", [None, 3, b"actor"])
def test_receivers_that_are_none(client: RemoteClient, to: Any) -> None:
    """They are said to be none here, as by a local client, and need no hub for that."""
    with pytest.raises(BadRequest, match="a receiver is a name, as text, or an address"):
        client.call(to, "echo")
    with pytest.raises(BadRequest, match="a receiver is a name, as text, or an address"):
        client.cast(to, "echo")


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_timeouts_that_are_none(client: RemoteClient, timeout: float) -> None:
    """They are a fault of the caller, as for a local client."""
    verbs: list[Callable[[], object]] = [
        lambda: client.call("actor", "echo", timeout=timeout),
        lambda: client.send("actor", "note").wait(timeout),
        lambda: client.monitor("actor").wait(timeout),
        lambda: client.next_signal(timeout),
        lambda: client.publish("a.b", 1, timeout=timeout),
        lambda: client.subscribe("a.b", timeout=timeout),
        lambda: client.wait_for("actor", timeout),
    ]
    for verb in verbs:
        with pytest.raises(ValueError, match="cannot wait for"):
            verb()


def test_a_forked_process_is_told(client: RemoteClient) -> None:
    """What keeps the connection is a thread of the parent: in a child every verb says so, and none seems to work."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        verbs: list[Callable[[], object]] = [
            lambda: client.call("actor", "echo"),
            lambda: client.cast("actor", "echo"),
            lambda: client.send("actor", "echo"),
            lambda: client.monitor("actor"),
            lambda: client.publish("a.b", 1),
            lambda: client.subscribe("a.b"),
            lambda: client.next_signal(0.0),
            lambda: client.whereis("actor"),
        ]
        for verb in verbs:
            try:
                verb()
                os.write(writing, b"-")
            except RuntimeError as error:
                os.write(writing, b"+" if "forked" in str(error) else b"?")
            except MessageError:
                os.write(writing, b"!")
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as said:
        assert said.read() == b"+" * 8
    assert client.call("actor", "echo", 1) == [[1], {}]
