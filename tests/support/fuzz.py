"""
Fuzzing a mailbox: frames of every kind of wrongness, through the path that takes them in.

In this process, with a transport that hands over what was made (millions of inputs), and over the real socket of a
real mailbox (thousands). Every choice comes from the seed.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from boxes import make_run_dir

from regrow.ipc import wire
from regrow.ipc.awaited import MailboxSpec
from regrow.ipc.delivery import Awaits
from regrow.ipc.mailbox import Envelope
from regrow.ipc.names import Record
from regrow.ipc.node import Node
from regrow.ipc.peers import Peer

LIMIT = 50
PEER, STRANGERS = b"\1-a-peer", (b"\0stranger", b"\0another!", b"name")
HEADS = tuple(range(256))


class Frames:
    """An endless supply of frames: well-formed, mutated, built of parts, and noise. Some name these handlers."""

    def __init__(self, seed: int, handlers: tuple[str, ...] = ("note",)) -> None:
        self._dice = random.Random(seed)
        self._handlers = handlers
        self._ways: tuple[Callable[[], bytes], ...] = (
            self.valid, self.valid, self.valid, self.mutated, self.mutated, self.mutated, self.mutated,
            self.built, self.built, self.built, self.noise, self.nested,
        )  # fmt: skip

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._dice.choice(self._ways)()

    def valid(self) -> bytes:
        """A message of this protocol, request or answer."""
        dice = self._dice
        id = dice.choice((dice.randrange(8), dice.randrange(wire.MAX_ID + 1)))
        kind = dice.choice((0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23))
        handler = dice.choice((*self._handlers, *self._handlers, "x" * dice.randrange(40), "ä"))
        args, kwargs = [self.value(2) for _ in range(dice.randrange(3))], dice.choice(({}, {"k": self.value(2)}))
        parts: dict[int, tuple[Any, ...]] = {
            0x10: (handler, args, kwargs),
            0x11: (id, handler, args, kwargs),
            0x12: (id, handler, args, kwargs, ["a", "b"][: dice.randrange(3)]),
            0x20: ([dice.randrange(9) for _ in range(dice.randrange(6))],),
            0x21: (id, self.value(2)),
            0x22: (id, dice.choice(("shutdown", "backpressure", "what")), "text", {"length": self.value(1)}),
            0x23: (id, ["a", "b"]),
        }
        return msgspec.msgpack.encode((kind, *parts[kind]))

    def value(self, depth: int) -> Any:
        """Something that msgpack has."""
        dice = self._dice
        pick = dice.randrange(8 if depth else 6)
        if pick == 6:
            return [self.value(depth - 1) for _ in range(dice.randrange(3))]
        if pick == 7:
            return {str(number): self.value(depth - 1) for number in range(dice.randrange(3))}
        return (None, True, dice.randrange(-99, 1 << 40), dice.random(), "text", dice.randbytes(4))[pick]

    def mutated(self) -> bytes:
        """A valid one with some bytes changed, cut out, put in, cut off, or with another's tail."""
        dice, frame = self._dice, bytearray(self.valid())
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(frame) + 1)
            match dice.randrange(6):
                case 0:
                    frame[at : at + 1] = bytes([dice.choice(HEADS)])
                case 1:
                    del frame[at : at + dice.randrange(4)]
                case 2:
                    frame[at:at] = dice.randbytes(dice.randrange(1, 5))
                case 3:
                    del frame[at:]
                case 4:
                    frame[at:] = self.valid()[dice.randrange(4) :]
                case _:
                    if at < len(frame):
                        frame[at] ^= 1 << dice.randrange(8)
        return bytes(frame)

    def built(self) -> bytes:
        """An array with parts of every type, lengths that are not true, and kinds that do not exist."""
        dice = self._dice
        head = dice.choice((b"\x93", b"\x95", b"\x96", b"\xdc\x00\x06", b"\xdd\xff\xff\xff\xff", b"\x90", b"\x80"))
        kind = bytes([dice.choice((0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x5F, 0x60, 0x7F, 0xC0))])
        return head + kind + b"".join(self.part() for _ in range(dice.randrange(7)))

    def part(self) -> bytes:
        """One value, or the beginning of one that promises more than there is."""
        dice = self._dice
        promising = (b"\xdf", b"\xdd", b"\xdb", b"\xc6", b"\xc9", b"\xde", b"\xdc", b"\xd9")
        match dice.randrange(7):
            case 0:
                return dice.choice(promising) + dice.randbytes(dice.randrange(6))
            case 1:
                return bytes([dice.choice(HEADS)]) + dice.randbytes(dice.randrange(10))
            case 2:
                return dice.choice((b"\xd7\xff" + dice.randbytes(8), b"\xc7\x00\x05", b"\xc1", b"\xa2\xff\xfe"))
            case 3:
                return dice.choice((b"\x81\x80\x01", b"\x81\x91\x90\x01", b"\x82\xa1k\x01\xa1k\x02", b"\x81\xc0\xc0"))
            case 4:
                return dice.choice((b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7, b"\xff", b"\xcb" + b"\xff" * 8))
            case _:
                return msgspec.msgpack.encode(self.value(2))

    def noise(self) -> bytes:
        """Bytes."""
        return self._dice.randbytes(self._dice.choice((0, 1, 2, 5, 20, 100)))

    def nested(self) -> bytes:
        """Deeper than anybody means; rarely, since it is long."""
        dice = self._dice
        if dice.randrange(50):
            return self.built()
        depth = dice.choice((10, 500, 1100, 5000))
        inner = dice.choice((b"\x91", b"\x81\xa1k", b"\x81")) * depth + dice.choice((b"", b"\xc0"))
        return dice.choice((b"\x94\x10\xa1h", b"\x95\x11\x01\xa1h", b"\x93\x21\x01", b"")) + inner


