"""
What mailboxes that have said their last word had taken: noted beside the names, by processes that end in order.

A mailbox tells each connection the newest id that it has taken (`CLOSING`). To one whose first message comes too late
it has nothing to say, as it has never heard of it. Such a sender finds here that nothing of its own was taken.

The names of mailboxes are used once and end at random, so some places that each hold the newest few will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from regrow.ipc.names import Names

PREFIX = b"\0end:"
PLACE = 2
"""How many of the last characters of a mailbox are its place: 256 of them."""

KEPT = 8
"""In one place: hundreds of others have to end before a note is lost."""

KEPT_BYTES = 1 << 15
"""In one place, so that all of them need 8 MiB at most."""

MAX_SENT = 1 << 40
"""More ids than any process uses."""

MAX_TAKEN = 3_000
"""Ids in one note, which has room for them whatever the mailbox is called. With more senders there is none."""


class Parting(Struct, frozen=True, array_like=True):
    """The mailbox, and of each connection the newest id that was taken."""

    mailbox: str
    taken: tuple[int, ...]


_decode = msgspec.msgpack.Decoder(list[Parting]).decode


def note(names: Names, parting: Parting) -> None:
    """
    Leave it for those who will ask.

    Raises:
        lmdb.Error: the table is full, or not to be written; nobody will know.
    """
    names.change(_place(parting.mailbox), lambda found: _fitting([parting, *_read(found)][:KEPT]))


def taken(names: Names, mailbox: str) -> tuple[int, ...] | None:
    """What is noted of it; None: nothing, or the table cannot be read."""
    import lmdb

    try:
        partings = _read(names.look_up(_place(mailbox)))
    except lmdb.Error:
        return None
    return next((parting.taken for parting in partings if parting.mailbox == mailbox), None)


def newest(names: Names, mailbox: str, first: int) -> int | None:
    """
    The newest id of the sender whose ids begin with `first` that it had taken, -1: none; None: nobody knows.

    It holds for the only connection that there was between the two.
    """
    found = taken(names, mailbox)
    if found is None:
        return None
    return max((id for id in found if first <= id < first + MAX_SENT), default=-1)


def _fitting(partings: list[Parting]) -> bytes:
    while len(encoded := msgspec.msgpack.encode(partings)) > KEPT_BYTES:
        partings = partings[:-1]
    return encoded


def _read(found: bytes | None) -> list[Parting]:
    try:
        return _decode(found) if found is not None else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []  # nobody's, that anybody could tell


def _place(mailbox: str) -> bytes:
    return PREFIX + mailbox[-PLACE:].encode(errors="replace")
