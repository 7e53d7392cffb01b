"""Garbage at the hub: whatever comes, it is refused or dropped, and the hub serves on and does not grow."""

from __future__ import annotations

import gc
import os
import random
import socket
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hub_host import HubHost, RawClient, value

from regrow.ipc import hub_wire
from regrow.ipc.hub_wire import Done, Refusal, decode_from_hub, pack
from regrow.ipc.may import VIEWING
from regrow.workers.system.hub_board import Board, Subscriber
from regrow.workers.system.hub_gateway import Answered, Died, Gateway, NotAnswered
from regrow.workers.system.hub_peer import Handle, Peer
from regrow.workers.system.hub_timers import Timers

INPUTS = int(os.environ.get("REGROW_FUZZ_INPUTS", "30000"))
"""More than a million were tried once; this is for every run."""

SEED = int(os.environ.get("REGROW_FUZZ_SEED", str(random.randrange(1 << 32))))
EXAMPLES: list[hub_wire.ToHub] = [
    hub_wire.Hello(1, "token"), hub_wire.Hello(2), hub_wire.Ping(1), hub_wire.Send(4, "actor", "note", timeout_s=1.5),
    hub_wire.Call(2, "actor", "echo", pack([1]), pack({"k": [{}]})),
    hub_wire.Call(3, hub_wire.Pick("by_key", "actor", {"k": 1}), "echo"),
    hub_wire.Cast("actor", "note", pack(["x" * 40])), hub_wire.Cancel(2), hub_wire.Monitor(5, "actor"),
    hub_wire.Demonitor(6, 5), hub_wire.Publish(7, "a.b", pack({"deep": [[[[1.5, None, b"x"]]]]})),
    hub_wire.Subscribe(8, "a.>"), hub_wire.Unsubscribe(9, "a.>"), hub_wire.Credit(5), hub_wire.Replay(10, 0),
    hub_wire.Control(11, "status", {"names": ["a"], "x": {"y": 1}}), hub_wire.Whereis(12, "actor"), hub_wire.Bye(),
    hub_wire.Signal("a.b", pack("x")),
    hub_wire.Post(13, "actor", "note", pack([1]), pack({"k": 2}), 2.0, "o-1", 60.0),
    hub_wire.Post(14, hub_wire.Pick("by_key", "actor", 1), "note"),
]  # fmt: skip


class Under:
    """A handle that somebody may have given up."""

    def __init__(self) -> None:
        self.is_over = False

    def cancel(self) -> bool:
        was, self.is_over = self.is_over, True
        return not was


