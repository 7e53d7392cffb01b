"""
A publisher and ten subscribers: time a signal, until the last of them has had all.

Floor: PUB and SUB of bare pyzmq through a forwarding XSUB/XPUB device in a process of its own, the same payload; it
drops what a slow subscriber has no room for, and tells nobody.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from benchmarks.contenders import Daemon, agent, supervisor, workspace
from benchmarks.measure import Row, Size, Summary
from benchmarks.raw import Raw
from regrow.ipc import Client

SUBSCRIBERS = 10
PAYLOAD = 64
BURST = 200
"""Published at once, before the publisher waits for the subscribers: within what either side keeps for each of them."""


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    rounds, bursts = size.of(10, 2), size.of(20, 2)
    with workspace() as directory, ExitStack() as stack:
        fifo = directory / "heard"
        os.mkfifo(fifo)
        heard = os.open(fifo, os.O_RDWR)
        stack.callback(os.close, heard)
        tables = (
            supervisor("app", ["ear", "mouth"])
            + agent("ear", "agents:Ear", SUBSCRIBERS, args=f'{{ fifo = "{fifo}", burst = {BURST} }}')
            + agent("mouth", "agents:Mouth")
        )
        daemon = stack.enter_context(Daemon(directory, tables))
        client = stack.enter_context(Client(daemon.run_dir))
        stack.enter_context(Raw("forwarder", directory / "raw"))
        ears = [stack.enter_context(Raw("ear", directory / "raw")) for _ in range(SUBSCRIBERS)]
        mouth = stack.enter_context(Raw("mouth", directory / "raw"))
        floor: list[float] = []
        regrow: list[float] = []
        for number in range(rounds + 1):
            below, above = floor_s(mouth, ears, bursts), regrow_s(client, heard, bursts)
            if number:
                floor.append(below * 1e6 / (bursts * BURST))
                regrow.append(above * 1e6 / (bursts * BURST))
    return [Row(f"publish to {SUBSCRIBERS} subscribers", "µs each", Summary.of(floor), Summary.of(regrow))]


def floor_s(mouth: Raw, ears: list[Raw], bursts: int) -> float:
    """Seconds for that many bursts."""
    began_s = time.perf_counter()
    for _ in range(bursts):
        for ear in ears:
            ear.say(f"hear {BURST} 0")
        mouth.ask(f"publish {BURST} {PAYLOAD}")
        for ear in ears:
            ear.answer()
    return time.perf_counter() - began_s


def regrow_s(client: Client, heard: int, bursts: int) -> float:
    """The same between agents: each ear writes a byte when it has heard a burst."""
    began_s = time.perf_counter()
    for _ in range(bursts):
        client.send("mouth", "publish_burst", BURST, PAYLOAD)
        missing = SUBSCRIBERS
        while missing:
            missing -= len(os.read(heard, missing))
    return time.perf_counter() - began_s
