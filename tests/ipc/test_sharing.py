"""One client, and who shares it: threads, forks, an event loop; and what is left when it is closed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import procs
import pytest
from boxes import Box, make_run_dir
from siblings import TIMEOUT_S, Line, Sibling

from regrow.ipc import AsyncClient, Client
from regrow.ipc.awaited import MailboxSpec
from regrow.ipc.bell import MBOX
from regrow.ipc.errors import CallTimeout, MessageError, NoProcess, ProcessDown, Unreachable
from regrow.ipc.node import Node


def together(*bodies: Callable[[], object]) -> None:
    """Run each in a thread of its own; raises the first error of any."""
    errors: list[BaseException] = []

    def run(body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


# threads


def test_many_threads_on_one_client(client: Client) -> None:
    """Each gets the answers to its own calls, and none waits for another's."""

    def body(number: int) -> None:
        for turn in range(100):
            if turn % 3 == 0:
                client.send("box", "note", number, turn).wait()
            elif turn % 3 == 1:
                client.cast("box", "note", number, turn)
            else:
                assert client.call("box", "echo", number, turn) == [number, turn]

    together(*(lambda number=number: body(number) for number in range(16)))
    notes = client.call("box", "notes")
    for number in range(16):
        assert [turn for other, turn in notes if other == number] == [turn for turn in range(100) if turn % 3 != 2]


def test_several_threads_wait_for_one_thing(client: Client, box: Box) -> None:
    """All of them are told, at once, whichever leads and whichever gives up before."""
    request = client.send_request("box", "hold")
    monitor = client.monitor("box")
    assert box.hear() == "holding"
    came: list[float] = []

    def wait() -> None:
        assert request.wait_response(TIMEOUT_S) == "said"
        came.append(time.monotonic())

    def give_up(after_s: float) -> None:
        with pytest.raises(CallTimeout):
            request.wait_response(after_s)

    def say() -> None:
        threading.Event().wait(0.15)
        box.say("said")
        came.append(time.monotonic())

    together(wait, wait, wait, lambda: give_up(0.03), lambda: give_up(0.07), lambda: give_up(0.1), say)
    assert max(came) - min(came) < 1.0
    began: list[float] = []

    def down() -> None:
        found = monitor.wait(TIMEOUT_S)
        assert found is not None
        assert found.incarnation == 1
        came.append(time.monotonic())

    def kill() -> None:
        began.append(time.monotonic())
        box.signal(signal.SIGKILL)

    came.clear()
    together(down, down, down, kill)
    assert max(came) - began[0] < 1.0


def test_no_sign_of_an_answer_is_lost(client: Client, box: Box) -> None:
    """While some threads wait for answers, others send without waiting: no answer is noticed late."""
    end = threading.Event()
    slowest: list[float] = []

    def cast() -> None:
        number = 0
        while not end.is_set():
            number += 1
            client.cast("box", "echo", number)
            if number % 50 == 0:
                client.call("box", "echo", number)

    def call() -> None:
        try:
            for number in range(300):
                begun_s = time.monotonic()
                assert client.call("box", "echo", number, timeout=TIMEOUT_S) == [number]
                slowest.append(time.monotonic() - begun_s)
        finally:
            end.set()

    together(cast, call)
    assert max(slowest) < 2.0


def test_closed_while_threads_wait(client: Client, box: Box) -> None:
    """Whoever waits is told at once; whoever comes later as well."""
    client.send("box", "hold").wait()
    assert box.hear() == "holding"
    waiting = threading.Barrier(5)
    ends: list[Any] = []

    def wait(ask: Callable[[], Any]) -> None:
        waiting.wait()
        try:
            ends.append(ask())
        except MessageError as error:
            ends.append(type(error))

    def close() -> None:
        waiting.wait()
        threading.Event().wait(0.05)
        client.close()

    monitor = client.monitor("box")
    begun_s = time.monotonic()
    together(
        lambda: wait(lambda: client.call("box", "echo", timeout=TIMEOUT_S)),
        lambda: wait(lambda: client.call("box", "echo", timeout=TIMEOUT_S)),
        lambda: wait(lambda: monitor.wait(TIMEOUT_S)),
        lambda: wait(lambda: client.send("box", "echo").wait(TIMEOUT_S)),
        close,
    )
    assert time.monotonic() - begun_s < 5.0
    assert sorted(map(str, ends)) in (
        sorted(map(str, [NoProcess, NoProcess, None, None])),
        sorted(map(str, [NoProcess, NoProcess, None, NoProcess])),
    )
    for _ in range(2):
        with pytest.raises(NoProcess, match="this side was closed"):
            client.call("box", "echo")
        with pytest.raises(NoProcess):
            client.send("box", "echo").wait()
        assert client.cast("box", "echo") is False
        assert client.whereis("box") is None
        assert client.members("box") == []
        client.close()