class Hatch:
    """In the place of a node's transport: what it receives is made here, what it sends is counted."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, bytes | memoryview]] = []
        self.said = 0

    def has_input(self) -> bool:
        return bool(self.frames)

    def receive(self) -> tuple[bytes, bytes | memoryview] | None:
        return self.frames.pop() if self.frames else None

    def send(self, to: bytes, frame: bytes) -> None:
        assert to in STRANGERS
        wire.decode_answer(frame)
        self.said += 1

    def wake(self) -> None:
        """Nobody waits."""


class Report:
    """What came of a run. Growth is of the process's memory, in KiB, after the first tenth."""

    def __init__(self) -> None:
        self.inputs = self.bad = self.taken = self.refused = self.said = self.growth_kib = 0
        self.seconds = 0.0

    def __str__(self) -> str:
        return (
            f"{self.inputs} inputs in {self.seconds:.1f} s: {self.bad} unreadable, {self.taken} taken in, "
            f"{self.refused} refused, {self.said} answers; memory grew by {self.growth_kib} KiB"
        )


def run(folder: Path, inputs: int, seed: int) -> Report:
    """
    Put so many frames through a node's take-in path, from strangers and from a peer with open messages.

    Raises:
        AssertionError: something was counted wrongly, or grew; and whatever a frame made the node raise.
    """
    node = Node(str(make_run_dir(folder)), MailboxSpec("fuzzed", 1, limit=LIMIT))
    try:
        return _run(node, inputs, seed)
    finally:
        node.close()


def _run(node: Node, inputs: int, seed: int) -> Report:
    report, hatch, frames = Report(), Hatch(), iter(Frames(seed))
    real, node.transport = node.transport, hatch  # type: ignore[assignment]  # as much of one as is needed
    peer = Peer(Record("peer", 1, 0, 0, "peer"), 0, 100)
    peer.alias = PEER
    node.peers.by_alias[PEER] = peer
    dice = random.Random(seed + 1)
    begun_s, measured = time.monotonic(), 0
    try:
        while report.inputs < inputs:
            _open_some(peer)
            for _ in range(200):
                frame = next(frames)
                routing = PEER if dice.randrange(3) == 0 else dice.choice(STRANGERS)
                hatch.frames.append((routing, memoryview(frame) if dice.randrange(4) == 0 else frame))
            report.inputs += 200
            with node.locked():
                node._take_in()
            _check(node, peer)
            _drain(node, dice)
            if not measured and report.inputs >= inputs // 10:
                measured = _memory_kib()
    finally:
        node.transport = real
        del node.peers.by_alias[PEER]
    report.seconds = time.monotonic() - begun_s
    report.growth_kib = _memory_kib() - measured
    report.bad, report.taken, report.refused = node.stats.bad, node.mailbox.accepted, node.mailbox.refused
    report.said = hatch.said
    return report


def _open_some(peer: Peer) -> None:
    for id in range(8):
        if id not in peer.ledger.open:
            peer.ledger.sent(id, Awaits(id % 2), "peer", "h")


def _check(node: Node, peer: Peer) -> None:
    waiting = [item for item in node.mailbox.waiting if isinstance(item, Envelope)]
    assert len(waiting) == len(node.mailbox.waiting) <= LIMIT
    assert node.mailbox.size == sum(item.size for item in waiting)
    assert set(peer.ledger.open) <= set(range(8))


def _drain(node: Node, dice: random.Random) -> None:
    """Rarely, so that it is full now and then."""
    for _ in range(dice.randrange(LIMIT + 1) if dice.randrange(4) == 0 else 0):
        node.mailbox.next()


def _memory_kib() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024
