"""The queue of a mailbox: what is taken in, what is refused, in which order it comes out."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from regrow.ipc import hub_wire
from regrow.ipc.delivery import refusal_error
from regrow.ipc.down import Down
from regrow.ipc.errors import Backpressure
from regrow.ipc.mailbox import NO_ID, Envelope, Mailbox, Signal, closing
from regrow.ipc.remote_waits import error_of
from regrow.ipc.wire import Call, Cast, Refusal, Request, Send
from regrow.workers.system.hub_calls import described

LIMIT, LIMIT_BYTES = 4, 100


class Model(RuleBasedStateMachine):
    """Against a plain list of what should be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox = Mailbox(LIMIT, LIMIT_BYTES)
        self.expected: deque[Any] = deque()
        self.accepted = self.refused = self.numbers = 0
        self.closed = False

    def messages(self) -> list[tuple[int, str, int]]:
        return [item for item in self.expected if isinstance(item, tuple)]

    @rule(kind=st.sampled_from(["cast", "send", "call"]), size=st.integers(1, 60))
    def comes(self, kind: str, size: int) -> None:
        """A message of some size."""
        self.numbers += 1
        number = self.numbers
        call = Call(number, "h", chain=("a",))
        kinds: dict[str, Request] = {"cast": Cast("h"), "send": Send(number, "h"), "call": call}
        request = kinds[kind]
        used = sum(size for _, _, size in self.messages())
        room = len(self.messages()) < LIMIT and used + size <= LIMIT_BYTES and not self.closed
        refusal = self.mailbox.take(b"from", request, size)
        if room:
            assert refusal is None
            self.accepted += 1
            self.expected.append((number, kind, size))
            assert self.mailbox.refused_in_a_row == 0
            return
        self.refused += 1
        assert isinstance(refusal, Refusal)
        assert refusal.id == (NO_ID if kind == "cast" else number)
        if self.closed:
            assert (refusal.code, refusal.text) == ("shutdown", "it stops")
        else:
            assert refusal.code == "backpressure"
            of_bytes = {"size", "limit_bytes"} if len(self.messages()) < LIMIT else set()
            assert set(refusal.details) == {"length", "limit"} | of_bytes

    @rule(signal=st.booleans())
    def news(self, signal: bool) -> None:
        """News are taken in however full it is."""
        item = Signal("topic", 1) if signal else Down("a", 1, reason="killed")
        self.mailbox.tell(item)
        self.expected.append(item)

    @rule()
    def out(self) -> None:
        """The oldest comes first."""
        item = self.mailbox.next()
        expected = self.expected.popleft() if self.expected else None
        if isinstance(expected, tuple):
            number, kind, size = expected
            assert isinstance(item, Envelope)
            assert item.id == (None if kind == "cast" else number)
            assert (item.is_call, item.size, item.routing) == (kind == "call", size, b"from")
            assert item.chain == (("a",) if kind == "call" else ())
        else:
            assert item is expected

    @precondition(lambda self: any(isinstance(item, Down) for item in self.expected))
    @rule(data=st.data())
    def untell(self, data: st.DataObject) -> None:
        """A death is taken back once."""
        down = data.draw(st.sampled_from([item for item in self.expected if isinstance(item, Down)]))
        assert self.mailbox.untell(down)
        assert not self.mailbox.untell(down)
        self.expected = deque(item for item in self.expected if item is not down)

    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        """What waits is handed back, in order, and nothing comes in any more."""
        if really:
            return
        left = self.mailbox.close("shutdown", "it stops")
        assert [item.size for item in left] == [size for _, _, size in self.messages()]
        self.closed = True
        self.expected.clear()

    @invariant()
    def adds_up(self) -> None:
        """Counters and sizes are those of what is in it."""
        assert self.mailbox.size == sum(size for _, _, size in self.messages())
        assert self.mailbox.news == len(self.expected) - len(self.messages())
        assert len(self.mailbox.waiting) == len(self.expected)
        assert (self.mailbox.accepted, self.mailbox.refused) == (self.accepted, self.refused)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestMailbox = Model.TestCase