def test_interrupted_waits(client: Client, box: Box) -> None:
    """An exception out of a signal handler, at any moment of a wait or a call, leaves the client as it was."""

    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    dice = random.Random(5)
    request = client.send_request("box", "hold")
    assert box.hear() == "holding"
    try:
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.0001, 0.002))
                request.wait_response(TIMEOUT_S)
            except Interrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 200
    box.say("said")
    together(lambda: request.wait_response(TIMEOUT_S), lambda: client.call("box", "echo"))
    assert request.wait_response() == "said"
    assert client.call("box", "echo", 1) == [1]


# forks


def test_fork_goes_on_with_the_client(client: Client, box: Box) -> None:
    """A fork's calls are its own; the parent's open ones are the parent's, and are answered there."""
    held = client.send_request("box", "hold")
    delivery = client.send("box", "echo")
    monitor = client.monitor("box")
    assert box.hear() == "holding"

    def body(line: Line) -> None:
        begun_s = time.monotonic()
        for wait in (held.wait_response, delivery.wait):
            with pytest.raises(NoProcess, match="forked"):
                wait()
        assert monitor.wait() is None
        assert time.monotonic() - begun_s < 2.0
        request = client.send_request("box", "echo", "child")
        line.say("asked")
        assert request.wait_response() == ["child"]
        client.close()
        line.say("done")

    with Sibling(body) as fork:
        assert fork.hear() == "asked"
        box.say("parent")
        assert fork.hear() == "done"
        assert held.wait_response() == "parent"
        assert fork.wait() == 0
    delivery.wait()
    assert client.call("box", "echo", 1) == [1]
    assert not monitor.done


def test_fork_while_threads_wait(client: Client, box: Box) -> None:
    """Another thread leads, or holds the lock, in the moment of the fork: the child does not know, and works."""
    end = threading.Event()

    def call() -> None:
        while not end.is_set():
            client.call("box", "echo")

    def body(line: Line) -> None:
        for number in range(5):
            assert client.call("box", "echo", number) == [number]
        line.say("done")

    def fork() -> None:
        try:
            for _ in range(15):
                with Sibling(body) as child:
                    assert child.hear() == "done"
        finally:
            end.set()

    together(call, call, fork)


def test_fork_that_only_closes(client: Client) -> None:
    """It leaves the parent's connections alone, and keeps none of its descriptors that it can close."""

    def body(line: Line) -> None:
        client.close()
        client.close()
        with pytest.raises(NoProcess):
            client.call("box", "echo")
        line.say("closed")

    with Sibling(body) as fork:
        assert fork.hear() == "closed"
        assert fork.wait() == 0
    assert client.call("box", "echo", 1) == [1]


def test_two_threads_of_a_fork(client: Client) -> None:
    """They begin at once, and share what the first has made."""

    def body(line: Line) -> None:
        barrier = threading.Barrier(4)

        def call(number: int) -> None:
            barrier.wait()
            assert client.call("box", "echo", number) == [number]

        together(*(lambda number=number: call(number) for number in range(4)))
        line.say("done")

    client.call("box", "echo")
    for _ in range(5):
        with Sibling(body) as fork:
            assert fork.hear() == "done"


# event loops


