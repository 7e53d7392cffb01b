"""
Verifying a store: every page of its file, then every row, by the one who would read it in use.

A damaged file is described and not opened, since LMDB would read it as memory. A store in use is pinned as it is at one
moment, and goes on being used.

Source: LMDB 0.9, mdb.c on what a read transaction keeps from being written over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Struct

from regrow.ipc import deadletters, meta_page, posts, scheduled, statekeys, timers, workflow_rows
from regrow.ipc.levels import DATA, get_meta
from regrow.ipc.meta_page import BadMeta, Meta
from regrow.ipc.posts import BOX, EACH, SEEN, SEEN_BY_TIME, WAITING
from regrow.ipc.store import Store, Txn
from regrow.ipc.taggedjson import key_to_json
from regrow.ipc.wire import UNREADABLE
from regrow.workers.system.keeper_walk import MOST_FAULTS, walk

_TIME_BYTES = 8
_UNREADABLE = (*UNREADABLE, ValueError)


class Verdict(Struct, frozen=True):
    """What was found. `faults` is empty when all is well; of many, the first are told."""

    pages: int
    free_pages: int
    records: int
    faults: tuple[str, ...]


class NotSo(ValueError):
    """Why a row is not what it should be."""


def verify_file(path: str) -> Verdict:
    """
    The pages of a file that nobody writes to. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _pages(fd, meta_page.read(fd))
    except BadMeta as error:
        return Verdict(0, 0, 0, (str(error),))
    finally:
        os.close(fd)


def verify_store(store: Store) -> Verdict:
    """
    The pages and the rows of a store that may be in use, as it is now.

    Raises:
        StoreError, OSError.
    """
    fd = os.open(os.path.join(store.path, DATA), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pinned(store, fd) as (txn, meta):
            found = _pages(fd, meta)
            if found.faults:
                return found
            return msgspec.structs.replace(found, faults=tuple(_some(row_faults(txn, store))))
    finally:
        os.close(fd)


@contextmanager
def pinned(store: Store, fd: int) -> Iterator[tuple[Txn, Meta]]:
    """A read transaction, and the meta page that says where its pages are."""

    def pin(_txn: Txn) -> tuple[Txn, Meta]:
        txn = store.env.begin()
        try:
            return txn, meta_page.read(fd, txn.id())
        except BaseException:
            txn.abort()
            raise

    txn, meta = store.look(pin)  # under the writers' lock: no later commit has written over that meta page
    try:
        yield txn, meta
    finally:
        txn.abort()


def _pages(fd: int, meta: Meta) -> Verdict:
    found = walk(fd, meta)
    return Verdict(found.pages, found.free, found.entries, found.faults)


def _some(faults: Iterator[str]) -> Iterator[str]:
    for count, fault in enumerate(faults):
        if count >= MOST_FAULTS:
            return
        yield fault


def row_faults(txn: Txn, store: Store) -> Iterator[str]:
    """What is wrong with the rows."""
    for said in ("format", "name", "id"):
        try:
            if get_meta(txn, store.meta, said) is None:
                yield f"meta: it does not say its {said}"
        except _UNREADABLE as error:
            yield f"meta: {said}: {error}"
    for key, value in _rows(txn, store.state):
        try:
            _state_row(key, value)
        except _UNREADABLE as error:
            owner, _, row = key.partition(b"\0")
            yield f"state of {owner.decode(errors='replace')}: {key_to_json(row)}: {error}"
    for key, value in _rows(txn, store.messages):
        try:
            _message_row(txn, store.messages, key, value)
        except _UNREADABLE as error:
            yield f"messages: {key!r:.100}: {error}"


def _rows(txn: Txn, db: Any) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor(db=db) as cursor:
        yield from cursor.iternext()


def _state_row(key: bytes, value: bytes) -> None:
    owner, zero, row = key.partition(b"\0")
    if not owner or not zero:
        raise NotSo("it has no owner")
    owner.decode()
    if not statekeys.is_reserved(row):
        statekeys.decode(row)
    msgspec.msgpack.decode(value)


def _message_row(txn: Txn, db: Any, key: bytes, value: bytes) -> None:
    check = next((check for prefix, check in _CHECKS.items() if key.startswith(prefix)), None)
    if check is None:
        raise NotSo("nothing of that kind is known")
    check(txn, db, key, value)


def _waiting(txn: Txn, db: Any, key: bytes, value: bytes) -> None:
    name = key[1 : -_TIME_BYTES - 1]
    if key[-_TIME_BYTES - 1 : -_TIME_BYTES] != b"\0" or not name:
        raise NotSo("it is in no box")
    if txn.get(BOX + name + b"\0", db=db) is None:
        raise NotSo(f"there is no box {name.decode()}")
    posts.decode(value)


def _seen(txn: Txn, db: Any, key: bytes, value: bytes) -> None:
    if len(value) != _TIME_BYTES or txn.get(SEEN_BY_TIME + value + key[1:], db=db) is None:
        raise NotSo("an id that will never be forgotten")


def _seen_by_time(txn: Txn, db: Any, key: bytes, _value: bytes) -> None:
    time, of = key[1 : 1 + _TIME_BYTES], key[1 + _TIME_BYTES :]
    if txn.get(SEEN + of, db=db) != time:
        raise NotSo("an id that is to be forgotten, and is not there")


def _box(_txn: Txn, _db: Any, key: bytes, value: bytes) -> None:
    key[1:-1].decode()
    if value not in (b"", EACH) or key[-1:] != b"\0":
        raise NotSo("it is no box")


def _index(txn: Txn, db: Any, _key: bytes, value: bytes) -> None:
    if txn.get(value, db=db) is None:
        raise NotSo("it names a timer that is not there")


def _of(decode: Callable[[bytes], object]) -> Callable[[Txn, Any, bytes, bytes], None]:
    def check(_txn: Txn, _db: Any, _key: bytes, value: bytes) -> None:
        decode(value)

    return check


def _any(value: bytes) -> None:
    """A row of the workflows that is no run and no step: a name, or nothing."""
    value.decode()


_CHECKS: dict[bytes, Callable[[Txn, Any, bytes, bytes], None]] = {
    WAITING: _waiting,
    SEEN: _seen,
    SEEN_BY_TIME: _seen_by_time,
    BOX: _box,
    deadletters.DEAD: _of(deadletters.decode),
    timers.BY_WALL: _of(timers.decode),
    timers.BY_ELAPSED: _of(timers.decode),
    timers.OFFSET: _of(msgspec.msgpack.Decoder(int).decode),
    timers.OF_POST: _index,
    timers.OF_SCHEDULE: _index,
    scheduled.SCHEDULE: _of(msgspec.msgpack.Decoder(scheduled.Schedule).decode),
    workflow_rows.RUN: _of(msgspec.msgpack.Decoder(workflow_rows.Run).decode),
    workflow_rows.STEP: _of(msgspec.msgpack.Decoder(workflow_rows.Step).decode),
    b"w": _of(_any),
}
"""By what their keys begin with; the first that fits."""
