"""What comes to a member of a group that has said its last word: its sender learns for certain what became of it."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agents import TIMEOUT_S, House

from regrow.ipc.delivery import Awaits, Pending
from regrow.ipc.errors import NoProcess, ProcessDown, Refused
from regrow.ipc.node import Node
from regrow.ipc.points import Point, install
from regrow.ipc.transport import Transport
from regrow.ipc.wire import Closing

FIRST = {"Pricer": ("quote", "A1"), "Waiter": ("open", "A1")}
"""What agents of both kinds are asked."""


class Pair:
    """
    A group of two. The first of them, when it has said its last word, waits until it is let go.

    Who asks the group first chooses that one, and calls `before_connecting` before it connects.
    """

    def __init__(self, house: House, agent: str) -> None:
        self.house = house
        self.agent = agent
        self.ours, theirs = socket.socketpair()
        test = os.getpid()

        def hold(point: Point) -> None:
            if point is Point.LAST_WORD_SAID and os.getpid() != test and os.environ["REGROW_NAME"] == "g.0":
                theirs.send(b"!")
                match theirs.recv(1):
                    case b"k":
                        os.kill(os.getpid(), signal.SIGKILL)
                    case b"s":
                        _stop_again_at_close()

        install(hold)
        environ = {"REGROW_GROUP": "g", "REGROW_REPLICAS": "2"}
        self.first, self.second = (house.start(f"fleet:{agent}", f"g.{n}", environ=environ) for n in range(2))
        theirs.close()
        self.node._turns["g"] = 1
        self.before_connecting: Callable[[], None] = self.stop_first
        self._connect = self.node.transport.connect
        self.node.transport.connect = self._late_connect  # type: ignore[method-assign]

    @property
    def node(self) -> Node:
        return self.house.node

    def _late_connect(self, file: str) -> bytes:
        meanwhile, self.before_connecting = self.before_connecting, lambda: None
        meanwhile()
        return self._connect(file)

    def await_last_word(self) -> None:
        self.ours.settimeout(TIMEOUT_S)
        assert self.ours.recv(1) == b"!"

    def stop_first(self) -> None:
        self.first.signal(signal.SIGTERM)
        self.await_last_word()

    def end_first(self) -> None:
        self.stop_first()
        self.let_go()

    def let_go(self, how: bytes = b".") -> int:
        """The first one goes on, or is killed; how it has ended."""
        self.ours.send(how)
        return self.first.wait()

    def await_meeting(self) -> None:
        """Until the connection to the first one stands: only then can anything be sent."""
        transport, end = self.node.transport, select.poll()
        end.register(transport.monitor_fd, select.POLLIN)
        transport.watch_connections()
        while not any(file.startswith("g.0") for file in transport.met):
            assert end.poll(1000 * TIMEOUT_S)
            transport.watch_connections()

    def close(self) -> None:
        install(None)
        self.ours.close()


def _stop_again_at_close() -> None:
    real = Transport.close

    def close(transport: Transport, linger_s: float = 0.0) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(transport, linger_s)

    Transport.close = close  # type: ignore[method-assign, assignment]


@pytest.fixture
def pair(house: House, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """With plain handlers, unless the test says otherwise."""
    made = Pair(house, getattr(request, "param", "Pricer"))
    yield made
    made.close()


def asked(pair: Pair, to: str, awaits: Awaits = Awaits.REPLY) -> Pending:
    """A message that is the first on its connection."""
    handler, *args = FIRST[pair.agent]
    return pair.node.submit(awaits, to, handler, args, {})


both = pytest.mark.parametrize("pair", list(FIRST), indirect=True)


@both
@pytest.mark.parametrize("awaits", list(Awaits))
def test_first_message_comes_too_late(pair: Pair, awaits: Awaits) -> None:
    """Nobody has ever heard of who sent it, and nobody takes it: it goes to the other member, call or send."""
    pending = asked(pair, "g", awaits)
    assert pending.to == "g.0"
    pair.await_meeting()
    assert pair.let_go() == 0
    pair.house.outcome(pending)
    assert pending.to == "g.1"


@both
def test_first_message_never_leaves(pair: Pair) -> None:
    """Who was chosen is dead before it can be connected to."""
    pair.before_connecting = pair.end_first
    pending = asked(pair, "g")
    pair.house.outcome(pending)
    assert pending.to == "g.1"


def test_first_message_to_one_alone(pair: Pair) -> None:
    """What went to the member by its own name is refused: it was not begun."""
    pending = asked(pair, "g.0")
    pair.await_meeting()
    pair.let_go()
    with pytest.raises(Refused) as caught:
        pair.house.outcome(pending)
    assert caught.value.code == "shutdown"


def test_killed_before_it_is_on_record(pair: Pair) -> None:
    """Then nobody knows what it has taken, and nothing is sent again."""
    pending = asked(pair, "g")
    pair.await_meeting()
    assert pair.let_go(b"k") == -signal.SIGKILL
    with pytest.raises(ProcessDown):
        pair.house.outcome(pending)
    assert pending.to == "g.0"


def test_connected_twice(pair: Pair) -> None:
    """What it has said may have gone to a connection that was lost."""
    pending = asked(pair, "g")
    pair.await_meeting()
    pair.node.transport.met.clear()
    pair._connect(pair.node.peers.by_name["g.0"].record.mailbox)
    pair.await_meeting()
    pair.let_go()
    with pytest.raises(ProcessDown):
        pair.house.outcome(pending)


def test_taken_and_never_answered(pair: Pair) -> None:
    """A handler that ends its agent was begun: nobody else is to begin it."""
    pair.before_connecting = lambda: None
    pending = pair.house.submit("g", "exits", 0)
    pair.await_last_word()
    assert pair.let_go() == 0
    with pytest.raises(ProcessDown):
        pair.house.outcome(pending)
    assert (pending.to, pair.house.call("g.1", "quote", "A1")) == ("g.0", 1.5)


def test_after_the_last_word(pair: Pair) -> None:
    """Who has heard it asks this one no more, though it lives."""
    pair.before_connecting = lambda: None
    assert pair.house.call("g.0", "quote", "A1") == 1.5
    pair.stop_first()
    peer = pair.node.peers.by_name["g.0"]
    while not peer.ledger.is_closed:
        assert pair.house.call("g.1", "quote", "A1") == 1.5
    with pytest.raises(NoProcess):
        pair.house.call("g.0", "quote", "A1")
    assert not pair.node.cast("g.0", "quote", ("A1",), {})
    assert not peer.is_dead()
    pair.let_go()


def test_stopped_while_there_was_no_room(pair: Pair) -> None:
    """The member was chosen, and to make room for more on the way there was to hear that it has stopped."""
    pair.before_connecting = lambda: None
    assert pair.house.call("g.0", "quote", "A1") == 1.5
    ledger, turn = pair.node.peers.by_name["g.0"].ledger, pair.node._turn

    def hear_it(*until: Any) -> bool:
        pair.node._turn = turn  # type: ignore[method-assign]
        ledger.answered(Closing(0))
        return turn(*until)

    pair.node.limit, pair.node._turn, pair.node._turns["g"] = 0, hear_it, 1  # type: ignore[method-assign, assignment]
    pending = pair.house.submit("g", "quote", "A1")
    assert (pair.house.outcome(pending), pending.to) == (1.5, "g.1")


@both
def test_a_second_stop_signal(pair: Pair) -> None:
    """It comes while the last words leave, and does not keep them from it: the end is as it was asked for."""
    pair.stop_first()
    assert pair.let_go(b"s") == 0
