"""
Posts: messages that are kept until they have taken effect, each in the box of the name that it is for.

Everything here works inside a transaction of whoever calls it. A box is in the order of its commits; a post keeps its
place in it until it is taken out.

Source: architecture section 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw, Struct

from regrow.config.readable import quoted
from regrow.ipc.errors import Backpressure, BadRequest
from regrow.ipc.store import Txn
from regrow.ipc.unsendable import bad_arguments, too_large
from regrow.ipc.wire import UNSENDABLE

MAX_WAITING = 1_000_000
"""Posts in one box; one more is refused with Backpressure."""

MAX_PUT_OFF = 100_000
"""Posts that are put off for one name, and its schedules as many; one more is refused with Backpressure."""

BOX_IS_FULL, TOO_MANY_PUT_OFF = "its box", "what is put off for it"
"""`where` of Backpressure: there is room again when something was handled, or is due."""

MAX_ID_BYTES = 200
MAX_NAME_AND_ID_BYTES = 500
"""A key of the store has 511 at most."""

MAX_TEXT = 16_000
"""Characters of a traceback that are kept with a post."""

WAITING, SEEN, SEEN_BY_TIME, BOX = b"q", b"i", b"j", b"b"

EACH = b"\1"
"""What a box has under BOX whose owner leaves posts in it and sleeps: he is told of each one."""

_ROWS = 8
"""Read before their sizes are looked at."""

_MAX_BYTES = 16 * 1024 * 1024


class Failure(Struct, frozen=True, array_like=True):
    """
    An attempt that has come to nothing. `at` is in seconds since the epoch; `reason` as in a `last_exit`; `text` says
    more, such as a traceback.
    """

    incarnation: int
    at: float
    reason: str
    text: str = ""


class Post(Struct, frozen=True, array_like=True, gc=False):
    """
    One message. `args` is an encoded array, `kwargs` an encoded map; `sender` is the agent that has posted it, or "".

    `at` and `expires_at` are in seconds since the epoch; 0: it does not expire.
    """

    handler: str
    args: Raw
    kwargs: Raw
    sender: str = ""
    id: str = ""
    at: float = 0.0
    expires_at: float = 0.0
    failures: tuple[Failure, ...] = ()


decode = msgspec.msgpack.Decoder(Post).decode
"""A post as it was kept; raises msgspec.MsgspecError: it is damaged."""

_EMPTY_ARRAY, _EMPTY_MAP = Raw(b"\x90"), Raw(b"\x80")


def unreadable(id: str = "") -> Post:
    """What stands for a post that is damaged; no handler has this name."""
    return Post("", _EMPTY_ARRAY, _EMPTY_MAP, id=id)


_encoder = msgspec.msgpack.Encoder()
_message = msgspec.msgpack.Encoder().encode


def encode(post: Post) -> bytes:
    """A post as it is kept."""
    return _encoder.encode(post)


def written(to: str, handler: str, args: Any, kwargs: Any, sender: str, id: str, at: float, expires_at: float) -> bytes:
    """
    A post as it is kept.

    Raises:
        BadRequest: it cannot be encoded, or is too large.
    """
    try:
        post = _message((handler, args, kwargs, sender, id, at, expires_at))
    except UNSENDABLE as error:
        raise bad_arguments(to, handler, args, kwargs, error) from None
    if len(post) > _MAX_BYTES:
        raise too_large(to, handler, len(post), _MAX_BYTES)
    return post


def check_id(to: str, id: object) -> str:
    """
    An id as it may be.

    Raises:
        BadRequest.
    """
    size = _size(id) if type(id) is str else 0
    if type(id) is not str or not 0 < size <= MAX_ID_BYTES or "\0" in id:
        raise BadRequest(to, f"an id is a text of 1 to {MAX_ID_BYTES} bytes, not {quoted(id, 100)}")
    if len(to.encode(errors="replace")) + size > MAX_NAME_AND_ID_BYTES:
        raise BadRequest(to, f"its name and the id {id!r:.100} are too long together")
    return id


def _size(text: str) -> int:
    """In bytes; 0 where it is no text."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


