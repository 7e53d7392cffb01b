"""
Dead letters: posts that will not be handled as they are, kept with the evidence until somebody looks at them.

Everything here works inside a transaction of whoever calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from regrow.ipc import posts
from regrow.ipc.errors import StoreDamaged
from regrow.ipc.posts import Box, Post
from regrow.ipc.store import Txn

DEAD = b"d"

MOST = 100_000
"""So many are kept, by their numbers; for one more, the oldest is forgotten."""


class Cause(StrEnum):
    """Why a post became a dead letter."""

    ATTEMPTS = "attempts"
    """Its handler has failed so often that it is taken for the reason."""

    BAD_REQUEST = "bad_request"
    """It fits no handler."""

    REFUSED = "refused"
    """Its handler has raised what belongs to the sender, who does not wait for it."""

    EXPIRED = "expired"
    """It was not handled in time."""


class DeadLetter(Struct, frozen=True, array_like=True):
    """`at` is in seconds since the epoch; `text` says more than the cause."""

    to: str
    post: Post
    cause: Cause
    at: float
    text: str = ""


decode = msgspec.msgpack.Decoder(DeadLetter).decode
"""A letter as it was kept; raises msgspec.MsgspecError: it is damaged."""


def _read(key: bytes, value: bytes) -> DeadLetter:
    try:
        return decode(value)
    except msgspec.MsgspecError as error:
        number = int.from_bytes(key[1:], "big")
        remedy = f"`regrow dead drop {number}` forgets it"
        raise StoreDamaged(f"dead letter {number}", key, str(error), remedy) from None


_encoder = msgspec.msgpack.Encoder()


def encode(letter: DeadLetter) -> bytes:
    """A letter as it is kept."""
    return _encoder.encode(letter)


def bury(txn: Txn, db: Any, letter: DeadLetter) -> int:
    """Keep a letter, at the expense of the oldest where there are too many; returns how many were forgotten."""
    number = (_last(txn, db) or 0) + 1
    txn.put(key_of(number), encode(letter), db=db)
    forgotten = 0
    with txn.cursor(db=db) as cursor:
        while cursor.set_range(DEAD) and cursor.key() <= key_of(max(number - MOST, 0)):
            cursor.delete()
            forgotten += 1
    return forgotten


def told_of(forgotten: int) -> str:
    """What somebody is to be told of those that `bury` has forgotten."""
    return f"{forgotten} of the oldest dead letters forgotten: the last {MOST} are kept, see `regrow dead`"


def listed(txn: Txn, db: Any) -> Iterator[tuple[int, DeadLetter]]:
    """
    All of them, the oldest first.

    Raises:
        StoreDamaged.
    """
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(DEAD):
            for key, value in cursor.iternext():
                if not key.startswith(DEAD):
                    return
                yield int.from_bytes(key[1:], "big"), _read(key, value)


def numbers(txn: Txn, db: Any) -> Iterator[int]:
    """Of all of them, damaged or not; the oldest first."""
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(DEAD):
            for key in cursor.iternext(values=False):
                if not key.startswith(DEAD):
                    return
                yield int.from_bytes(key[1:], "big")


def unreadable() -> DeadLetter:
    """What stands for a letter that is damaged."""
    return DeadLetter("?", posts.unreadable(), Cause.BAD_REQUEST, 0.0)


def get(txn: Txn, db: Any, number: int) -> DeadLetter | None:
    """The letter of this number; None when there is none. Raises StoreDamaged."""
    key = key_of(number)
    found = txn.get(key, db=db)
    return None if found is None else _read(key, found)


def drop(txn: Txn, db: Any, number: int) -> bool:
    """Forget one; whether it was there."""
    return bool(txn.delete(key_of(number), db=db))


def retry(txn: Txn, db: Any, number: int) -> tuple[DeadLetter, bool] | None:
    """
    Put one back at the end of its box, as if it had never been tried; it does not expire any more.

    Returns:
        The letter, and whether its box was empty; None when there is none of that number.
    Raises:
        StoreDamaged.
    """
    letter = get(txn, db, number)
    if letter is None:
        return None
    drop(txn, db, number)
    post = msgspec.structs.replace(letter.post, failures=(), expires_at=0.0)
    return letter, Box(db, letter.to).put(txn, posts.encode(post))


def _last(txn: Txn, db: Any) -> int | None:
    with txn.cursor(db=db) as cursor:
        end = bytes([DEAD[0] + 1])
        found = cursor.prev() if cursor.set_range(end) else cursor.last()
        return int.from_bytes(cursor.key()[1:], "big") if found and cursor.key().startswith(DEAD) else None


def key_of(number: int) -> bytes:
    """The row of the letter of this number."""
    return DEAD + number.to_bytes(8, "big")
