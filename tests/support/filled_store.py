"""A store with something of everything, as a daemon has left it."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import msgspec

from regrow.config.spec import Durability
from regrow.ipc import statekeys
from regrow.ipc.deadletters import Cause, DeadLetter, bury
from regrow.ipc.posts import Failure, Post, decode, written
from regrow.ipc.store import Store, Txn
from regrow.ipc.transaction import Outgoing, Transaction
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.keeper_preparing import prepare
from regrow.workers.system.store_site import Site

STATE: dict[str, dict[Any, Any]] = {
    "counter": {"total": 3, "list": [1.5, None, b"\0"], 7: "seven", ("user", 1, b"x"): {"at": 1}},
    "pair": {"shared": {1: datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}},
}
TRACE = "Traceback (most recent call last):\n  File \"x.py\", line 1\nRuntimeError: crashed on purpose\n"


def make_filled(folder: Path, daemon: str = "shop") -> Place:
    """Make it below `folder`; nobody has it open."""
    place = Place(daemon, str(folder / "run"), str(folder / "state"), Durability.SYSTEM)
    (folder / "run").mkdir(exist_ok=True)
    prepare(place)
    with Site(place).writing() as store:
        store.write(lambda txn: fill(txn, store))
    return place


def fill(txn: Txn, store: Store) -> None:
    """State of an agent and of a group, posts in two boxes, two dead letters."""
    for owner, kept in STATE.items():
        for key, value in kept.items():
            row = owner.encode() + b"\0" + statekeys.encode(key)
            txn.put(row, msgspec.msgpack.encode(value), db=store.state)
    txn.put(b"counter\0" + statekeys.reserved("version"), b"\2", db=store.state)
    now = time.time()
    together = Transaction()
    for number in range(3):
        post = written("counter", "count", [number], {}, "", f"id-{number}", now - 120, 0.0)
        together.posts.append(Outgoing("counter", post, f"id-{number}", True, now))
    post = written("other", "note", [b"\0"], {"k": 1}, "counter", "x", now, 0.0)
    together.posts.append(Outgoing("other", post, "x", False, now))
    together.apply(txn, store, lambda _name: None)
    failures = tuple(Failure(number, now - 60 + number, "exception", TRACE) for number in (1, 2, 3))
    bad = decode(written("counter", "crash", [1], {"why": "x"}, "", "bad", now - 90, 0.0))
    poison = msgspec.structs.replace(bad, failures=failures)
    bury(txn, store.messages, DeadLetter("counter", poison, Cause.ATTEMPTS, now, TRACE))
    old: Post = decode(written("other", "note", [], {}, "counter", "old", now - 90, now - 30))
    bury(txn, store.messages, DeadLetter("other", old, Cause.EXPIRED, now))


def content(place: Place) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every row of the state and the messages."""
    with Site(place).reading() as store:
        return store.read(
            lambda txn: {
                name: list(txn.cursor(db=getattr(store, name)).iternext()) for name in ("state", "messages")
            }
        )
