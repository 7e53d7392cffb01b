"""What is committed together, by whom, when; and where state is not to be had."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from agents import House
from mockups import Killed, MockAgent, MockNode, Reaper
from storehouse import make_store

from regrow.ipc import points, posting, transaction
from regrow.ipc.client import Client
from regrow.ipc.errors import Backpressure, BadRequest, RemoteError, StoreFull
from regrow.ipc.points import Point
from regrow.ipc.posting import Posting
from regrow.ipc.posts import Box, decode
from regrow.ipc.store import Store
from regrow.ipc.transaction import CHUNK, Outgoing, Overtaken, Transaction
from regrow.workers import Agent, handler
from regrow.workers.unit import UNIT, Owner, Unit

AGENTS = "careful_agents"
TIMEOUT_S = 20.0


@pytest.fixture
def kept(house: House, tmp_path: Path) -> House:
    """A run_dir with a store."""
    make_store(house.run_dir, tmp_path / "state", agent=0, other=0, group=8)
    return house


@pytest.fixture
def poster(kept: House) -> Iterator[Posting]:
    """What units of this process use."""
    made = Posting(cast(Any, MockNode(str(kept.run_dir))))
    yield made
    made.close()


def new_unit(poster: Posting, *, concurrent: bool = False) -> Unit:
    """That of a handler of an agent."""
    return Unit(Owner("agent", "", poster, concurrent=concurrent))


def until(condition: Callable[[], Any]) -> None:
    """Ask again and again: what is asked costs a message."""
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s


def notes(house: House, name: str = "other") -> list[Any]:
    """The first arguments of the posts that wait."""
    with closing(Store.open(str(house.run_dir))) as store:
        rows = store.read(lambda txn: Box(store.messages, name).behind(txn, b"", 1000, 1 << 30))
        return [(msgspec.msgpack.decode(decode(value).args) or [""])[0] for _, value in rows]


# blocks


def test_blocks_within_blocks(poster: Posting) -> None:
    """The end of an inner one commits what the outer ones have changed, and nothing goes back to what it was before."""
    unit = new_unit(poster)
    unit.state.update(n=1, list=[1])
    with unit.block():
        unit.state["n"] = 2
        unit.state["list"].append(2)
        with unit.block():
            unit.state["n"] = 3
            unit.state["list"].append(3)
            assert "n" not in new_unit(poster).state
        assert dict(new_unit(poster).state) == dict(unit.state) == {"n": 3, "list": [1, 2, 3]}
        unit.state["n"] = 4
    assert dict(new_unit(poster).state) == dict(unit.state) == {"n": 4, "list": [1, 2, 3]}
    unit.state["n"] = 5
    unit.commit()
    assert new_unit(poster).state["n"] == 5


def test_block_that_raises(poster: Posting) -> None:
    """It is undone, and an inner one that was committed is not; what was changed before it, goes on."""
    unit = new_unit(poster)
    unit.state.update(n=1, list=[1])
    with pytest.raises(ZeroDivisionError):
        fail_in_a_block(unit)
    assert dict(unit.state) == {"n": 1, "list": [1, 3]}
    unit.state["list"].append(4)
    unit.commit()
    assert dict(new_unit(poster).state) == {"n": 1, "list": [1, 3, 4]}


def fail_in_a_block(unit: Unit) -> None:
    """With a part that is committed before."""
    with unit.block():
        with unit.block():
            unit.state["list"].append(3)
        unit.state["n"] = 2
        unit.state["list"].append(2)
        _ = 1 / 0


def test_block_that_cannot_be_kept(poster: Posting, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is undone; the handler may go on without it."""
    unit = new_unit(poster)
    unit.state["n"] = 1

    def full(_: object) -> None:
        raise StoreFull("here", "no room")

    with monkeypatch.context() as patch:
        patch.setattr(poster, "commit", full)
        with pytest.raises(StoreFull):
            change_in_a_block(unit)
    assert unit.state["n"] == 1
    unit.commit()
    assert new_unit(poster).state["n"] == 1


