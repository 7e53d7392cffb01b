"""Agents that posts end, and a test in the place of their supervisor."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import msgspec
from agents import House, Running

from regrow.ipc import deadletters
from regrow.ipc.client import Client
from regrow.ipc.deadletters import DeadLetter
from regrow.ipc.posts import WAITING, Post, decode
from regrow.ipc.store import Store, Txn

AGENTS = "poisoned_agents"


class Ward:
    """A house whose test is the supervisor: it restarts the agent until nothing is left to do, and knows each end."""

    def __init__(self, house: House, kind: str) -> None:
        self.house = house
        self.kind = kind
        self.ends: dict[tuple[str, int], dict[str, Any]] = {}
        self.restarts: list[float] = []
        self.incarnation = 0
        self.agent: Running | None = None

    def last_exit(self, _run_dir: str, name: str, incarnation: int) -> dict[str, Any] | None:
        """What the root would say; called in the agents, which are forked later."""
        return self.ends.get((name, incarnation))

    def start(self) -> Running:
        self.incarnation += 1
        self.agent = self.house.start(f"{AGENTS}:{self.kind}")
        return self.agent

    def ended(self) -> int:
        """Wait for the end of the agent, and note it."""
        assert self.agent is not None
        status = self.agent.wait(30.0)
        exit = {"reason": "signal", "signal": -status} if status < 0 else {"reason": "exit", "code": status}
        if any("X_REGROW_EXCEPTION" in fields for fields in self.agent.said):
            exit = {"reason": "exception", "text": "an exception"}
        self.ends["agent", self.incarnation] = {**exit, "at": time.time()}
        return status

    def run(self, times: int) -> None:
        """Restart it at once, as often as it is to end."""
        self.start()
        for _ in range(times):
            self.ended()
            self.restarts.append(time.monotonic())
            self.start()

    def await_got(self, expected: list[int]) -> None:
        end_s = time.monotonic() + 30.0
        while (got := self.house.call("agent", "got")) != expected:
            assert time.monotonic() < end_s, got


def post(house: House, *posts: tuple[Any, ...], **options: Any) -> None:
    """All of them in one commit, so that they are in one batch."""
    with Client(house.run_dir) as client, client.transaction():
        for args in posts:
            client.post("agent", "take", *args, **options)


def letters(house: House) -> list[DeadLetter]:
    """All that there are."""
    with closing(Store.open(str(house.run_dir))) as store:
        return store.read(lambda txn: [letter for _, letter in deadletters.listed(txn, store.messages)])


def waiting(house: House, name: str) -> list[Post]:
    """What is in a box."""
    first = WAITING + name.encode() + b"\0"

    with closing(Store.open(str(house.run_dir))) as store:

        def look(txn: Txn) -> list[Post]:
            with txn.cursor(db=store.messages) as cursor:
                rows = cursor.iternext() if cursor.set_range(first) else iter(())
                found = []
                for key, value in rows:
                    if not key.startswith(first):
                        break
                    found.append(decode(bytes(value)))
                return found

        return store.read(look)


def numbers(posts: list[Post]) -> list[int]:
    """The first argument of each."""
    return [msgspec.msgpack.decode(each.args)[0] for each in posts]