class Ports:
    """Processes, a root and records of straw: some answer at once, some later, some never."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.later: list[tuple[Under, Any]] = []

    def _some_time(self, tell: Any) -> Handle:
        under = Under()
        match self._chance.randrange(3):
            case 0:
                tell()
            case 1:
                self.later.append((under, tell))
                if len(self.later) > 50:
                    under_then, then = self.later.pop(0)
                    if not under_then.is_over:
                        then()
        return under

    def call(self, request: hub_wire.Call | hub_wire.Send, done: Answered, failed: NotAnswered) -> Handle:
        if self._chance.random() < 0.5:
            return self._some_time(lambda: done(pack([str(request.to), request.handler])))
        return self._some_time(lambda: failed("noproc", "nobody", {}))

    def cast(self, request: hub_wire.Cast) -> None:
        bytes(request.args)

    def post(self, request: hub_wire.Post, done: Answered, failed: NotAnswered) -> Handle:
        return self._some_time(lambda: done(pack(request.post or "made up")))

    def monitor(self, name: str, down: Died) -> Handle:
        return self._some_time(lambda: down(name, 1, {"reason": "exit", "code": 1}))

    def whereis(self, name: str) -> Mapping[str, Any] | None:
        return {"name": name} if self._chance.random() < 0.5 else None

    def request(self, verb: str, fields: Mapping[str, Any], done: Answered, failed: NotAnswered) -> Handle:
        return self._some_time(lambda: done(pack(dict(fields)) if verb == "status" else hub_wire.NIL))

    def claim(self, token: str, pid: int) -> Subscriber | None:
        return None

    def forget(self, token: str) -> None:
        raise AssertionError("nothing was claimed")


def inputs(chance: random.Random) -> Iterator[bytes]:
    """Noise, messages with changed, cut and added bytes, and well-formed messages of the wrong shape."""
    frames = [hub_wire.encode(message) for message in EXAMPLES]
    nonsense: list[Any] = [None, True, -1, 0, 1, 2**64 - 1, -(2**63), 1.5, float("nan"), "", "x", b"x", [], {}, [1]]
    nonsense += [{"a": 1}, "a.b"]
    while True:
        frame = bytearray(chance.choice(frames))
        match chance.randrange(6):
            case 0:
                yield chance.randbytes(chance.randrange(40))
            case 1:
                for _ in range(chance.randrange(1, 4)):
                    frame[chance.randrange(len(frame))] = chance.randrange(256)
                yield bytes(frame)
            case 2:
                yield bytes(frame[: chance.randrange(len(frame))])
            case 3:
                yield bytes(frame) + chance.randbytes(chance.randrange(1, 9))
            case 4:
                kind = chance.randrange(0x28, 0x62)
                yield msgspec.msgpack.encode([kind, *(chance.choice(nonsense) for _ in range(chance.randrange(7)))])
            case _:
                # As it is, but for its id: so that some get through, many at a time.
                fields = msgspec.msgpack.decode(frame)
                if len(fields) > 1 and isinstance(fields[1], int):
                    fields[1] = chance.randrange(1, 5_000)
                yield msgspec.msgpack.encode(fields)


@pytest.mark.timeout(600)
def test_dispatcher_takes_anything() -> None:
    """No input makes the hub's dispatcher raise, or answer with anything but its own messages, or grow."""
    chance = random.Random(SEED)
    ports = Ports(chance)
    timers = Timers()
    board = Board(lambda _subscriber, _count: None)
    gateway = Gateway(board, timers, ports, ports, ports)
    answers = 0

    def transmit(frame: bytes) -> bool:
        nonlocal answers
        answers += 1
        decode_from_hub(frame)
        return chance.random() < 0.99

    def connect() -> Peer:
        return Peer(transmit, "session", label="somebody", verbs=None if chance.random() < 0.5 else VIEWING)

    peers = [connect() for _ in range(5)]
    source = inputs(chance)
    before = 0
    tracemalloc.start()
    try:
        for number in range(INPUTS):
            which = chance.randrange(5)
            gateway.receive(peers[which], next(source))
            if chance.random() < 0.0005:
                gateway.close(peers[which])
                peers[which] = connect()
            if number == INPUTS // 3:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        for peer in peers:
            gateway.close(peer)
        ports.later.clear()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 4 << 20, f"{grown} bytes more, seed {SEED}"
    assert board._subscriptions.is_empty()
    assert len(timers) == 0
    assert gateway.received == INPUTS
    assert gateway.bad > INPUTS // 3, f"seed {SEED}"
    assert answers > INPUTS // 3


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A run_dir with a hub."""
    with closing(HubHost(tmp_path)) as made:
        made.start()
        yield made


def test_real_hub_takes_anything(host: HubHost) -> None:
    """Thousands of bad messages over the real socket are answered as such, and the hub serves as before."""
    chance = random.Random(SEED)
    source = inputs(chance)
    stranger, client = RawClient(host.run_dir), RawClient(host.run_dir)
    try:
        client.welcome()
        stranger.welcome()
        bad = 0
        for _ in range(50):
            for _ in range(100):
                frame = next(source)
                if frame[:2] not in (b"\x92\x3b", b"\x93\x40"):  # not what would make the counting below depend on it
                    stranger.socket.send(frame)
            for message in stranger_answers(stranger):
                bad += isinstance(message, Refusal)
        assert bad > 500, f"seed {SEED}"
        id = client.id()
        assert isinstance(client.answer(hub_wire.Ping(id)), Done)
    finally:
        stranger.close()
        client.close()


def stranger_answers(stranger: RawClient) -> list[hub_wire.FromHub]:
    """What was answered until the answer to a ping whose id no garbage has."""
    id = 1 << 40
    stranger.say(hub_wire.Ping(id))
    heard = []
    while (message := stranger.hear()) != Done(id, hub_wire.NIL) and getattr(message, "id", 0) != id:
        assert message is not None
        heard.append(message)
    return heard


def test_frames_and_sizes(host: HubHost) -> None:
    """Several frames are refused; more than 16 MiB end the connection, which comes back as a new one."""
    client = RawClient(host.run_dir)
    try:
        client.welcome()
        client.socket.send_multipart([b"\x92\x31\x01", b"more"])
        refusal = client.hear()
        assert isinstance(refusal, Refusal)
        assert "2" in refusal.text
        client.socket.send(b"\x93\x40\xa1a\xc6\x02\x00\x00\x00" + bytes(32 << 20))
        client.say(hub_wire.Ping(client.id()))
        heard = client.hear()
        while not isinstance(heard, hub_wire.Welcome):
            heard = client.hear()
            client.say(hub_wire.Ping(client.id()))
    finally:
        client.close()


def test_other_versions_and_unknown_kinds(host: HubHost) -> None:
    """Another version is told apart from nonsense, and answered under its id where it has one."""
    client = RawClient(host.run_dir)
    try:
        client.welcome()
        client.socket.send(msgspec.msgpack.encode([0x61, 9, "x"]))
        message = client.hear()
        assert isinstance(message, Refusal)
        assert (message.id, message.code) == (9, "bad_request")
        assert "another version" in message.text
        client.say(hub_wire.Hello(9))
        message = client.hear()
        assert isinstance(message, Refusal)
        assert (message.code, message.details) == ("bad_version", {"versions": [1]})
    finally:
        client.close()


def test_strangers_without_zeromq(host: HubHost) -> None:
    """Raw bytes on the hub's socket, and connections that say nothing, disturb nobody."""
    client = RawClient(host.run_dir)
    strangers = []
    try:
        client.welcome()
        chance = random.Random(SEED)
        folder = os.open(host.run_dir, os.O_PATH)
        for number in range(100):
            stranger = socket.socket(socket.AF_UNIX)
            strangers.append(stranger)
            stranger.connect(f"/proc/self/fd/{folder}/{hub_wire.ENDPOINT}")
            try:
                stranger.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f" * (number % 3) + chance.randbytes(200))
            except BrokenPipeError:
                pass  # it was thrown out at once
        os.close(folder)
        assert value(client.answer(hub_wire.Publish(client.id(), "a.b", pack(1)))) == 0
    finally:
        for stranger in strangers:
            stranger.close()
        client.close()


