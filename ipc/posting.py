"""
Posting, for a process that has a node: whose box it goes into, and who is told.

Source: architecture section 7; otp-rules S167-S174 on groups.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.ipc.bell import SUFFIX
from regrow.ipc.errors import Backpressure, BadRequest, NoProcess, StoreUnusable, Unreachable
from regrow.ipc.groups import Address, ByKey, LeastOutstanding, RoundRobin, partition
from regrow.ipc.names import MAX_NAME_BYTES
from regrow.ipc.posts import BOX, MAX_PUT_OFF, MAX_WAITING, TOO_MANY_PUT_OFF, Box, boxes, check_id, written
from regrow.ipc.store import Store, Txn
from regrow.ipc.transaction import Outgoing, Transaction
from regrow.ipc.unsendable import bad_value
from regrow.ipc.wire import UNSENDABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from regrow.ipc.names import Names, Record
    from regrow.ipc.node import Node

AGENTS = b"agents"
"""In `meta`: the addresses in the daemon's file, each with the number of its replicas (0: it is in no group)."""

MAIL = b"\0mail:"
"""In the names table: this name has had posts, so whoever takes it looks for some."""


class _Process:
    """The present one, whose `pid` costs no system call; it is 0 until `heed`."""

    pid = 0

    def __init__(self) -> None:
        self._begin()

    def heed(self) -> None:
        """To be called before anything posts: a supervisor only has this loaded, and its forks are not to be told."""
        if not self.pid:
            os.register_at_fork(after_in_child=self._forked)
            self.pid = os.getpid()

    def _forked(self) -> None:
        self.pid = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._start = ""
        self._numbers = itertools.count()
        self.opening = threading.RLock()  # whoever held it is not here

    def check(self, pid: int, name: str) -> None:
        """
        See that this is the agent `name`, and not a process that one of its handlers has forked.

        Raises:
            RuntimeError.
        """
        if self.pid != pid:
            what = f"a process that a handler of {name} has forked has come back from it"
            raise RuntimeError(f"{what}: end it there, with os._exit()")

    def end_if_forked(self, pid: int, name: str) -> None:
        """The same for who has an event loop, to which nobody can come back in another process: it ends at once."""
        if self.pid != pid:
            import sys
            import traceback

            try:
                self.check(pid, name)
            except RuntimeError:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(1)  # also where there is nothing to write to

    def new_id(self) -> str:
        """An id that nobody else makes up: a random beginning for each process, and a number behind it."""
        if not self._start:
            self._start = os.urandom(12).hex()
        return f"{self._start}{next(self._numbers):x}"


process = _Process()