def test_limits_are_told() -> None:
    """A refusal for its number says the number; one for its bytes as well, with what is there."""
    mailbox = Mailbox(2, 100)
    mailbox.take(b"", Cast("h"), 1)
    mailbox.take(b"", Cast("h"), 1)
    refusal = mailbox.take(b"", Send(7, "h"), 1)
    assert refusal is not None
    assert (refusal.code, refusal.details) == ("backpressure", {"length": 2, "limit": 2})


def test_first_refusal_is_seen() -> None:
    """At the first refusal in a row it has just filled up; room in between starts it over."""
    mailbox = Mailbox(1)
    mailbox.take(b"", Cast("h"), 1)
    seen = []
    for _ in range(3):
        mailbox.take(b"", Cast("h"), 1)
        seen.append(mailbox.refused_in_a_row)
    mailbox.next()
    mailbox.take(b"", Cast("h"), 1)
    mailbox.take(b"", Cast("h"), 1)
    assert [*seen, mailbox.refused_in_a_row] == [1, 2, 3, 1]


def test_closing_answers_calls_only() -> None:
    """What waited when it was closed: a call is answered, a send was accepted before."""
    call, send = Envelope(b"r", Call(3, "h"), 1), Envelope(b"r", Send(4, "h"), 1)
    refusal = closing(call, "shutdown", "bye")
    assert refusal is not None
    assert (refusal.id, refusal.code, refusal.text) == (3, "shutdown", "bye")
    assert send.id == 4
    assert not send.is_call


class Touchy:
    """Raises when it is looked at."""

    def __get__(self, _instance: object, _owner: type) -> None:
        raise RuntimeError("ask an instance")


class Pricer:
    """Has one method that could be a handler."""

    limit = Touchy()

    def rate(self) -> None: ...


def test_a_handler_that_there_is_not_is_refused_at_the_door() -> None:
    """Sends and calls hear at once which handlers there are; a cast is taken, for the agent to complain of."""
    mailbox = Mailbox()
    mailbox.handlers, mailbox.owner = {"quote": 1, "stop": 2}, Pricer
    for request in (Send(1, "quota"), Call(2, "quota")):
        refusal = mailbox.take(b"r", request, 10)
        assert refusal is not None
        assert (refusal.id, refusal.code) == (request.id, "bad_request")
        assert refusal.text == "no handler quota; Pricer has quote, stop"
    refusal = mailbox.take(b"r", Call(4, "rate"), 10)
    assert refusal is not None
    assert refusal.text == "no handler rate; Pricer has quote, stop; its method rate lacks @handler"
    refusal = mailbox.take(b"r", Call(5, "limit"), 10)
    assert refusal is not None
    assert refusal.text == "no handler limit; Pricer has quote, stop"
    assert mailbox.take(b"r", Send(3, "quote"), 10) is None
    assert mailbox.take(b"r", Cast("quota"), 10) is None
    assert (mailbox.accepted, mailbox.refused, mailbox.refused_in_a_row) == (2, 4, 0)


def test_sender_hears_which_limit_it_was() -> None:
    """Of the number of messages, or of their bytes; over the hub, too."""
    mailbox = Mailbox(10, 100)
    assert mailbox.take(b"routing", Send(1, "any"), 90) is None
    refusal = mailbox.take(b"routing", Send(2, "any"), 20)
    assert refusal is not None
    error = refusal_error("me", refusal)
    assert isinstance(error, Backpressure)
    assert str(error) == (
        "cannot send to me: its mailbox holds 1 messages of 90 bytes, with this one more than the 100 that it takes; "
        "send slower"
    )
    assert (error.length, error.limit, error.size, error.limit_bytes) == (1, 10, 90, 100)
    code, text, details = described(error)
    assert str(error_of("me", "any", hub_wire.Refusal(2, code, text, details))) == str(error)
    said = "cannot send to me: its mailbox holds 10 messages of at most 10; send slower"
    assert str(Backpressure("me", 10, 10)) == said
