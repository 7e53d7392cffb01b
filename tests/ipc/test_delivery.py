"""Each message has exactly one outcome, whatever is answered, in whatever order, and whoever dies."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec import Raw

from regrow.ipc.delivery import Awaits, Ledger, Pending, refusal_error
from regrow.ipc.down import Down
from regrow.ipc.errors import (
    Backpressure,
    BadRequest,
    CallTimeout,
    MessageError,
    ProcessDown,
    Refused,
    RemoteError,
)
from regrow.ipc.wire import MAX_ID, SHUTDOWN, Accepted, Closing, Refusal, Reply, Waiting

LIMIT = 6
forged = st.integers(-5, 40) | st.integers(0, MAX_ID)


class Outcomes(RuleBasedStateMachine):
    """Sent, answered, answered again, refused, given up, dead, in any order, with ids that nobody gave out."""

    pending = Bundle("pending")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(LIMIT)
        self.ids = 0
        self.all: list[Pending] = []
        self.settled: dict[int, int] = {}
        self.expected: dict[int, object] = {}

    def open(self) -> set[int]:
        return {pending.id for pending in self.all} - self.expected.keys()

    @rule(target=pending, awaits=st.sampled_from(Awaits))
    def send(self, awaits: Awaits) -> Any:
        """One more; beyond the limit it is refused, and nothing has changed."""
        self.ids += 1
        full = len(self.open()) >= LIMIT
        if full:
            with pytest.raises(Backpressure, match=f"holds {LIMIT} messages of at most {LIMIT}"):
                self.ledger.sent(self.ids, awaits, "a", "h")
            return None
        pending = self.ledger.sent(self.ids, awaits, "a", "h")
        self.all.append(pending)
        id = pending.id

        def count() -> None:
            self.settled[id] = self.settled.get(id, 0) + 1

        pending.callback = count
        return pending

    def expect(self, id: int, outcome: object) -> bool:
        if id not in self.open():
            return False
        self.expected[id] = outcome
        return True

    def awaits(self, id: int) -> Awaits | None:
        return next((pending.awaits for pending in self.all if pending.id == id and id in self.open()), None)

    @rule(id=forged)
    def reply(self, id: int) -> None:
        """An answer counts for the call that it is of, once; for a send, or for nothing, it does not count."""
        value = Raw(b"\xa2" + str(id % 90 + 10).encode())
        counts = self.awaits(id) is Awaits.REPLY and self.expect(id, ("reply", value))
        assert self.ledger.answered(Reply(id, value)) == counts

    @rule(runs=st.lists(forged, max_size=6))
    def accepted(self, runs: list[int]) -> None:
        """All sends of all runs, and no call; an odd number at the end is nothing."""
        count = 0
        for first, last in zip(runs[::2], runs[1::2], strict=False):
            for id in sorted(self.open()):
                if first <= id <= last and self.awaits(id) is Awaits.ACCEPTANCE:
                    count += self.expect(id, ("accepted", None))
        assert self.ledger.answered(Accepted(tuple(runs))) == count

    @rule(id=forged, code=st.sampled_from(["shutdown", "backpressure", "bad_request", "remote_error", "new"]))
    def refused(self, id: int, code: str) -> None:
        """Either kind may be refused."""
        counts = self.expect(id, ("refused", code))
        assert self.ledger.answered(Refusal(id, code, "why", {"length": 1})) == counts

    @rule(id=forged)
    def waiting(self, id: int) -> None:
        """It is no outcome."""
        assert self.ledger.answered(Waiting(id, ("a", "b"))) == 0

    @rule(pending=consumes(pending))
    def give_up(self, pending: Pending | None) -> None:
        """Given up, it has ended; what has ended is not given up."""
        if pending is None:
            return
        error = CallTimeout("a", "h", 0.0)
        assert self.ledger.give_up(pending, error) == self.expect(pending.id, ("given up", error))

    @rule(really=st.integers(0, 5))
    def down(self, really: int) -> None:
        """The death ends all that is open."""
        if really:
            return
        left = [id for id in self.open() if self.expect(id, ("down", None))]
        assert self.ledger.down(lambda pending: ProcessDown(Down("a", pending.id, reason="killed"))) == len(left)

    @invariant()
    def exactly_one(self) -> None:
        """Each is settled once or is open, as it was told first, and the ledger holds those that are open."""
        assert self.ledger.open.keys() == self.open()
        for pending in self.all:
            assert pending.done == (pending.id in self.expected)
            assert self.settled.get(pending.id, 0) == pending.done
            if pending.done:
                self.check(pending, self.expected[pending.id])

    def check(self, pending: Pending, outcome: Any) -> None:
        word, what = outcome
        match word:
            case "reply":
                assert (pending.value, pending.error) == (what, None)
            case "accepted":
                assert (pending.value, pending.error) == (None, None)
            case "given up":
                assert pending.error is what
            case "down":
                assert isinstance(pending.error, ProcessDown)
                assert pending.error.down.incarnation == pending.id
            case "refused":
                kinds = {"backpressure": Backpressure, "bad_request": BadRequest, "remote_error": RemoteError}
                assert type(pending.error) is kinds.get(what, Refused)


Outcomes.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestOutcomes = Outcomes.TestCase


def ledger_with(count: int) -> tuple[Ledger, list[Pending]]:
    """A ledger with so many sends."""
    ledger = Ledger(count)
    return ledger, [ledger.sent(id, Awaits.ACCEPTANCE, "a", "h") for id in range(1, count + 1)]


@pytest.mark.parametrize("runs", [(0, MAX_ID), (0, MAX_ID) * 1000, (1, 10_000) * 1000, (MAX_ID, 0, 1, 10_000)])
def test_invented_runs_cost_no_time(runs: tuple[int, ...]) -> None:
    """A peer that claims to have accepted more than it was ever sent is no burden."""
    ledger, pending = ledger_with(10_000)
    begun_s = time.process_time()
    assert ledger.answered(Accepted(runs)) == 10_000
    assert time.process_time() - begun_s < 1.0
    assert all(one.done for one in pending)


def test_longest_list_of_runs_costs_little() -> None:
    """Megabytes of runs that mean nothing, each as long as what is open, take a moment and not minutes."""
    ledger, _ = ledger_with(10_000)
    begun_s = time.process_time()
    assert ledger.answered(Accepted((20_000, 29_999) * 100_000)) == 0
    assert time.process_time() - begun_s < 2.0


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal(1, "backpressure", "", {"length": 3, "limit": 2}), (Backpressure, {"length": 3, "limit": 2})),
        (Refusal(1, "backpressure", "", {"length": "3"}), (Backpressure, {"length": 0, "limit": 0})),
        (Refusal(1, "bad_request", "no", {"path": "$.x"}), (BadRequest, {"path": "$.x", "text": "no"})),
        (Refusal(1, "bad_request", "no", {"path": 3}), (BadRequest, {"path": "3"})),
        (Refusal(1, "remote_error", "t", {"type": "KeyError"}), (RemoteError, {"type": "KeyError", "text": "t"})),
        (Refusal(1, "remote_error"), (RemoteError, {"type": "Exception", "text": ""})),
        (Refusal(1, "shutdown"), (Refused, {"code": "shutdown", "message": "a: shutdown"})),
        (Refusal(1, "", "new", {"k": 1}), (Refused, {"code": "", "details": {"k": 1}})),
    ],
)
def test_errors_of_refusals(refusal: Refusal, expected: tuple[type[MessageError], dict[str, Any]]) -> None:
    """Each code has its error, with what it carries, however odd the details are."""
    error = refusal_error("a", refusal)
    kind, fields = expected
    assert type(error) is kind
    assert {name: getattr(error, name) for name in fields} == fields


def asked_again(ledger: Ledger, id: int) -> tuple[Pending, list[MessageError]]:
    """A call to a group, and why it was to be sent to somebody else."""
    pending, why = ledger.sent(id, Awaits.REPLY, "g.0", "h"), list[MessageError]()

    def again(_pending: Pending, error: MessageError) -> bool:
        why.append(error)
        return True

    pending.again = again
    return pending, why


def test_who_stops_has_begun_nothing_that_it_refuses() -> None:
    """A refusal of one that stops is no outcome yet where another may be asked; its answer there is."""
    first, second = Ledger(LIMIT), Ledger(LIMIT)
    pending, why = asked_again(first, 1)
    assert first.answered(Refusal(1, SHUTDOWN, "stops")) == 1
    assert (pending.done, len(why), first.open) == (False, 1, {})
    second.take_over(pending, 2, "g.1")
    assert second.answered(Reply(1, Raw(b"\x07"))) == 0
    assert second.answered(Reply(2, Raw(b"\x08"))) == 1
    assert (pending.done, pending.value, pending.to) == (True, Raw(b"\x08"), "g.1")


@pytest.mark.parametrize("code", ["backpressure", "bad_request", "remote_error", "forbidden"])
def test_other_refusals_are_outcomes(code: str) -> None:
    """The work's own answers, and a full mailbox, are what the caller is told."""
    ledger = Ledger(LIMIT)
    pending, why = asked_again(ledger, 1)
    ledger.answered(Refusal(1, code, "no"))
    assert (pending.done, why) == (True, [])


