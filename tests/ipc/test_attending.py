"""Accepting in a thread of its own, while another thread sends over the same socket, or waits on it."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from boxes import Box

from regrow.ipc import waits, wire
from regrow.ipc.client import Client
from regrow.ipc.delivery import Awaits
from regrow.ipc.mailbox import Envelope
from regrow.ipc.node import MailboxSpec, Node
from regrow.ipc.verbs import Delivery

TIMEOUT_S = 10.0


@pytest.fixture(autouse=True)
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who attends does not look by himself in the time of a test."""
    monkeypatch.setattr(waits, "LOOK_S", 3600.0)


@pytest.fixture
def node(new_node: Callable[[str], Node]) -> Node:
    """One with the mailbox `me`."""
    return new_node("me")


@contextmanager
def attending(node: Node, looks: Callable[[], None]) -> Iterator[None]:
    """A thread attends, and calls this before each look."""
    over = threading.Event()

    def still() -> bool:
        looks()
        return not over.is_set()

    thread = threading.Thread(target=node.attend, args=(still,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        node.wake()
        thread.join(TIMEOUT_S)


def use_up_the_sign(node: Node) -> None:
    """Wait until something has come, and ask ZeroMQ for it; the caller holds the lock."""
    while not node.transport.has_input():
        assert select.select([node.transport.router_fd], [], [], TIMEOUT_S)[0]


def test_who_attends_looks_while_another_sends(node: Node, box: Box, client: Client) -> None:
    """Sending uses up the sign that something has come: it is found without one."""
    looked = threading.Event()
    with attending(node, looked.set):
        assert looked.wait(TIMEOUT_S)
        for number in range(2 * waits.SENT):
            node.cast(box.name, "note", (number,), {})
            with node.locked():
                delivery = client.send("me", "anything")
                use_up_the_sign(node)
            delivery.wait(TIMEOUT_S)


def test_who_sleeps_is_told_that_another_sends(node: Node, box: Box) -> None:
    """From the first message on it looks from time to time, until there was none for a while."""
    glances: SimpleQueue[bool] = SimpleQueue()
    with attending(node, lambda: glances.put(node._is_glancing)):
        for number in range(5):
            while glances.get(timeout=TIMEOUT_S):
                pass
            node.cast(box.name, "note", (number,), {})
            while not glances.get(timeout=TIMEOUT_S):
                pass


def between(node: Node, monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """
    Once, when a message was taken in and no other had come, let another come by `action`, and its sign be used up.

    Saying that the first was accepted may do so: ZeroMQ looks for what has come when it sends.
    """
    asks = node.transport.has_input

    def has_input() -> bool:
        found = asks()
        if not found and node.mailbox.waiting:
            monkeypatch.setattr(node.transport, "has_input", asks)
            action()
            use_up_the_sign(node)
        return found

    monkeypatch.setattr(node.transport, "has_input", has_input)


def test_a_reply_comes_while_acceptance_is_said(
    node: Node, run_dir: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it looks once more before sleeping."""
    other = Node(str(run_dir), MailboxSpec("other", 1))
    other.announce()
    pending = node.submit(Awaits.REPLY, "other", "anything", (), {})
    call = other.receive(TIMEOUT_S)
    assert isinstance(call, Envelope)
    client.send("me", "anything")
    between(node, monkeypatch, lambda: other.reply(call, wire.encode((wire.REPLY, call.id, 1))))
    assert node.wait(pending, float("inf"))
    other.close()


def test_a_message_comes_while_acceptance_is_said(
    node: Node, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who attends looks once more."""
    looked, later = threading.Event(), list[Delivery]()
    between(node, monkeypatch, lambda: later.append(client.send("me", "anything")))
    with attending(node, looked.set):
        assert looked.wait(TIMEOUT_S)
        client.send("me", "anything").wait(TIMEOUT_S)
        later[0].wait(TIMEOUT_S)


class Come:
    """What ZeroMQ has for a node, without a sign of it."""

    def __init__(self, node: Node, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = [(b"sender", wire.encode((0x11, id, "anything", (), {}))) for id in range(count)]
        self.all_taken = threading.Event()
        monkeypatch.setattr(node.transport, "receive", self._receive)
        monkeypatch.setattr(node.transport, "has_input", lambda: bool(self.left))

    def _receive(self) -> tuple[bytes, bytes] | None:
        found = self.left.pop(0) if self.left else None
        if not self.left:
            self.all_taken.set()
        return found


def signed(node: Node) -> None:
    """A thread that waits for a message hears that something has come."""
    with node.locked():
        node._is_signed = True
        node._turn(node.inbox)


def test_how_much_is_taken_in_at_a_sign(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message into an empty mailbox, and the rest later; where some wait, all that has come."""
    come = Come(node, 10, monkeypatch)
    signed(node)
    assert len(come.left) == 9
    signed(node)
    assert len(come.left) == 0
    assert len(node.mailbox.waiting) == 10


def test_who_attends_hears_of_what_another_has_left(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits takes the first message and goes, while the other is about to sleep: no sign is there for him."""
    begun, between, gone = threading.Event(), threading.Event(), threading.Event()
    glances: SimpleQueue[bool] = SimpleQueue()

    def looks() -> None:
        glances.put(node._is_glancing)
        if begun.is_set():
            between.set()
            assert gone.wait(TIMEOUT_S)

    with attending(node, looks):
        while not glances.get(timeout=TIMEOUT_S):
            pass
        while glances.get(timeout=TIMEOUT_S):
            pass
        begun.set()
        node.transport.wake()
        try:
            assert between.wait(TIMEOUT_S)
            come = Come(node, 2, monkeypatch)
            signed(node)
        finally:
            gone.set()
        assert come.all_taken.wait(TIMEOUT_S)