def test_odd_names_and_keys(host: HubHost) -> None:
    """Whatever a client calls a receiver, a key, a verb or a token, it is told that there is none."""
    host.actor("actor.0")
    odd = ["\0", "\0sub:", "\0sub:x", "\1", ".", "..", "../mbox", "actor.", ".0", "a" * 500, "ü" * 250, "\uffff", "\n"]
    keys: list[Any] = [None, -1, 2**64 - 1, 1.5, float("nan"), b"\xff", [], {"a": [1]}, "x" * 100_000, True]
    with closing(RawClient(host.run_dir)) as client:
        client.welcome()
        for name in odd:
            for message in (
                hub_wire.Call(client.id(), name, name), hub_wire.Send(client.id(), name, name),
                hub_wire.Call(client.id(), hub_wire.Pick("round_robin", name), name),
                hub_wire.Control(client.id(), name, {name: name}),
            ):  # fmt: skip
                assert isinstance(client.answer(message), Refusal), name
            assert isinstance(client.answer(hub_wire.Monitor(client.id(), name)), hub_wire.Down), name
            assert value(client.answer(hub_wire.Whereis(client.id(), name))) is None
            client.say(hub_wire.Cast(name, name), hub_wire.Hello(1, name[:64]))
        for key in keys:
            for way in ("by_key", "least_outstanding"):
                found = client.answer(hub_wire.Call(client.id(), hub_wire.Pick(way, "actor", key), "echo"))
                assert isinstance(found, Done | Refusal), key
        assert client.hear_all() == []