async def one_turn() -> None:
    """Let the loop do what is ready."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


def test_hundreds_of_concurrent_calls(box: Box, run_dir: Path) -> None:
    """Each awaits its own answer; those that are cancelled or late leave nothing behind, and disturb no other."""
    dice = random.Random(7)

    async def main() -> None:
        async with AsyncClient(run_dir) as client:

            async def one(number: int) -> str:
                if number % 5 == 0:
                    delivery = await client.send("box", "note", number)
                    await delivery.wait()
                    return "sent"
                assert await client.call("box", "echo", number) == [number]
                return "answered"

            tasks = [asyncio.create_task(one(number)) for number in range(600)]
            cancelled = dice.sample(range(600), 200)
            for turn, number in enumerate(cancelled):
                if turn % 20 == 0:
                    await one_turn()
                tasks[number].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if isinstance(result, asyncio.CancelledError):
                    assert number in cancelled
                else:
                    assert result == ("sent" if number % 5 == 0 else "answered")
            assert await client.call("box", "echo", "last") == ["last"]
            assert client.node.outstanding("box") == 0

    asyncio.run(main())


def test_several_tasks_await_one_thing(box: Box, run_dir: Path) -> None:
    """All are told; one that is cancelled or gives up takes nothing from the others."""

    async def main() -> None:
        async with AsyncClient(run_dir) as client:
            delivery = await client.send("box", "hold")
            monitor = await client.monitor("box")
            waits = [asyncio.create_task(delivery.wait()) for _ in range(3)]
            downs = [asyncio.create_task(monitor.wait()) for _ in range(3)]
            late = asyncio.create_task(monitor.wait(0.02))
            await asyncio.gather(*waits)
            assert await late is None
            downs.pop().cancel()
            box.kill()
            found = await asyncio.gather(*downs)
            assert [down.incarnation for down in found if down is not None] == [1, 1]
            with pytest.raises(NoProcess):
                await client.call("box", "echo")

    asyncio.run(main())


def test_async_time_limits(box: Box, run_dir: Path) -> None:
    """A call to a stopped process ends in time, and a cancelled one at once; what comes later is dropped."""

    async def main() -> None:
        async with AsyncClient(run_dir) as client:
            assert await client.call("box", "echo") == []
            procs.freeze(box.pid, TIMEOUT_S)
            begun_s = time.monotonic()
            with pytest.raises(CallTimeout):
                await client.call("box", "note", 1, timeout=0.05)
            with pytest.raises(CallTimeout):
                await client.call("box", "note", 2, timeout=0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.call("box", "note", 3, timeout=float("inf"))
            assert time.monotonic() - begun_s < 1.0
            with pytest.raises(ValueError, match="cannot wait for"):
                await client.call("box", "note", 4, timeout=-1)
            box.signal(signal.SIGCONT)
            assert await client.call("box", "notes") == [[1], [2], [3]]

    asyncio.run(main())


def test_async_death(box: Box, run_dir: Path) -> None:
    """A hundred calls under way when it dies end as its death."""

    async def main() -> None:
        async with AsyncClient(run_dir) as client:
            calls = [asyncio.create_task(client.call("box", "hold")) for _ in range(100)]
            await one_turn()
            assert await asyncio.to_thread(box.hear) == "holding"
            box.kill()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {ProcessDown}

    asyncio.run(main())


def test_client_of_another_loop(box: Box, run_dir: Path) -> None:
    """A client belongs to one loop; when that is closed, another may have it."""
    client = AsyncClient(run_dir)

    async def call() -> None:
        assert await client.call("box", "echo", 1) == [1]

    asyncio.run(call())
    asyncio.run(call())

    async def other() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await client.call("box", "echo", 1)

    async def main() -> None:
        await call()
        await asyncio.to_thread(asyncio.run, other())
        await client.close()

    asyncio.run(main())


# what is left


def threads() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/task"))


def test_nothing_is_left(box: Box, run_dir: Path) -> None:
    """No descriptor (a fixture looks), no thread, and no file but the box's own."""
    before = threads()
    for _ in range(5):
        with Client(run_dir) as client:
            client.call("box", "echo")
            client.monitor("box")
            client.send("box", "echo")
        node = Node(str(run_dir), MailboxSpec("mine", 1))
        node.announce()
        node.close()
    assert threads() == before
    assert [name.split(".")[0] for name in os.listdir(run_dir / MBOX)] == ["box"]
    with Client(run_dir) as client:
        assert client.whereis("mine") is None


def test_nothing_is_left_of_what_could_not_begin(tmp_path: Path) -> None:
    """No daemon, or half of one: an error that says so, and nothing is open."""
    before = threads()
    with pytest.raises(Unreachable):
        Client(tmp_path / "nothing")
    half = make_run_dir(tmp_path / "half")
    (half / MBOX).rmdir()
    with pytest.raises((Unreachable, OSError)):
        Client(half)
    whole = make_run_dir(tmp_path / "whole")
    with pytest.raises(OSError, match="mbox"):
        Node(str(whole), MailboxSpec("x" * 300, 1))
    assert threads() == before


def test_leftover_of_a_killed_box_is_removed(run_dir: Path) -> None:
    """The next incarnation removes the file of the one before."""
    with Box(run_dir):
        pass
    assert len(os.listdir(run_dir / MBOX)) == 1
    with Box(run_dir, incarnation=2):
        assert [name.split(".")[:2] for name in os.listdir(run_dir / MBOX)] == [["box", "2"]]


@pytest.mark.parametrize("stopped", [False, True])
def test_close_does_not_hang(box: Box, run_dir: Path, stopped: bool) -> None:
    """Whatever is still on its way to whoever does not take it."""
    client = Client(run_dir)
    client.call("box", "echo")
    if stopped:
        procs.freeze(box.pid, TIMEOUT_S)
    else:
        box.kill()
    for number in range(100):
        client.cast("box", "note", "x" * 100_000, number)
    begun_s = time.monotonic()
    client.close()
    assert time.monotonic() - begun_s < 3.0