class Box:
    """
    The box of one name. Ordinals are its order: of a post in it, never used twice.

    Args:
        db: the store's `messages`.
    """

    __slots__ = ("_db", "_end", "_first", "_name", "name")

    def __init__(self, db: Any, name: str) -> None:
        self._db = db
        self.name = name
        self._name = name.encode() + b"\0"
        self._first = WAITING + self._name
        self._end = WAITING + name.encode() + b"\1"

    def put(self, txn: Txn, *posts: bytes) -> bool:
        """Add posts at the end; returns whether its owner is to be told: it was empty, or he is told of each."""
        first = self._first
        with txn.cursor(db=self._db) as cursor:
            last = self._last(cursor)
            ordinal = txn.id() << 16 if last is None else last + 1
            if len(posts) == 1:
                cursor.put(first + ordinal.to_bytes(8, "big"), posts[0])
            else:
                cursor.putmulti([(first + each.to_bytes(8, "big"), post) for each, post in enumerate(posts, ordinal)])
        known = txn.get(BOX + self._name, db=self._db)
        if known is None:
            txn.put(BOX + self._name, b"", db=self._db)
        return last is None or known == EACH

    def is_new(self, txn: Txn, id: str, at: float) -> bool:
        """Put on record that there is a post with this id; False when there ever was one."""
        key = self._name + id.encode()
        if txn.get(SEEN + key, db=self._db) is not None:
            return False
        time = int(at * 1e6).to_bytes(8, "big")
        txn.put(SEEN + key, time, db=self._db)
        txn.put(SEEN_BY_TIME + time + key, b"", db=self._db)
        return True

    def forget_id(self, txn: Txn, id: str) -> None:
        """A post with this id may come again."""
        key = self._name + id.encode()
        time = txn.pop(SEEN + key, db=self._db)
        if time is not None:
            txn.delete(SEEN_BY_TIME + time + key, db=self._db)

    def after(self, txn: Txn, ordinal: int, count: int, size: int) -> list[tuple[int, bytes]]:
        """Up to `count` posts of about `size` bytes together, one at least, behind this ordinal (-1: all), in order."""
        last = b"" if ordinal < 0 else self.key(ordinal)
        return [(ordinal_of(key), post) for key, post in self.behind(txn, last, count, size)]

    def behind(self, txn: Txn, last: bytes, count: int, size: int) -> list[tuple[bytes, bytes]]:
        """The same as keys and posts, behind the one with the key `last` (b"": all)."""
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(last + b"\0" if last else self._first):
                return []
            rows = cursor.iternext()
            found: list[tuple[bytes, bytes]] = []
            while len(found) < count and size > 0:
                few: list[tuple[bytes, bytes]] = list(islice(rows, _ROWS))
                found += few
                if len(few) < _ROWS or not few[-1][0].startswith(self._first):
                    break
                for _, post in few:
                    size -= len(post)
        while found and not found[-1][0].startswith(self._first):
            found.pop()
        return found

    def get(self, txn: Txn, ordinal: int) -> bytes | None:
        found: bytes | None = txn.get(self.key(ordinal), db=self._db)
        return found

    def replace(self, txn: Txn, ordinal: int, post: Post) -> None:
        """Put another in its place."""
        txn.put(self.key(ordinal), encode(post), db=self._db)

    def take(self, txn: Txn, ordinal: int) -> bool:
        """Take one out; whether it was there."""
        return bool(txn.delete(self.key(ordinal), db=self._db))

    def take_all(self, txn: Txn, keys: list[bytes]) -> None:
        """Take out those that are there; they are in order, so one is often right behind the other."""
        with txn.cursor(db=self._db) as cursor:
            for key in keys:
                if cursor.key() == key or cursor.set_key(key):
                    cursor.delete()

    def length(self, txn: Txn) -> int:
        """How many wait; more by the gaps that posts have left which were taken out of the middle."""
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(self._first) or not cursor.key().startswith(self._first):
                return 0
            first = int.from_bytes(cursor.key()[-8:], "big")
            last = self._last(cursor)
            return 0 if last is None else last - first + 1

    def last(self, txn: Txn) -> int | None:
        """The ordinal of the post at its end; None when it is empty."""
        with txn.cursor(db=self._db) as cursor:
            return self._last(cursor)

    def check_room(self, txn: Txn) -> None:
        """
        See that there is room for one more.

        Raises:
            Backpressure.
        """
        length = self.length(txn)
        if length >= MAX_WAITING:
            raise Backpressure(self.name, length, MAX_WAITING, BOX_IS_FULL)

    def key(self, ordinal: int) -> bytes:
        """The key of its row."""
        return self._first + ordinal.to_bytes(8, "big")

    def _last(self, cursor: Any) -> int | None:
        found = cursor.prev() if cursor.set_range(self._end) else cursor.last()
        if not found:
            return None
        key: bytes = cursor.key()
        return int.from_bytes(key[-8:], "big") if key.startswith(self._first) else None


def ordinal_of(key: bytes) -> int:
    """What the key of a post ends with."""
    return int.from_bytes(key[-8:], "big")


def boxes(txn: Txn, db: Any) -> Iterator[str]:
    """The names for which anything was ever posted, sorted."""
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(BOX):
            for key in cursor.iternext(values=False):
                if not key.startswith(BOX):
                    return
                yield key[1:-1].decode()


def oldest_id(txn: Txn, db: Any) -> float | None:
    """When the oldest post was put in whose id is remembered, in seconds since the epoch; None: there is none."""
    with txn.cursor(db=db) as cursor:
        if not cursor.set_range(SEEN_BY_TIME) or not cursor.key().startswith(SEEN_BY_TIME):
            return None
        return int.from_bytes(cursor.key()[1:9], "big") / 1e6


def forget_ids(txn: Txn, db: Any, before: float, limit: int) -> int:
    """Forget up to `limit` ids of posts that were put in before this time (seconds since the epoch); how many."""
    end = SEEN_BY_TIME + int(before * 1e6).to_bytes(8, "big")
    with txn.cursor(db=db) as cursor:
        old: list[bytes] = []
        if cursor.set_range(SEEN_BY_TIME):
            for key in cursor.iternext(values=False):
                if key >= end or len(old) >= limit:
                    break
                old.append(key)
    for key in old:
        txn.delete(key, db=db)
        txn.delete(SEEN + key[9:], db=db)
    return len(old)