class Posting:
    """What a process needs to post; its store is opened when it is first needed."""

    def __init__(self, node: Node, sender: str = "") -> None:
        process.heed()
        self._node = node
        self._sender = sender
        self._store: Store | None = None
        self._pid = 0
        self._known: set[str] = set()
        self._room: dict[str, int] = {}
        self._timers: dict[tuple[str, bool], int] = {}
        self._turns: dict[str, int] = {}

    @property
    def store(self) -> Store:
        """
        As this process has it open.

        Raises:
            StoreUnusable.
        """
        if self._store is None or self._pid != process.pid:  # a forked process opens it for itself
            with process.opening:
                if self._store is None or self._pid != process.pid:
                    self._store = Store.open(self._node.run_dir)
                    self._pid = process.pid
        return self._store

    def row(self, key: bytes) -> bytes | None:
        """A row of state, as it was committed last. Raises: StoreError."""
        return self.store.row(key)

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None and self._pid == process.pid:
            self._store.close()
            self._store = None

    def write(
        self,
        to: str | Address,
        handler: str,
        args: Any,
        kwargs: Any,
        id: str | None = None,
        expires: float | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> Outgoing:
        """
        A post, ready to be committed. `expires` in seconds from when it is due, which is now, or after `delay` seconds,
        or `at` a time.

        Raises:
            NoProcess: nothing of that name is known; BadRequest; Backpressure; StoreError.
        """
        now = time.time()
        if type(handler) is not str:
            raise BadRequest(str(to), f"a handler is a text, not {handler!r:.100}")
        name = to if type(to) is str and to in self._known else self.address(to, id)
        left = self._room.get(name, 0)
        self._room[name] = left - 1 if left > 0 else self._room_of(name)
        own = process.new_id() if id is None else check_id(name, id)
        if delay is not None or at is not None:
            from regrow.ipc.timed import timed_post

            late = timed_post(name, handler, args, kwargs, self._sender, own, id is not None, expires, delay, at)
            if late is not None:
                self.check_put_off(name)
                return late
        expires_at = 0.0 if expires is None else now + seconds(name, expires, "expires")
        post = written(name, handler, args, kwargs, self._sender, own, now, expires_at)
        return Outgoing(name, post, own, id is not None, now)

    def commit(self, transaction: Transaction) -> None:
        """
        Commit it, on its own.

        Raises:
            StoreError, Overtaken: nothing was changed.
        """
        store = self.store
        store.write(lambda txn: transaction.apply(txn, store, self.ring))

    def ring(self, name: str) -> None:
        """
        Tell the owner of a box that it is no longer empty; inside the transaction that has put something there.

        Raises:
            StoreUnusable: the names table is gone, or full: nobody could be told.
        """
        with self._node.locked():
            record = noted(lambda: self._node.names, self.store, name)
        if record is not None:
            self.store.ring(record.mailbox + SUFFIX)

    def address(self, to: str | Address, id: str | None = None) -> str:
        """
        The one name that a post goes to: of a group, the member that the address means, living or not.

        With an `id`, members do not take turns: it is the same one each time, so that the id is known there.

        Raises:
            NoProcess: nothing of that name is known, or it is no group and `to` has a key; BadRequest: the key
            cannot be encoded.
        """
        if not isinstance(to, (str, ByKey, LeastOutstanding, RoundRobin)):
            raise BadRequest(str(to), "a post is for a name, or for a group")
        group = to if isinstance(to, str) else to.group
        replicas = self._replicas(group)
        if not replicas:
            if isinstance(to, ByKey):
                raise NoProcess(str(to), "it is no group, and only groups have keys")
            self._known.add(group)
            return group
        if isinstance(to, ByKey):
            try:
                return f"{group}.{partition(to.key, replicas)}"
            except UNSENDABLE as error:
                raise bad_value(group, "the key", to.key, error) from None
        members = [f"{group}.{number}" for number in range(replicas)]
        if id is not None:
            return members[partition(id, replicas)]
        if isinstance(to, LeastOutstanding):
            store = self.store
            return store.read(lambda txn: min(members, key=lambda name: Box(store.messages, name).length(txn)))
        turn = self._turns[group] = self._turns.get(group, os.urandom(1)[0]) + 1  # many post only once
        return members[turn % replicas]

    def names(self, to: str | Address) -> list[str]:
        """
        All that a post may have gone to: of a group, any member.

        Raises:
            NoProcess: nothing of that name is known; BadRequest: the key cannot be encoded.
        """
        if isinstance(to, ByKey):
            return [self.address(to)]
        group = to if isinstance(to, str) else to.group
        replicas = self._replicas(group)
        return [f"{group}.{number}" for number in range(replicas)] if replicas else [group]

    def _replicas(self, name: str) -> int:
        """How many members the group has; 0 for a name that is none."""
        node = self._node
        if len(name.encode(errors="replace")) > MAX_NAME_BYTES or not _is_text(name):  # LMDB would not even look
            raise NoProcess(name[:MAX_NAME_BYTES], "no name is like that")
        with node.locked():
            if node.names.get(name) is not None:
                return 0
            if replicas := node.replicas(name):
                return replicas
        store = self.store

        def look(txn: Txn) -> int | None:
            known = msgspec.msgpack.decode(txn.get(AGENTS, b"\x80", db=store.meta), type=dict[str, int])
            if name in known or _is_member(name, known):
                return known.get(name, 0)
            return 0 if txn.get(BOX + name.encode() + b"\0", db=store.messages) is not None else None

        found = store.read(look)
        if found is None:
            raise NoProcess(name, "the daemon's file has no agent of that name, and none has been started under it")
        return found

    def check_put_off(self, name: str, *, schedules: bool = False) -> None:
        """
        See that one more post may be put off for this name, or that it may have one more schedule.

        Raises:
            Backpressure; StoreError.
        """
        from regrow.ipc.timers import count_of

        left = self._timers.get((name, schedules), 0) - 1
        if left < 0:
            store, limit = self.store, MAX_PUT_OFF
            count = store.read(lambda txn: count_of(txn, store.messages, name, limit, schedules=schedules))
            if count >= limit:
                raise Backpressure(name, count, limit, TOO_MANY_PUT_OFF)
            left = (limit - count) // 16
        self._timers[name, schedules] = left

    def _room_of(self, name: str) -> int:
        """How many posts may be written before somebody looks again: others post as well."""
        store = self.store

        def look(txn: Txn) -> int:
            box = Box(store.messages, name)
            box.check_room(txn)
            return box.length(txn)

        return min((MAX_WAITING - store.read(look)) // 16, 1000)


def known_names(txn: Txn, store: Store) -> frozenset[str]:
    """The agents of the daemon's file with the members of their groups, and whoever was ever posted to."""
    agents = msgspec.msgpack.decode(txn.get(AGENTS, b"\x80", db=store.meta), type=dict[str, int])
    members = (f"{group}.{number}" for group, replicas in agents.items() for number in range(replicas))
    return frozenset((*agents, *members, *boxes(txn, store.messages)))


def noted(table: Callable[[], Names], store: Store, name: str) -> Record | None:
    """
    Leave a sign that this name has had posts; returns who has it now, and is to be told.

    Raises:
        StoreUnusable: the names table is gone, or full: nobody could be told.
    """
    import lmdb

    try:
        names = table()
        if names.is_stale():
            names.reopen()
        if not names.has_flag(MAIL + name.encode()):
            names.set_flag(MAIL + name.encode())
        record = names.get(name)  # last: who announces himself after this sees the flag
    except (lmdb.Error, Unreachable) as error:
        raise StoreUnusable(store.path, f"{name} cannot be told: {error}", "see `regrow status`") from None
    return record


def _is_member(name: str, known: Mapping[str, int]) -> bool:
    """Whether this is one of a group that is known."""
    group, _, number = name.rpartition(".")
    return number.isdecimal() and number == str(int(number)) and int(number) < known.get(group, 0)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def seconds(to: str, value: float, what: str) -> float:
    """
    A time as it may be.

    Raises:
        BadRequest.
    """
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise BadRequest(to, f"{what} is a number of seconds from 0 up, not {value!r}")
    return float(value)