def change_in_a_block(unit: Unit) -> None:
    """Nothing besides."""
    with unit.block():
        unit.state["n"] = 2


def test_what_was_read_first_counts(poster: Posting) -> None:
    """Another changes it between two reads: what has used the first is not committed."""
    one, other = new_unit(poster, concurrent=True), new_unit(poster, concurrent=True)
    assert one.state.get("n") is None
    other.state["n"] = 1
    other.commit()
    with pytest.raises(Overtaken):
        read_in_a_block(one)
    one.roll_back()
    assert one.state["n"] == 1
    one.commit()


@pytest.mark.parametrize("look", [len, list, bool, lambda state: list(reversed(state.keys(prefix="a")))])
@pytest.mark.parametrize("there", [0, 1, CHUNK, CHUNK + 1])
def test_what_was_not_there_counts(poster: Posting, look: Callable[[Any], Any], there: int) -> None:
    """Who has looked through a part is overtaken by what comes into it, or goes; not by what lies beside it."""
    setup = new_unit(poster)
    setup.state.update({f"a{number}": number for number in range(there)})
    setup.commit()
    one, other = (new_unit(poster, concurrent=True) for _ in range(2))
    for change in (lambda: other.state.update(a=1), lambda: other.state.pop("a")):
        look(one.state)
        change()
        other.commit()
        one.state["b"] = 1
        with pytest.raises(Overtaken):
            one.commit()
        one.begin()
    list(one.state.keys(prefix="a"))
    other.state["b"] = 2
    other.commit()
    one.state["a"] = 1
    one.commit()


def read_in_a_block(unit: Unit) -> None:
    """What is written says what was read."""
    with unit.block():
        unit.state["read"] = unit.state.get("n")


class Steps(Agent):
    """Its posts are done in two parts."""

    @handler
    def one(self) -> None:
        self.state.add("one")

    @handler
    def later(self) -> None:
        self.post("other", "note", "later", delay=3600.0, id="later")

    @handler
    def two(self, how: str = "") -> None:
        with self.transaction():
            self.state.add("first")
            self.post("other", "note", "first")
        if how == "catch":
            try:
                with self.transaction():
                    self.state.add("caught")
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        self.state.add("second")


@pytest.fixture
def steps(kept: House) -> Iterator[MockAgent]:
    """In this process; a kill is an exception."""
    agent = MockAgent(str(kept.run_dir), Steps, "agent")
    agent.begin()
    yield agent
    points.install(None)
    agent.close()


def send(agent: MockAgent, handler: str, *args: Any) -> None:
    """Post to it, as it would itself."""
    made = Transaction()
    made.posts.append(agent.posting.write("agent", handler, args, {}))
    agent.posting.commit(made)
    agent.box.look_again()


def test_blocks_in_posts(kept: House, poster: Posting, steps: MockAgent) -> None:
    """What was handled before in the same batch is committed with the first block, and is not done again."""
    for name, *args in (("one",), ("two",), ("one",), ("two", "catch")):
        send(steps, name, *args)
    steps.work()
    assert dict(new_unit(poster).state) == {"one": 2, "first": 2, "second": 2}
    assert notes(kept) == ["first", "first"]
    assert notes(kept, "agent") == []


def test_kill_after_a_block_of_a_post(kept: House, poster: Posting, steps: MockAgent) -> None:
    """The block stays, the rest does not, and the post is handled again, from its beginning."""
    send(steps, "one")
    send(steps, "two")
    reaper = Reaper()
    points.install(reaper)
    reaper.point, reaper.count = Point.POST_HANDLED, 2
    with pytest.raises(Killed):
        steps.work()
    points.install(None)
    assert dict(new_unit(poster).state) == {"one": 1, "first": 1}
    steps.box.give_up()
    steps.unit.roll_back()
    steps.work()
    assert dict(new_unit(poster).state) == {"one": 1, "first": 2, "second": 1}
    assert notes(kept, "agent") == []