def test_a_death_is_an_outcome() -> None:
    """Nobody knows how far it had come."""
    ledger = Ledger(LIMIT)
    pending, why = asked_again(ledger, 1)
    ledger.down(lambda _pending: ProcessDown(Down("g.0", 1, reason="killed")))
    assert (pending.done, why) == (True, [])


def test_the_last_word_of_a_mailbox() -> None:
    """What came after it was never taken; what came before is still answered."""
    ledger = Ledger(LIMIT)
    before, _ = asked_again(ledger, 3)
    (after, why), alone = asked_again(ledger, 4), ledger.sent(5, Awaits.ACCEPTANCE, "g.0", "h")
    assert ledger.answered(Closing(3)) == 2
    assert (before.done, after.done, len(why)) == (False, False, 1)
    assert isinstance(alone.error, Refused)
    assert ledger.answered(Reply(3, Raw(b"\x07"))) == 1
    assert before.done


def test_who_waits_no_more_is_not_sent_again() -> None:
    """Given up between two members, it is over."""
    ledger = Ledger(LIMIT)
    pending, _ = asked_again(ledger, 1)
    ledger.answered(Refusal(1, SHUTDOWN, ""))
    assert ledger.give_up(pending, CallTimeout("g", "h", 1.0))
    assert isinstance(pending.error, CallTimeout)
    assert not ledger.give_up(pending, CallTimeout("g", "h", 1.0))


def test_a_full_ledger_takes_nothing_over() -> None:
    """The way to the other one may be full."""
    full = Ledger(1)
    full.sent(1, Awaits.REPLY, "g.1", "h")
    pending, _ = asked_again(Ledger(LIMIT), 2)
    with pytest.raises(Backpressure):
        full.take_over(pending, 3, "g.1")
