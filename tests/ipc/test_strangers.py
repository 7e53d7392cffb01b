"""Whoever comes to a mailbox's socket, and whatever is said there: nothing breaks, and friends are served."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import fuzz
import msgspec
import pytest
import zmq
from agents import house
from boxes import Box
from siblings import TIMEOUT_S

from regrow.ipc import Client, wire
from regrow.ipc.awaited import MailboxSpec
from regrow.ipc.bell import MBOX, SUFFIX
from regrow.ipc.delivery import Awaits
from regrow.ipc.node import Node


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """ZeroMQ as a stranger has it."""
    made = zmq.Context()
    yield made
    made.destroy(0)


@pytest.fixture
def stranger(box: Box, run_dir: Path, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """A DEALER at the box's mailbox."""
    return knock(context, run_dir)


def mailbox(run_dir: Path) -> str:
    """The address of the only one."""
    (name,) = [name for name in os.listdir(run_dir / MBOX) if not name.endswith(SUFFIX)]
    return f"{run_dir}/{MBOX}/{name}"


def knock(context: zmq.Context[zmq.Socket[bytes]], run_dir: Path) -> zmq.Socket[bytes]:
    """Connect."""
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"ipc://{mailbox(run_dir)}")
    dealer.rcvtimeo = dealer.sndtimeo = int(TIMEOUT_S * 1000)
    return dealer


def bad(client: Client) -> int:
    """How many frames the box could not read."""
    count: int = client.call("box", "stats")[0]
    return count


def test_any_language_may_call(stranger: zmq.Socket[bytes]) -> None:
    """Bytes written by hand are answered with the documented bytes."""
    stranger.send(b"\x96\x12\x07\xa4echo\x92\x01\xa1x\x80\x90")
    assert stranger.recv() == b"\x93\x21\x07\x92\x01\xa1x"
    for id in (1, 2, 3, 9):
        stranger.send(b"\x95\x11" + bytes([id]) + b"\xa4note\x91\x05\x80")
    runs: list[int] = []
    while sum(last - first + 1 for first, last in zip(runs[::2], runs[1::2], strict=True)) < 4:
        answer = wire.decode_answer(stranger.recv())
        assert isinstance(answer, wire.Accepted)
        runs += answer.runs
    accepted = [id for first, last in zip(runs[::2], runs[1::2], strict=True) for id in range(first, last + 1)]
    assert sorted(accepted) == [1, 2, 3, 9]


def test_garbage_is_dropped_or_answered(stranger: zmq.Socket[bytes], client: Client) -> None:
    """What bears an id is answered with bad_request; the rest is counted; friends notice nothing."""
    silent = [b"", b"\xc1", b"hello", b"\x93\x12", os.urandom(100), b"\x80", b"\x92\x10\x05"]
    told = [b"\x93\x12\x05\x05", b"\x93\x60\x05\x01", b"\x94\x11\x05\xa1\xff\x90"]
    for frame in (*silent, *told):
        stranger.send(frame)
    for _ in told:
        refusal = wire.decode_answer(stranger.recv())
        assert isinstance(refusal, wire.Refusal)
        assert (refusal.id, refusal.code) == (5, "bad_request")
    assert bad(client) == len(silent) + len(told)
    assert client.call("box", "echo", 1) == [1]


def test_several_frames_are_no_message(stranger: zmq.Socket[bytes], client: Client) -> None:
    """A message of two frames, or of a thousand, is one that cannot be read."""
    good = b"\x96\x12\x07\xa4echo\x90\x80\x90"
    stranger.send_multipart([good, good])
    stranger.send_multipart([b"", good])
    stranger.send_multipart([good] * 1000)
    stranger.send(good)
    assert stranger.recv() == b"\x93\x21\x07\x90"
    assert bad(client) == 3


def test_answers_of_strangers_mean_nothing(stranger: zmq.Socket[bytes], box: Box, client: Client) -> None:
    """Forged replies, acceptances and refusals are unreadable requests."""
    held = client.send_request("box", "hold")
    assert box.hear() == "holding"
    for id in range(1, 20):
        stranger.send(wire.encode(wire.Reply(id, msgspec.Raw(b"\xa6forged"))))
        stranger.send(wire.encode(wire.Refusal(id, "shutdown")))
        stranger.send(wire.encode(wire.Accepted((0, id))))
    box.say("genuine")
    assert held.wait_response() == "genuine"
    while (count := bad(client)) < 57:  # they come by another connection
        pass
    assert count == 57


