"""
The recorded subscriptions of the processes of this host, beside the names.

A process writes its own; a hub that is started anew reads them, and lets signals wait for those who have not connected
to it yet. Like a name, a record is worth nothing once its process is dead.

Source: architecture section 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from regrow.ipc.process import open_pidfd
from regrow.ipc.topics import TopicError, check_pattern

if TYPE_CHECKING:
    import lmdb

PREFIX = b"\0sub:"
MAX_PATTERNS = 1_000
"""Of one process."""


class Recorded(Struct, frozen=True, array_like=True):
    """Which process it is, and what it is subscribed to. `started` is as of `process.start_time`."""

    pid: int
    started: int
    patterns: tuple[str, ...]

    def open_pidfd(self) -> int:
        """A descriptor of the process, -1 when it is dead; raises OSError as `process.open_pidfd` does."""
        return open_pidfd(self.pid, self.started)


_decode = msgspec.msgpack.Decoder(Recorded).decode


def write(env: lmdb.Environment, token: str, recorded: Recorded) -> None:
    """
    Record the subscriptions of the process that has chosen this token.

    Raises:
        lmdb.Error: the table is full.
    """
    with env.begin(write=True) as txn:
        txn.put(PREFIX + token.encode(), msgspec.msgpack.encode(recorded))


def remove(env: lmdb.Environment, token: str) -> None:
    """Idempotent."""
    with env.begin(write=True) as txn:
        txn.delete(PREFIX + token.encode())


def read(env: lmdb.Environment, token: str) -> Recorded | None:
    """What is recorded under this token, None if nothing that makes sense is."""
    with env.begin() as txn:
        value = txn.get(PREFIX + token.encode())
    return _read(value) if value is not None else None


def read_all(env: lmdb.Environment) -> Iterator[tuple[str, Recorded | None]]:
    """Every record with its token; None in place of what makes no sense."""
    with env.begin() as txn:
        cursor = txn.cursor()
        if not cursor.set_range(PREFIX):
            return
        items = []
        for key, value in cursor:
            if not bytes(key).startswith(PREFIX):
                break
            items.append((bytes(key), bytes(value)))
    for key, value in items:
        yield key[len(PREFIX) :].decode(errors="replace"), _read(value)


def _read(value: bytes) -> Recorded | None:
    try:
        recorded = _decode(value)
        for pattern in recorded.patterns:
            check_pattern(pattern)
    except (msgspec.MsgspecError, UnicodeDecodeError, TopicError):
        return None
    return recorded if len(recorded.patterns) <= MAX_PATTERNS else None
