"""Posts that are committed together, and what is in the way between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agents import House
from mockups import MockAgent
from storehouse import make_store
from wards import letters, waiting

from regrow.ipc.deadletters import Cause
from regrow.ipc.posts import Box
from regrow.ipc.transaction import Transaction
from regrow.workers import Agent, box, box_pace, handler

ROUNDS = 1000
"""More than any box here needs."""


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, group=2)
    return house


@pytest.fixture
def made(kept: House) -> Any:
    """Makes an agent of a class in this process; the one before it is closed."""
    agents: list[MockAgent] = []

    def make(kind: type[Agent], incarnation: int = 1) -> MockAgent:
        while agents:
            agents.pop().close()
        agents.append(MockAgent(str(kept.run_dir), kind, "agent", incarnation))
        agents[-1].begin()
        return agents[-1]

    yield make
    while agents:
        agents.pop().close()


def put(agent: MockAgent, kind: str, number: Any) -> None:
    """Into its box: a post that is good, or expired, or damaged."""
    store = agent.posting.store
    if kind == "damaged":
        store.write(lambda txn: Box(store.messages, "agent").put(txn, b"\xc1"))
    else:
        late = None if kind == "good" else 0.0
        together = Transaction()
        together.post(agent.posting.write("agent", "take", (number,), {}, expires=late))
        agent.posting.commit(together)


def all_of(agent: MockAgent, work: Callable[[], None]) -> None:
    """Let it work until there is nothing to do."""
    agent.box.is_due = True
    for _ in range(ROUNDS):
        if not agent.box.is_due:
            return
        work()
    pytest.fail(f"there is still something to do after {ROUNDS} rounds")


class Sync(Agent):
    @handler
    def take(self, number: int) -> None:
        self.state.setdefault("got", []).append(number)


class Async(Agent):
    @handler
    async def take(self, number: int) -> None:
        self.state.setdefault("got", []).append(number)


@pytest.mark.parametrize("kind", [Sync, Async])
@pytest.mark.parametrize("alone", [False, True], ids=["together", "alone"])
@pytest.mark.parametrize(
    "kinds",
    ["expired", "damaged", "good", "damaged good", "expired good", "good damaged", "good damaged good", "expired " * 9],
)
def test_what_is_put_away_between_others(
    kept: House, made: Any, kind: type[Agent], kinds: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are good take effect, the others are dead letters, and nothing is left to do."""
    agent = made(kind)
    for number, each in enumerate(kinds.split()):
        put(agent, each, number)
    agent.box._alone = alone
    monkeypatch.setattr(box, "BATCH_S", 0.0 if alone else 0.001)
    all_of(agent, agent.work_async if kind is Async else agent.work)
    assert waiting(kept, "agent") == []
    good = [number for number, each in enumerate(kinds.split()) if each == "good"]
    assert len(letters(kept)) == len(kinds.split()) - len(good)
    row = agent.posting.row(b"agent\0\x20got\0")
    assert (msgspec.msgpack.decode(row) if row is not None else []) == good


class Keeping(Agent):
    """Goes on with a mapping that an earlier handler was given."""

    @handler
    def take(self, number: int) -> None:
        if number == 0:
            self.kept = self.state.space("part")
            self.kept["list"] = []
        self.kept["list"].append(number)
        self.kept["last"] = number


@pytest.mark.parametrize("batch_s", [0.0, 10.0])
def test_state_that_an_agent_has_kept(made: Any, batch_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is changed by it belongs to the handler that does so, wherever batches end."""
    monkeypatch.setattr(box, "BATCH_S", batch_s)
    agent = made(Keeping)
    for number in range(4):
        put(agent, "good", number)
    all_of(agent, agent.work)
    rows = {key: agent.posting.row(b"agent\0\x20part\0\x20" + key + b"\0") for key in (b"list", b"last")}
    assert {key: msgspec.msgpack.decode(row) for key, row in rows.items()} == {b"list": [0, 1, 2, 3], b"last": 3}


class Odd(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        raise KeyError(self.number)


class Hooked(Agent):
    """What it takes raises while it is read, and not what says that it does not fit."""

    max_attempts = 2

    @handler
    def take(self, odd: Odd) -> None: ...


def test_arguments_that_raise(kept: House, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end the agent as its own code would, and that counts."""
    monkeypatch.setattr(box_pace, "retry_delay_s", lambda _post: 0.0)
    agent = made(Hooked)
    put(agent, "good", {"number": 1})
    for incarnation in (2, 3):
        with pytest.raises(KeyError):
            all_of(agent, agent.work)
        agent = made(Hooked, incarnation)
    assert [letter.cause for letter in letters(kept)] == [Cause.ATTEMPTS]


class Shared(Agent):
    """Counts what it shares, and commits in the middle."""

    def init(self) -> None:
        self.runs: list[int] = []

    @handler
    def take(self, number: int) -> None:
        self.runs.append(number)
        with self.transaction():
            self.group_state[number] = len(self.group_state)
        self.group_state[f"after {number}"] = 0


def test_own_rows_are_not_somebody_elses(made: Any) -> None:
    """What the same batch is about to put does not count as a change by another member."""
    agent = made(Shared)
    agent.agent.runs = []
    agent.unit.owner.group = "group"
    for number in range(3):
        put(agent, "good", number)
    all_of(agent, agent.work)
    assert agent.agent.runs == [0, 1, 2]