def test_forged_answers_to_a_sender(run_dir: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """A node that waits for an answer of one peer takes none from whoever connects to its own mailbox."""
    with Box(run_dir) as box:
        (peer_file,) = os.listdir(run_dir / MBOX)
        node = Node(str(run_dir), MailboxSpec("asker", 1))
        try:
            (own,) = [name for name in os.listdir(run_dir / MBOX) if name != peer_file]
            pending = node.submit(Awaits.REPLY, "box", "hold", (), {})
            assert box.hear() == "holding"
            with context.socket(zmq.DEALER) as forger:
                forger.routing_id = peer_file.encode()[:8]
                forger.connect(f"ipc://{run_dir}/{MBOX}/{own}")
                for id in range(1, 5):
                    forger.send(wire.encode(wire.Reply(id, msgspec.Raw(b"\xa6forged"))))
                while node.stats.bad < 4:
                    node.accept()
            assert not pending.done
            box.say("genuine")
            assert node.wait(pending, float("inf"))
            assert pending.value is not None
            assert bytes(pending.value) == b"\xa7genuine"
        finally:
            node.close()


def test_too_long(stranger: zmq.Socket[bytes], run_dir: Path, client: Client) -> None:
    """A frame beyond 16 MiB costs its sender the connection, and nobody else anything."""
    stranger.send(b"x" * (wire.MAX_MESSAGE_BYTES + 1))
    assert client.call("box", "echo", 1) == [1]
    stranger.send(b"\x96\x12\x07\xa4echo\x90\x80\x90")  # ZeroMQ has connected it again
    assert stranger.recv() == b"\x93\x21\x07\x90"
    assert bad(client) == 0


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + b"\0" * 100,
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE" + b"\0" * 100,
        b"\0" * 10_000,
        b"\xff" * 10_000,
    ],
    ids=["nothing", "http", "short", "curve", "zeroes", "ones"],
)  # fmt: skip
def test_what_is_no_zeromq(box: Box, run_dir: Path, client: Client, said: bytes) -> None:
    """Other protocols, half a greeting, silence: many at once, and friends are served meanwhile and afterwards."""
    plain = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(30)]
    fd = os.open(run_dir, os.O_PATH | os.O_CLOEXEC)
    try:
        for each in plain:
            each.connect(f"/proc/self/fd/{fd}/{MBOX}/{os.path.basename(mailbox(run_dir))}")
            try:
                each.sendall(said)
            except BrokenPipeError:
                pass  # it has understood already
        assert client.call("box", "echo", 1) == [1]
    finally:
        os.close(fd)
        for each in plain:
            each.close()
    assert client.call("box", "echo", 2) == [2]


def test_thousands_come_and_go(run_dir: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """A process that looks at none of it for long still closes at once: what it was told of connections is no dam."""
    node = Node(str(run_dir), MailboxSpec("busy", 1))
    node.announce()
    fd = os.open(run_dir, os.O_PATH | os.O_CLOEXEC)
    try:
        name = os.path.basename(mailbox(run_dir))
        for _ in range(2500):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
                plain.connect(f"/proc/self/fd/{fd}/{MBOX}/{name}")
        with knock(context, run_dir) as dealer:
            dealer.send(b"\x95\x11\x05\xa4note\x90\x80")
            while not node.mailbox.accepted:
                node.accept()
            assert wire.decode_answer(dealer.recv()) == wire.Accepted((5, 5))
    finally:
        os.close(fd)
        node.close()


def test_who_does_not_read_its_answers(stranger: zmq.Socket[bytes], client: Client) -> None:
    """Its answers are dropped when too many wait; nothing grows without end, and friends are served."""
    frame = b"\x96\x12\x07\xa4full\x91\xcd\x07\xd0\x80\x90"  # two thousand bytes are asked for
    stranger.setsockopt(zmq.SNDTIMEO, 100)
    for _ in range(30_000):
        try:
            stranger.send(frame)
        except zmq.Again:
            break
    assert client.call("box", "echo", 1, timeout=TIMEOUT_S) == [1]


def test_fuzzed_over_the_socket(
    run_dir: Path, client: Client, context: zmq.Context[zmq.Socket[bytes]], dice: random.Random
) -> None:
    """Three thousand frames of every kind, from three connections; then a friend calls."""
    frames = iter(fuzz.Frames(dice.randrange(1 << 32)))
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(knock(context, run_dir)) for _ in range(3)]
        for number in range(3000):
            doors[number % 3].send(next(frames))
        for door in doors:
            door.send(b"\x96\x12\xcd\xff\x07\xa6whoami\x90\x80\x90")
        for door in doors:
            while (answer := door.recv())[:5] != b"\x93\x21\xcd\xff\x07":
                wire.decode_answer(answer)
    assert client.call("box", "echo", 1, timeout=TIMEOUT_S) == [1]


def test_fuzzed_agent(tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]], dice: random.Random) -> None:
    """An agent with typed handlers gets four thousand frames: each has its answer or none, and the agent lives."""
    frames = iter(fuzz.Frames(dice.randrange(1 << 32), ("note", "quote", "seen", "whoami")))
    with house(tmp_path) as home, contextlib.ExitStack() as stack:
        agent = home.start("fuzzed_agent:Clerk", "clerk")
        door = stack.enter_context(knock(context, home.run_dir))
        for _ in range(4000):
            door.send(next(frames))
        door.send(b"\x96\x12\xcd\xff\x07\xa6whoami\x90\x80\x90")
        while (answer := door.recv())[:5] != b"\x93\x21\xcd\xff\x07":
            wire.decode_answer(answer)
        assert home.call("clerk", "whoami") == "clerk"
        assert not any("X_REGROW_EXCEPTION" in fields for fields in agent.said)
        assert agent.stop() == 0


def test_fuzzed_in_process(tmp_path: Path, dice: random.Random) -> None:
    """A part of `python -m tests.storm.fuzz`: nothing is raised, counted wrongly or kept."""
    report = fuzz.run(tmp_path / "fuzzed", 40_000, dice.randrange(1 << 32))
    assert report.inputs == 40_000
    assert min(report.bad, report.taken, report.refused, report.said) > 100
    assert report.growth_kib < 20_000


@pytest.fixture
def dice() -> random.Random:
    """Randomness whose seed is shown when the test fails; REGROW_TEST_SEED repeats it."""
    seed = int(os.environ.get("REGROW_TEST_SEED", random.randrange(1 << 32)))
    sys.stdout.write(f"REGROW_TEST_SEED={seed}\n")
    return random.Random(seed)