def test_blocks_in_calls(kept: House) -> None:
    """What follows the last block is undone by an error, and by a kill; what is in it is not."""
    agent = kept.start(f"{AGENTS}:Everywhere")
    assert kept.call("agent", "blocks") == 3
    assert kept.call("agent", "kept")["after"] == 1
    with pytest.raises(RemoteError):
        kept.call("agent", "blocks", True)
    assert kept.call("agent", "kept") == {"__init__": 1, "after": 1, "init": 1, "n": 3}
    kept.submit("agent", "kill_after_a_block")
    assert agent.wait() == -signal.SIGKILL
    kept.start(f"{AGENTS}:Everywhere")
    found = kept.call("agent", "kept")
    assert (found["before"], found["inside"], found["after"]) == (1, 1, 1)
    assert notes(kept) == ["init", "inside", "init"]


# where


def test_hooks(kept: House) -> None:
    """Each commits what it keeps and posts."""
    kept.start(f"{AGENTS}:Slow", "group.0")
    agent = kept.start(f"{AGENTS}:Everywhere")
    kept.call("agent", "watch", "group.0")
    other = kept.agents[0]
    other.signal(signal.SIGKILL)
    other.wait()
    until(lambda: "on_down" in kept.call("agent", "kept"))
    assert agent.stop() == 0
    assert notes(kept) == ["init", "on_down", "terminate"]
    again = kept.start(f"{AGENTS}:Everywhere")
    assert kept.call("agent", "kept") == {"__init__": 2, "init": 2, "on_down": 1, "terminate": 1}
    assert again.stop() == 0


def test_not_in_threads_and_children(kept: House) -> None:
    """State and posts belong to the handler that runs; the error says so, and nothing is changed."""
    kept.start(f"{AGENTS}:Everywhere")
    assert "state belongs to a handler" in kept.call("agent", "in_a_thread")
    found = kept.call("agent", "in_a_child")
    assert "state belongs to a handler" in found
    assert "post() belongs to a handler" in found
    assert kept.call("agent", "kept") == {"__init__": 1, "init": 1}
    assert notes(kept) == ["init"]


def test_not_in_tasks_left_behind(kept: House) -> None:
    """Tasks that go on when the handler or the hook that has begun them is done have no part in what comes later."""
    agent = kept.start(f"{AGENTS}:AsyncEverywhere")
    assert len(kept.call("agent", "errors")) == 1
    kept.call("agent", "leaves_a_task")
    assert len(kept.call("agent", "errors")) == 2
    kept.call("agent", "leaves_a_task_plainly")
    errors = kept.call("agent", "errors")
    assert len(errors) == 3
    assert [error[-37:] for error in errors] == ["nor in a task that it has left behind"] * 3
    assert kept.call("agent", "kept") == {"init": 1}
    assert agent.stop() == 0
    kept.start(f"{AGENTS}:AsyncEverywhere")
    assert kept.call("agent", "kept") == {"init": 2, "terminate": 1}


def test_outside_of_regrow() -> None:
    """An agent that nobody runs has no state, and its class has none either."""
    with pytest.raises(RuntimeError, match="none runs here"):
        _ = Steps().state
    with pytest.raises(RuntimeError, match="none runs here"):
        Steps().post("other", "note")
    with pytest.raises(RuntimeError, match="none runs here"):
        Steps().transaction()
    assert isinstance(cast(Any, Steps).state, property)
    assert UNIT.get() is None


# contention


def test_async_blocks(kept: House) -> None:
    """Handlers that overlap, each with a block: nothing is lost."""
    kept.start(f"{AGENTS}:AsyncEverywhere")
    requests = [kept.submit("agent", "blocks") for _ in range(100)]
    for request in requests:
        kept.outcome(request)
    assert kept.call("agent", "kept")["n"] == 100


