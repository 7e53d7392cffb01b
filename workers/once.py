"""
Effects outside the store, which no transaction can undo: each is on record with its result as soon as it is had.

An agent has so many results on record (`MOST`); for one more, the oldest is forgotten, and it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from regrow.ipc import statekeys
from regrow.ipc.store import Txn
from regrow.ipc.transaction import Transaction
from regrow.workers.notify import notify
from regrow.workers.state_values import values_of
from regrow.workers.unit import Unit

T = TypeVar("T")

MOST = 1_000_000
"""
Results of one agent. As many posts wait in a full box: whichever of them is handled again finds what the one before it
has done.
"""

ORDER = statekeys.reserved("effects")
"""Behind it a number, to the row of a result; in the order in which they were had."""

_NUMBER_BYTES = 8


def once(unit: Unit, key: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """
    The result that is on record under `key`, or that of `function`, which is on record then.

    Raises:
        BadState: the result cannot be kept; StoreError; and what `function` raises.
    """
    owner = unit.owner
    row = statekeys.reserved("once") + statekeys.encode(key, statekeys.limit_of(owner.name) - len("once") - 1)
    prefix = owner.name.encode() + b"\0"
    place = prefix + row
    store, values = unit.posting.store, values_of(Any)
    unrecorded = owner.unrecorded
    kept = store.row(place)
    if kept is not None:
        known: T = values.read(kept, statekeys.encode(key))
        return known
    if place not in unrecorded:
        result = function(*args, **kwargs)
        unrecorded[place] = values.write(result, statekeys.encode(key))
    else:  # the store had no room for it
        result = values.read(unrecorded[place], statekeys.encode(key))
    forgotten = [0]

    def put(txn: Txn) -> None:
        forgotten[0] = record(txn, store.state, prefix, row, unrecorded[place])

    together = Transaction()
    together.then.append(put)
    unit.posting.commit(together)
    del unrecorded[place]
    if forgotten[0] and not owner.forgets:
        owner.forgets = True
        text = f"{owner.name} forgets the oldest results of once(): the last {MOST} are kept"
        notify(f"X_REGROW_EVENT=store\nX_REGROW_TEXT={text}")
    return result


def record(txn: Txn, db: Any, prefix: bytes, row: bytes, value: bytes) -> int:
    """
    Keep a result, at the expense of the oldest where there are too many; returns how many were forgotten.

    Args:
        prefix: of the rows of its owner.
    """
    if not txn.put(prefix + row, value, db=db, overwrite=False):  # two handlers have had it at once
        txn.put(prefix + row, value, db=db)
        return 0
    first = prefix + ORDER
    number = _next(txn, db, first)
    txn.put(first + number.to_bytes(_NUMBER_BYTES, "big"), msgspec.msgpack.encode(row), db=db)
    forgotten = 0
    while number >= MOST and (oldest := _oldest(txn, db, first, number - MOST)) is not None:
        key, gone = oldest
        txn.delete(key, db=db)
        txn.delete(prefix + gone, db=db)
        forgotten += 1
    return forgotten


def _next(txn: Txn, db: Any, first: bytes) -> int:
    with txn.cursor(db=db) as cursor:
        found = cursor.prev() if cursor.set_range(first + b"\xff" * (_NUMBER_BYTES + 1)) else cursor.last()
        if not found or not cursor.key().startswith(first):
            return 0
        return int.from_bytes(cursor.key()[-_NUMBER_BYTES:], "big") + 1


def _oldest(txn: Txn, db: Any, first: bytes, number: int) -> tuple[bytes, bytes] | None:
    """The place in the order and the row of the oldest result, if it has this number or a lower one."""
    with txn.cursor(db=db) as cursor:
        if not cursor.set_range(first) or cursor.key() > first + number.to_bytes(_NUMBER_BYTES, "big"):
            return None
        return cursor.key(), msgspec.msgpack.decode(cursor.value(), type=bytes)
