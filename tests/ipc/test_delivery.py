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
from regrow.ipc.wire import MAX_ID, Accepted, Refusal, Reply, Waiting

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


Outcomes.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
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