@pytest.mark.parametrize("kind", ["Member", "AsyncMember"])
def test_group_state_under_contention(kept: House, kind: str) -> None:
    """Eight replicas count 200 each, half by calls, half by posts: nothing is lost, nothing twice."""
    members = [f"group.{number}" for number in range(8)]
    for name in members:
        kept.start(f"{AGENTS}:{kind}", name, environ={"REGROW_GROUP": "group", "REGROW_REPLICAS": "8"})
    with Client(kept.run_dir) as client:
        for name in members:
            with client.transaction():
                for _ in range(100):
                    client.post(name, "count")
        requests = [kept.submit(name, "count") for _ in range(100) for name in members]
        for request in requests:
            kept.outcome(request, 30.0)
    until(lambda: all(kept.call(name, "totals")[1] == 200 for name in members))
    assert {tuple(kept.call(name, "totals")) for name in members} == {(1600, 200)}


@pytest.mark.parametrize("how", ["stop_here", "never"])
def test_nobody_waits_for_a_handler(kept: House, tmp_path: Path, how: str) -> None:
    """It has changed something and does not return, or its process is stopped: others commit meanwhile."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    slow = kept.start(f"{AGENTS}:Slow")
    kept.start("keeping_agents:Counter", "other")
    kept.send("agent", how, str(pipe))
    assert pipe.read_text() == "here"
    for _ in range(50):
        kept.call("other", "count")
    with Client(kept.run_dir) as client:
        client.post("other", "count")
        client.post("agent", "stop_here", str(tmp_path / "later"))
        until(lambda: kept.call("other", "total") == 51)
    if how == "stop_here":
        slow.signal(signal.SIGCONT)
        until((tmp_path / "later").exists)  # it goes on with what has come meanwhile


# limits


def test_posts_of_parts_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a transaction has what the others have left."""
    monkeypatch.setattr(transaction, "MOST_POSTS", 3)
    outer = Transaction()
    outer.post(Outgoing("agent", b"", "1", False, 0.0))
    inner = Transaction(outer)
    for id in "23":
        inner.post(Outgoing("agent", b"", id, False, 0.0))
    for full in (inner, Transaction(inner)):
        with pytest.raises(BadRequest, match="at most 3"):
            full.post(Outgoing("agent", b"", "4", False, 0.0))
    Transaction(outer).post(Outgoing("agent", b"", "4", False, 0.0))


def test_backpressure_of_what_is_put_off(kept: House, steps: MockAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A post whose handler would have to put off one too many waits, as for a full box: no attempt is counted."""
    monkeypatch.setattr(posting, "MAX_PUT_OFF", 1)
    with Client(kept.run_dir) as client:
        client.post("other", "note", "x", delay=3600.0, id="first")
        send(steps, "later")
        steps.work()
        assert "posts wait: cannot send to other: what is put off for it holds 1" in steps.complaints[-1]
        assert len(notes(kept, "agent")) == 1
        client.cancel("other", "first")
        steps.box.look_again()
        steps.work()
        assert notes(kept, "agent") == []
        assert client.cancel("other", "later")


def test_backpressure_of_boxes(kept: House, steps: MockAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A box that is full takes nothing more, in words. A post whose handler would have to post there waits: no attempt is
    counted, and it is done when there is room.
    """
    from regrow.ipc import posts

    for module in (posting, posts):
        monkeypatch.setattr(module, "MAX_WAITING", 3)
    for _ in range(3):
        send(steps, "two")
    with pytest.raises(Backpressure, match="its box holds 3 messages of at most 3"):
        send(steps, "two")
    steps.work()
    assert notes(kept) == ["first"] * 3
    send(steps, "two")
    steps.work()
    assert len(notes(kept, "agent")) == 1
    assert "posts wait: " in steps.complaints[-1]
    with closing(Store.open(str(kept.run_dir))) as store:
        box = Box(store.messages, "other")
        rows = store.read(lambda txn: box.behind(txn, b"", 10, 1 << 20))
        store.write(lambda txn: box.take_all(txn, [key for key, _ in rows[:2]]))
        assert decode(store.read(lambda txn: Box(store.messages, "agent").behind(txn, b"", 1, 1))[0][1]).failures == ()
    steps.box.look_again()
    steps.work()
    assert notes(kept, "agent") == []
    assert notes(kept) == ["first"] * 2
