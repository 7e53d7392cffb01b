"""
What is to be committed together: changes of state, posts, and whatever else belongs to them.

It lies in memory until then, so nobody waits for whoever takes long; reads of the state see it.

Source: architecture section 7.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeAlias

from msgspec import Struct

from regrow.ipc.errors import BadRequest
from regrow.ipc.posts import Box
from regrow.ipc.store import Store, Txn

CHUNK = 256
"""Rows read at once while somebody iterates: no read transaction is open in between."""

CHUNK_BYTES = 1 << 20
"""Fewer, when their values have so much together."""

MOST_POSTS = 100_000
"""Of one transaction: they lie in memory until it commits, and their boxes do not count them until then."""

Ring: TypeAlias = Callable[[str], None]
"""Tells a name that its box is no longer empty; called inside the transaction."""


class Overtaken(Exception):
    """Somebody else has changed what this transaction has read and shares with others; nothing was changed."""


class Outgoing(Struct, eq=False, gc=False):
    """A post on its way into the box of `to`; with an `id` that counts if `once`."""

    to: str
    post: bytes
    id: str
    once: bool
    at: float


class Timing(Outgoing, eq=False):
    """What is done with a timer of `to`, in the order of the posts."""

    def apply(self, txn: Txn, store: Store) -> None:
        """Do it, inside an open transaction of the store. Raises Overtaken."""
        raise NotImplementedError


class Transaction:
    """
    An overlay on the store, or on another transaction that it will become part of.

    `puts` are rows of the state, None for one that is to be gone. `seen` are rows that others may change, as they were
    read, and `counted` is how many there were from one key up to another. `then` is called with the open transaction,
    last.
    """

    __slots__ = ("counted", "parent", "posts", "puts", "seen", "then")

    def __init__(self, parent: Transaction | None = None) -> None:
        self.parent = parent
        self.puts: dict[bytes, bytes | None] = {}
        self.posts: list[Outgoing] = []
        self.then: list[Callable[[Txn], None]] = []
        self.seen: dict[bytes, bytes | None] = {}
        self.counted: dict[tuple[bytes, bytes], int] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.puts or self.posts or self.then)

    def post(self, out: Outgoing) -> None:
        """
        Post with the commit.

        Raises:
            BadRequest: it would be one too many.
        """
        count, layer = len(self.posts), self.parent
        while layer is not None:
            count, layer = count + len(layer.posts), layer.parent
        if count >= MOST_POSTS:
            what = f"one transaction posts at most {MOST_POSTS} messages; commit in parts, each in a transaction()"
            raise BadRequest(out.to, what)
        self.posts.append(out)

    def clear(self) -> None:
        """Begin anew."""
        if self.puts:
            self.puts = {}  # another one: `_Changes` sees it
        if self.posts:
            self.posts.clear()
        if self.then:
            self.then.clear()
        if self.seen:
            self.seen.clear()
        if self.counted:
            self.counted.clear()

    def add(self, later: Transaction) -> None:
        """Do besides what that one does, which stays as it is."""
        self.puts.update(later.puts)
        self.posts += later.posts
        self.then += later.then
        self._add_seen(later)

    def _add_seen(self, later: Transaction) -> None:
        for key, found in later.seen.items():
            self.seen.setdefault(key, found)  # what has used the first may not be committed with another one
        for span, count in later.counted.items():
            self.counted.setdefault(span, count)

    def absorb(self, part: Transaction) -> None:
        """Take over what a part of this one was to change; the part is empty afterwards."""
        if part.puts:
            self.puts.update(part.puts)
            part.puts = {}
        if part.posts:
            self.posts += part.posts
            part.posts.clear()
        if part.then:
            self.then += part.then
            part.then.clear()
        if part.seen or part.counted:
            self._add_seen(part)
            part.seen.clear()
            part.counted.clear()

    def get(self, key: bytes, read: Callable[[bytes], bytes | None], shared: bool = False) -> bytes | None:
        """
        A row as it would be after the commit.

        Args:
            read: gives it as it is in the store.
            shared: others may change it, which the commit will look for.
        """
        layer: Transaction | None = self
        while layer is not None:
            if key in layer.puts:
                return layer.puts[key]
            layer = layer.parent
        found = read(key)
        if shared:
            self.seen.setdefault(key, found)
        return found

    def scan(
        self, store: Store, first: bytes, end: bytes, *, reverse: bool = False, shared: bool = False,
        values: bool = True,
    ) -> Iterator[tuple[bytes, bytes]]:  # fmt: skip
        """
        Rows with `first` <= key < `end`, as they would be after the commit; rows may be put meanwhile.

        `values`: False where nobody asks for them: they may be b"" then, as none is read for it.
        """
        values = values or shared
        changes: list[_Changes] = []
        layer: Transaction | None = self
        while layer is not None:
            changes.insert(0, _Changes(layer))
            layer = layer.parent
        while True:
            rows = store.read(partial(_chunk, db=store.state, first=first, end=end, reverse=reverse, values=values))
            full = len(rows) >= CHUNK or sum(len(value) for _, value in rows) >= CHUNK_BYTES
            low, high = first, end
            if full:
                low, high = (rows[-1][0], end) if reverse else (first, rows[-1][0] + b"\0")
            if shared:
                for key, value in rows:
                    self.seen.setdefault(key, value)
                self.counted.setdefault((low, high), len(rows))
            merged = dict(rows)
            for each in changes:
                each.lay_over(merged, low, high)
            for key in sorted(merged, reverse=reverse):
                yield key, merged[key]
            if not full:
                return
            first, end = (first, low) if reverse else (high, end)

    def apply(self, txn: Txn, store: Store, ring: Ring) -> None:
        """
        Do it, inside an open transaction of the store.

        Raises:
            Overtaken.
        """
        self.check(txn, store)
        self.carry_out(txn, store, ring)

    def check(self, txn: Txn, store: Store) -> None:
        """
        See that what was read is still so; of several that are done together, all are to be checked first.

        Raises:
            Overtaken.
        """
        state = store.state
        for key, seen in self.seen.items():
            if txn.get(key, db=state) != seen:
                raise Overtaken
        for (first, end), count in self.counted.items():
            if _count(txn, state, first, end, count + 1) != count:
                raise Overtaken

    def carry_out(self, txn: Txn, store: Store, ring: Ring) -> None:
        """Do it, once it is checked."""
        state = store.state
        for key, value in self.puts.items():
            if value is None:
                txn.delete(key, db=state)
            else:
                txn.put(key, value, db=state)
        if self.posts:
            self._post(txn, store, ring)
        for then in self.then:
            then(txn)

    def _post(self, txn: Txn, store: Store, ring: Ring) -> None:
        """In the order of each box."""
        messages = store.messages
        new: dict[str, list[bytes]] = {}
        for out in self.posts:
            if isinstance(out, Timing):
                out.apply(txn, store)
                continue
            posts = new.get(out.to)
            if posts is None:
                posts = new[out.to] = []
            if not out.once or Box(messages, out.to).is_new(txn, out.id, out.at):
                posts.append(out.post)
        for to, posts in new.items():
            if posts and Box(messages, to).put(txn, *posts):
                ring(to)


class _Changes:
    """What one transaction has changed, in the order of the keys, for somebody who iterates while it grows."""

    __slots__ = ("_keys", "_puts", "_transaction")

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._puts = transaction.puts
        self._keys: list[bytes] = []

    def lay_over(self, rows: dict[bytes, bytes], first: bytes, end: bytes) -> None:
        """Change the rows with `first` <= key < `end`."""
        if self._transaction.puts is not self._puts:
            self._puts = self._transaction.puts
            self._keys.clear()
        keys, puts = self._keys, self._puts
        if len(puts) > len(keys):
            self._take_in(sorted(islice(reversed(puts), len(puts) - len(keys))))
        for key in keys[bisect_left(keys, first) : bisect_left(keys, end)]:
            value = puts[key]
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    def _take_in(self, new: list[bytes]) -> None:
        """Whoever changes what it iterates over puts one key behind the other, or before it: that is no work."""
        keys = self._keys
        if not keys or keys[-1] < new[0]:
            keys += new
        elif new[-1] < keys[0]:
            keys[:0] = new
        else:
            keys += new
            keys.sort()


def _chunk(txn: Txn, db: object, first: bytes, end: bytes, reverse: bool, values: bool) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    with txn.cursor(db=db) as cursor:
        if reverse:
            found = cursor.prev() if cursor.set_range(end) else cursor.last()
            keys = cursor.iterprev(values=False) if found else iter(())
        else:
            keys = cursor.iternext(values=False) if cursor.set_range(first) else iter(())
        for key in keys:
            if not first <= key < end:
                break
            value = cursor.value() if values else b""
            rows.append((key, value))
            size += len(value)
            if len(rows) >= CHUNK or size >= CHUNK_BYTES:
                break
    return rows


def _count(txn: Txn, db: object, first: bytes, end: bytes, most: int) -> int:
    """How many rows there are with `first` <= key < `end`; no more than `most` are looked at."""
    count = 0
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(first):
            for key in islice(cursor.iternext(values=False), most):
                if key >= end:
                    break
                count += 1
    return count


__all__ = ["CHUNK", "Outgoing", "Overtaken", "Ring", "Timing", "Transaction"]
