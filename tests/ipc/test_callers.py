"""Callers that are interrupted, ask for the impossible, or have an event loop to keep going."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from boxes import Box
from fake_daemon import FakeDaemon, entry

from regrow.ipc import AsyncClient, BadRequest, Client, by_key


@pytest.fixture
def box(run_dir: Path) -> Iterator[Box]:
    """The only member of its group."""
    with closing(Box(run_dir, "box.0", group="box", replicas=1)) as made:
        yield made


@pytest.fixture
def client(run_dir: Path) -> Iterator[Client]:
    """A client."""
    with Client(run_dir) as made:
        yield made


class Interrupt(BaseException):
    """What the handler of a signal raises."""


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Interrupt


def test_call_that_is_interrupted(box: Box, client: Client) -> None:
    """Nobody waits for it any more: it is given up, and its answer is dropped."""
    before = signal.signal(signal.SIGUSR1, _raise)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        assert box.hear() == "holding"
        signal.pthread_kill(main, signal.SIGUSR1)

    try:
        with ThreadPoolExecutor(1) as pool:
            interrupted = pool.submit(interrupt)
            with pytest.raises(Interrupt):
                client.call("box.0", "hold", timeout=30.0)
            interrupted.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert client._node.outstanding("box.0") == 0
    box.say("late")
    assert client.call("box.0", "echo", 1) == [1]


def test_awaited_call_that_is_closed(run_dir: Path, box: Box) -> None:
    """A coroutine that is thrown away while it waits gives its call up."""

    async def talk() -> None:
        async with AsyncClient(run_dir) as client:
            calling = client.call("box.0", "hold")
            calling.send(None)
            assert client.node.outstanding("box.0") == 1
            calling.close()
            assert client.node.outstanding("box.0") == 0

    asyncio.run(talk())


def test_key_that_cannot_be_sent(run_dir: Path, box: Box, client: Client) -> None:
    """What raises nothing has the error as its own; everything else raises BadRequest."""
    for key in (object(), [1 << 70], "\ud800"):
        to = by_key("box", key)
        with pytest.raises(BadRequest, match="cannot encode the key"):
            client.call(to, "echo")
        with pytest.raises(BadRequest):
            client.cast(to, "echo")
        delivery, request = client.send(to, "echo"), client.send_request(to, "echo")
        assert isinstance(delivery.error, BadRequest)
        with pytest.raises(BadRequest):
            request.wait_response()

    async def talk() -> None:
        async with AsyncClient(run_dir) as other:
            assert isinstance((await other.send(by_key("box", object()), "echo")).error, BadRequest)

    asyncio.run(talk())


@pytest.mark.parametrize("timeout", [-1, float("nan"), -float("inf")])
def test_monitor_waits_for_no_such_time(run_dir: Path, box: Box, client: Client, timeout: float) -> None:
    """A fault of the caller; the monitor goes on."""
    with client.monitor("box.0") as monitor:
        with pytest.raises(ValueError, match="cannot wait for"):
            monitor.wait(timeout)
        assert monitor.wait(0.0) is None
        assert not monitor.done

    async def watch() -> None:
        async with AsyncClient(run_dir) as other, await other.monitor("box.0") as watching:
            with pytest.raises(ValueError, match="cannot wait for"):
                await watching.wait(timeout)

    asyncio.run(watch())


@pytest.mark.parametrize("timeout", [None, "5", b""])
def test_timeouts_of_another_type(box: Box, client: Client, timeout: Any) -> None:
    """What is no number is said to be none, in words."""
    with pytest.raises(TypeError, match="a timeout is a number, and"):
        client.call("box", "echo", timeout=timeout)
    assert client.call("box", "echo", 1) == [1]


@pytest.mark.parametrize("to", [None, 3, b"box", ("by_key", "box", 1)])
def test_receivers_that_are_none(run_dir: Path, box: Box, client: Client, to: Any) -> None:
    """Every verb says what a receiver is; a delivery and a request have it as their outcome."""
    verbs: list[Callable[[], object]] = [
        lambda: client.call(to, "echo"),
        lambda: client.cast(to, "echo"),
        lambda: client.monitor(to),
        client.send(to, "echo").wait,
        client.send_request(to, "echo").wait_response,
    ]
    for verb in verbs:
        with pytest.raises(BadRequest, match="a receiver is a name, as text, or an address"):
            verb()

    async def talk() -> None:
        async with AsyncClient(run_dir) as other:
            with pytest.raises(BadRequest, match="a receiver is a name"):
                await other.call(to, "echo")

    asyncio.run(talk())
    assert client.call("box", "echo", 1) == [1]


def test_monitors_of_both_clients_know_the_process(run_dir: Path, box: Box, client: Client) -> None:
    """A monitor that is awaited has what a blocking one has: name, incarnation and pid."""
    blocking = client.monitor("box.0")

    async def watch() -> None:
        async with AsyncClient(run_dir) as other, await other.monitor("box.0") as watching:
            assert (watching.name, watching.incarnation, watching.pid) == ("box.0", blocking.incarnation, box.pid)

    assert blocking.pid == box.pid
    asyncio.run(watch())


def test_loop_goes_on_while_the_root_is_asked(run_dir: Path) -> None:
    """Only the root knows the process of a command: the event loop, which lets it answer here, does not wait for it."""
    daemon = FakeDaemon(run_dir)
    daemon.entries = [entry("command", pid=os.getpid(), incarnation=7)]
    gate = daemon.hold("status")

    async def watch() -> None:
        async with AsyncClient(run_dir) as client:
            monitoring = asyncio.create_task(client.monitor("command"))
            await asyncio.to_thread(daemon.await_request, "status")
            gate.set()
            assert (await monitoring).incarnation == 7

    with closing(daemon):
        asyncio.run(watch())
