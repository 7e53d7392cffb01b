"""State and boxes against dictionaries and lists, with the end of any process at any point as one more action."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mockups import Killed, MockAgent, MockNode, Reaper
from storehouse import make_store

from regrow.ipc import points
from regrow.ipc.points import Point
from regrow.ipc.posting import Posting
from regrow.ipc.posts import Box
from regrow.ipc.store import Store
from regrow.ipc.transaction import Transaction
from regrow.workers import Agent, handler
from regrow.workers.unit import Owner, Unit

CHAIN = ("first", "second", "third")
CRASHES = (Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT, Point.POST_BEGUN, Point.POST_HANDLED)


class Link(Agent):
    """Keeps what it gets, and posts it on."""

    max_attempts = 0

    @handler
    def take(self, number: int, key: str, onto: list[str]) -> None:
        self.state.setdefault("got", []).append(number)
        self.state.add(("by key", key), number)
        if number % 5 == 0:
            self.state.pop("odd", None)
        elif number % 2:
            self.state["odd"] = number
        if onto:
            self.post(onto[0], "take", number, key, onto[1:])


class Model:
    """What an agent that has handled these would have in its state."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.by_key: dict[str, int] = {}
        self.odd: int | None = None

    def take(self, number: int, key: str) -> None:
        self.got.append(number)
        self.by_key[key] = self.by_key.get(key, 0) + number
        if number % 5 == 0:
            self.odd = None
        elif number % 2:
            self.odd = number


class Posts(RuleBasedStateMachine):
    """A client posts to the first of a chain; anybody may be killed anywhere."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.run_dir = str(self.folder / "run")
        (self.folder / "run" / "mbox").mkdir(parents=True)
        make_store(self.folder / "run", self.folder / "state", map_bytes=1 << 20, first=0, second=0, third=0)
        self.reaper = Reaper()
        points.install(self.reaper)
        self.store = Store.open(self.run_dir)
        self.client = Posting(cast(Any, MockNode(self.run_dir)))
        self.agents = {name: self._born(name) for name in CHAIN}
        self.posted: list[tuple[int, str]] = []
        self.ids: set[str] = set()

    def _born(self, name: str) -> MockAgent:
        agent = MockAgent(self.run_dir, Link, name)
        agent.begin()
        return agent

    @rule(count=st.integers(1, 5), key=st.sampled_from("abc"), kill=st.sampled_from([None, *CRASHES[:3]]))
    def post(self, count: int, key: str, kill: Point | None) -> None:
        """Several in one transaction, which may be the last thing that the client does."""
        numbers = [len(self.posted) + index for index in range(count)]
        together = Transaction()
        for number in numbers:
            together.posts.append(self.client.write("first", "take", (number, key, list(CHAIN[1:])), {}))
        if self._killed(kill, 1, lambda: self.client.commit(together)) and kill is not Point.AFTER_COMMIT:
            return
        self.posted += [(number, key) for number in numbers]

    @rule(id=st.sampled_from("xyz"), kill=st.sampled_from([None, *CRASHES[:3]]))
    def post_once(self, id: str, kill: Point | None) -> None:
        """With an id: again and again, until it is known to be kept, and even then."""
        number = len(self.posted)
        together = Transaction()
        together.posts.append(self.client.write("first", "take", (number, id, list(CHAIN[1:])), {}, id))
        if self._killed(kill, 1, lambda: self.client.commit(together)) and kill is not Point.AFTER_COMMIT:
            return
        if id not in self.ids:
            self.posted.append((number, id))
        self.ids.add(id)

    @rule(name=st.sampled_from(CHAIN), kill=st.sampled_from([None, *CRASHES]), count=st.integers(1, 4))
    def work(self, name: str, kill: Point | None, count: int) -> None:
        """One of them handles what it has, to the end or not."""
        if self._killed(kill, count, self.agents[name].work):
            self.agents[name].close()
            self.agents[name] = self._born(name)

    @rule(name=st.sampled_from(CHAIN))
    def restart(self, name: str) -> None:
        """An orderly end."""
        self.agents[name].close()
        self.agents[name] = self._born(name)

    @precondition(lambda self: self.posted)
    @rule()
    def drain(self) -> None:
        """Let them work until there is nothing left; each sleeps as soon as it would, and is only woken by its bell."""
        for _ in range(4 * len(CHAIN)):
            for agent in self.agents.values():
                agent.work()
        for name in CHAIN:
            model = Model()
            for number, key in self.posted:
                model.take(number, key)
            assert self._state_of(name) == (model.got, model.by_key, model.odd)
            assert self.store.read(Box(self.store.messages, name).length) == 0

    @invariant()
    def nothing_twice(self) -> None:
        """What has taken effect is a beginning of what was posted, further down the chain a shorter one."""
        if not hasattr(self, "agents"):
            return
        numbers = [number for number, _ in self.posted]
        longest = len(numbers)
        for name in CHAIN:
            got = self._state_of(name)[0]
            assert got == numbers[: len(got)]
            assert len(got) <= longest
            longest = len(got)

    def _killed(self, point: Point | None, count: int, action: Any) -> bool:
        self.reaper.point, self.reaper.count = point, count if point is not None else 0
        try:
            action()
        except Killed:
            return True
        finally:
            self.reaper.count = 0
        return False

    def _state_of(self, name: str) -> tuple[list[int], dict[str, int], int | None]:
        """As it is in the store, whatever is under way."""
        state = Unit(Owner(name, "", self.client, concurrent=False)).state
        by_key = {str(key): total for key, total in state.space("by key").items()}
        return list(state.get("got", [])), by_key, state.get("odd")

    def teardown(self) -> None:
        points.install(None)
        if hasattr(self, "agents"):
            for agent in self.agents.values():
                agent.close()
            self.client.close()
            self.store.close()
            shutil.rmtree(self.folder)


TestPosts = Posts.TestCase
TestPosts.settings = settings(max_examples=60, stateful_step_count=40)
