"""What disturbs a conversation: threads, signals, forks, bursts and errors of odd sizes. Nobody else may notice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from typing import Any

import pytest
from agents import House
from siblings import Line, Sibling

from regrow.ipc import AsyncClient, Client
from regrow.ipc.delivery import Awaits
from regrow.ipc.errors import Backpressure, MessageError, NoProcess, ProcessDown, Refused, RemoteError


def test_publishing_uses_up_no_sign_of_an_answer(house: House) -> None:
    """While one thread waits for answers, another publishes, also when nothing more goes to the hub."""
    house.start("odd_agents:Raiser")
    over = threading.Event()

    def publish(client: Client) -> None:
        while not over.wait(0.0012):  # ZeroMQ looks for what has come once in a millisecond
            try:
                client.publish("some.topic", 1)
            except Backpressure:
                pass

    with Client(house.run_dir) as client:
        client.call("agent", "pid")
        for _ in range(10_000):
            client.publish("some.topic", 1)
        publisher = threading.Thread(target=publish, args=(client,))
        publisher.start()
        try:
            slowest_s = 0.0
            for _ in range(5_000):
                begun_s = time.monotonic()
                client.call("agent", "pid", timeout=5.0)
                slowest_s = max(slowest_s, time.monotonic() - begun_s)
        finally:
            over.set()
            publisher.join()
    assert slowest_s < 4.0


def test_burst_that_comes_while_the_loop_computes(house: House) -> None:
    """An agent whose only place is taken has accepted all of it long before that handler ends."""
    for _ in range(5):
        agent = house.start("odd_agents:Napper")
        sent = [
            house.node.submit(Awaits.ACCEPTANCE, "agent", "nap", (number > 0,), {})
            for number in range(2_000)
        ]
        for pending in sent:
            house.outcome(pending, 5.0)
        agent.close()


class _Rung(Exception):
    """What a signal's handler raises, as SIGINT's does."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in what ZeroMQ's binding cleans up
@pytest.mark.parametrize("verb", ["cast", "call"])
def test_signal_handlers_may_raise_in_the_middle_of_a_verb(house: House, dice: random.Random, verb: str) -> None:
    """What is said after that arrives, and is answered."""
    house.start("odd_agents:Raiser")
    armed = False

    def ring(_number: int, _frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise _Rung

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with Client(house.run_dir) as client:
            say: Any = getattr(client, verb)
            for _ in range(150):
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.0005, 0.003))
                    while armed:
                        say("agent", "pid")
                except _Rung:
                    pass
                assert client.call("agent", "pid", timeout=5.0) == house.agents[0].pid
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_error_beyond_the_size_of_a_message(house: House) -> None:
    """Its caller gets the beginning of it; the connection, and what others wait for, stay."""
    house.start("odd_agents:Raiser")
    with Client(house.run_dir) as client:
        with pytest.raises(RemoteError, match=r"^agent: ValueError: ab") as raised:
            client.call("agent", "lacks", "ab", 9 << 20)
        assert len(raised.value.text) < 100_000
        assert client.call("agent", "pid") == house.agents[0].pid


def test_connection_that_zeromq_has_ended(house: House) -> None:
    """The next message makes another one."""
    house.start("odd_agents:Raiser")
    house.call("agent", "pid")
    house.node.transport.disconnect(os.listdir(house.run_dir / "mbox")[0])
    assert house.call("agent", "pid") == house.agents[0].pid


def test_half_a_character(house: House) -> None:
    """Neither an error for a caller nor a traceback for the supervisor is lost for it."""
    agent = house.start("odd_agents:Raiser")
    with pytest.raises(RemoteError, match=r"no \\xff"):
        house.call("agent", "lacks_half")
    with pytest.raises(MessageError):
        house.call("agent", "drops_half")
    assert agent.await_said("X_REGROW_EXCEPTION").endswith(r"RuntimeError: no \xff")


@pytest.mark.parametrize(
    ("target", "handler", "told"),
    [
        ("odd_agents:Raiser", "is_cancelled", "CancelledError: by whom it called"),
        ("odd_agents:Raiser", "is_interrupted", "KeyboardInterrupt: by itself"),
        ("odd_agents:Napper", "is_interrupted", "KeyboardInterrupt: by itself"),
        ("odd_agents:Napper", "is_odd", "Odd: in an event loop"),
    ],
)
def test_crash_of_what_is_no_ordinary_exception(house: House, target: str, handler: str, told: str) -> None:
    """What `except Exception` would let pass ends the agent like any other one: with its traceback."""
    agent = house.start(target)
    with pytest.raises(ProcessDown):
        house.call("agent", handler)
    assert agent.await_said("X_REGROW_EXCEPTION").endswith(told)
    assert agent.wait() == 1


def test_fork_in_a_handler_that_exits(house: House) -> None:
    """It ends, with its status; the agent's name and mailbox are not its own to close."""
    agent = house.start("odd_agents:Raiser")
    assert house.call("agent", "forks") == 3
    assert house.call("agent", "pid") == agent.pid


def test_fork_that_asks_for_what_its_parent_waits_for(house: House) -> None:
    """It is told that this was before the fork, and its parent gets the answer."""
    house.start("odd_agents:Raiser")
    with Client(house.run_dir) as client:
        client.call("agent", "pid")
        request = client.send_request("agent", "pid")
        abandoned = client.send_request("agent", "pid")

        def ask(line: Line) -> None:
            abandoned.abandon()
            assert request.done
            with pytest.raises(NoProcess, match="forked"):
                request.wait_response(1.0)
            line.say(client.call("agent", "pid"))

        with Sibling(ask) as sibling:
            assert sibling.hear() == house.agents[0].pid
            assert sibling.wait() == 0
        assert request.wait_response() == house.agents[0].pid


def test_stop_refuses_what_has_not_been_accepted(house: House) -> None:
    """What came before the stop and was not looked at is refused rather than accepted and dropped."""
    agent = house.start("odd_agents:Raiser")
    house.call("agent", "pid")
    house.node.cast("agent", "stops", (0.3,), {})
    assert agent.await_said("STATUS") == "it stops"
    late = [house.node.submit(Awaits.ACCEPTANCE, "agent", "pid", (), {}) for _ in range(10)]
    for pending in late:
        with pytest.raises(Refused):
            house.outcome(pending)
    assert agent.wait() == 0


def test_async_client_after_its_end(house: House) -> None:
    """Each verb says so, as a blocking client's do; to close it again does nothing."""
    house.start("odd_agents:Raiser")

    async def talk() -> None:
        client = AsyncClient(house.run_dir)
        await client.call("agent", "pid")
        await client.close()
        with pytest.raises(NoProcess, match="closed"):
            await client.call("agent", "pid")
        with pytest.raises(NoProcess, match="closed"):
            await client.publish("some.topic", 1)
        assert await client.cast("agent", "pid") is False
        assert await client.next_signal(0.0) is None
        await client.close()

    asyncio.run(talk())
