"""
The agents that the benchmarks of messages talk to, and that do the talking.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Raw

from regrow.ipc.mailbox import Envelope
from regrow.ipc.wire import Send
from regrow.workers import Agent, handler

WINDOW = 2_000
"""Sends whose acceptance is not known yet; a program that cares about its messages has some such bound."""


class Placed(Agent):
    """Can be kept on one processor."""

    @handler
    def stay_on(self, processor: int) -> None:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), {processor})


class Echo(Placed):
    """Answers with what it is given, or counts it."""

    def init(self) -> None:
        self.count = 0

    @handler
    def echo(self, text: str) -> str:
        return text

    @handler
    def note(self, text: str) -> None:
        self.count += 1

    @handler
    def hold(self) -> None:
        """Never answers."""
        signal.pause()

    @handler
    def handled(self) -> int:
        return self.count


class Handling(Placed):
    """Handles messages that nobody has sent."""

    @handler
    def quote(self, sku: str, quantity: int) -> int:
        return quantity

    @handler
    def costs(self, count: int) -> tuple[float, float, float]:
        """Processor seconds of one: decoded and called bare; handled, with arguments by position; by name."""
        runtime: Any = self._host
        args, kwargs = Raw(msgspec.msgpack.encode(["A1", 2])), Raw(msgspec.msgpack.encode({"sku": "A1", "quantity": 2}))
        decode = msgspec.msgpack.Decoder(tuple[str, int]).decode
        by_position, by_name = Send(1, "quote", args), Send(1, "quote", kwargs=kwargs)
        taken = [time.thread_time()]
        for _ in range(count):
            self.quote(*decode(args))
        taken.append(time.thread_time())
        for message in (by_position, by_name):
            for _ in range(count):
                runtime.handle(Envelope(b"nobody", message, len(args)))
            taken.append(time.thread_time())
        bare, first, second = ((end_s - begin_s) / count for begin_s, end_s in pairwise(taken))
        return bare, first, second


class Announcing(Agent):
    """Is seen to begin."""

    def init(self, fifo: str) -> None:
        os.write(os.open(fifo, os.O_WRONLY), os.getpid().to_bytes(8, "little"))


class Driver(Placed):
    """Talks to another agent, and says how long that took."""

    @handler
    def calls(self, to: str, count: int, size: int) -> list[float]:
        """Seconds that each of `count` calls took, one after the other."""
        text, clock = "x" * size, time.perf_counter
        taken = []
        for _ in range(count):
            began_s = clock()
            self.call(to, "echo", text)
            taken.append(clock() - began_s)
        return taken

    @handler
    def sends(self, to: str, count: int, size: int) -> float:
        """Seconds until all of `count` sends were accepted and handled."""
        text = "x" * size
        under_way = deque(self.send(to, "note", text) for _ in range(min(WINDOW, count)))
        for _ in range(count - len(under_way)):
            under_way.popleft().wait(30.0)
            under_way.append(self.send(to, "note", text))
        for delivery in under_way:
            delivery.wait(30.0)
        self.call(to, "handled", timeout=60.0)
        return 0.0

    @handler
    def casts(self, to: str, count: int, size: int) -> int:
        """How many of `count` casts went out; a full way there is waited for by a call."""
        text, sent = "x" * size, 0
        for _ in range(count):
            while not self.cast(to, "note", text):
                self.call(to, "handled", timeout=60.0)
            sent += 1
            if sent % (WINDOW * 2) == 0:
                self.call(to, "handled", timeout=60.0)
        self.call(to, "handled", timeout=60.0)
        return sent


class Ear(Agent):
    """Hears what is published, and writes a byte into the FIFO for each burst of it."""

    def init(self, fifo: str, burst: int) -> None:
        self.fifo = os.open(fifo, os.O_WRONLY)
        self.burst = burst
        self.count = 0
        self.subscribe("bench.>")

    def on_signal(self, topic: str, message: str) -> None:
        self.count += 1
        if self.count % self.burst == 0:
            os.write(self.fifo, b".")


class Mouth(Agent):
    """Publishes."""

    @handler
    def publish_burst(self, count: int, size: int) -> None:
        text = "x" * size
        for _ in range(count):
            self.publish("bench.signal", text)


class Ledger(Placed):
    """Keeps numbers, and says into the FIFO when as many posts have come as were expected."""

    def init(self, fifo: str) -> None:
        self.fifo = os.open(fifo, os.O_WRONLY)
        self.goal = 0
        self.state.get("total")
        os.write(self.fifo, os.getpid().to_bytes(8, "little"))

    @handler
    def expect(self, count: int) -> None:
        self.goal = self.state.get("total", 0) + count

    @handler
    def note(self, text: str) -> None:
        if self.state.add("total", 1) == self.goal:
            os.write(self.fifo, os.getpid().to_bytes(8, "little"))

    @handler
    def total(self) -> int:
        return int(self.state.get("total", 0))

    @handler
    def keep(self, key: str) -> None:
        self.state[key] = 1

    @handler
    def leave(self, key: str) -> None:
        """Changes nothing."""

    @handler
    def reads(self, keys: list[str]) -> list[float]:
        """Seconds that each read took."""
        state, clock = self.state, time.perf_counter
        taken = []
        for key in keys:
            began_s = clock()
            state[key]
            taken.append(clock() - began_s)
        return taken

    @handler
    def commits(self, keys: list[str]) -> list[float]:
        """Seconds that each transaction took."""
        clock = time.perf_counter
        taken = []
        for key in keys:
            began_s = clock()
            with self.transaction():
                self.state[key] = 1
            taken.append(clock() - began_s)
        return taken


class Asking(Placed):
    """Calls a ledger, to see what it costs to keep something, and posts to it."""

    @handler
    def posts(self, to: str, count: int, batch: int, size: int) -> None:
        """Each batch together with what changes here."""
        text = "x" * size
        for _ in range(count // batch):
            with self.transaction():
                for _ in range(batch):
                    self.post(to, "note", text)
                self.state.add("posted", batch)

    @handler
    def costs(self, to: str, keys: list[str]) -> tuple[list[float], list[float]]:
        """Seconds of calls that change a key, and of calls that do not, by turns."""
        clock = time.perf_counter
        taken: tuple[list[float], list[float]] = ([], [])
        for key in keys:
            for verb, list_s in zip(("keep", "leave"), taken, strict=True):
                began_s = clock()
                self.call(to, verb, key)
                list_s.append(clock() - began_s)
        return taken
