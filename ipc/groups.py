"""
Which member of a group a message goes to.

A group is what `replicas` makes: `pricer.0`, `pricer.1`, … have the group name `pricer`. A plain group name goes
round; the other ways are said by an address.

Source: otp-rules S167-S174.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from regrow.ipc.errors import BadRequest
from regrow.ipc.unsendable import bad_value
from regrow.ipc.wire import UNSENDABLE

if TYPE_CHECKING:
    from regrow.ipc.seeker import Seeker


class ByKey(Struct, frozen=True):
    """The member that this key belongs to: always the same one while the number of replicas is."""

    group: str
    key: Any

    def __str__(self) -> str:
        return f"{self.group} by key {self.key!r}"


class LeastOutstanding(Struct, frozen=True):
    """The living member with the fewest messages of this process on their way."""

    group: str

    def __str__(self) -> str:
        return self.group


class RoundRobin(Struct, frozen=True):
    """The living members in turn."""

    group: str

    def __str__(self) -> str:
        return self.group


Address = ByKey | LeastOutstanding | RoundRobin
by_key, least_outstanding, round_robin = ByKey, LeastOutstanding, RoundRobin


def partition(key: Any, partitions: int) -> int:
    """
    Which of `partitions` (at least 1) a key belongs to: an integer by its remainder, anything else by a hash (S169).

    The same on every host and in every version of Python.

    Raises:
        TypeError: the key cannot be encoded.
    """
    if isinstance(key, int):
        return abs(key) % partitions
    import hashlib  # brings OpenSSL with it, which supervisors of agents need not carry

    digest = hashlib.blake2b(msgspec.msgpack.encode(key, order="deterministic"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % partitions


def check_address(to: object) -> None:
    """Raises BadRequest: it says of nobody who it is."""
    if not isinstance(to, str | Address):
        text = "a receiver is a name, as text, or an address of a group: by_key, least_outstanding, round_robin"
        raise BadRequest(repr(to), text)


def choose(node: Seeker, to: str | Address, turns: dict[str, int], tried: Collection[str] = ()) -> str | None:
    """
    The name of the member; None where the group has nobody that it could be. `turns` counts rounds by group; `tried`
    are mailboxes of processes that have refused.

    Raises:
        BadRequest: the key cannot be encoded, or `to` is no address; OSError: of no member it can be told whether it
        lives.
    """
    check_address(to)
    if isinstance(to, ByKey):
        return _by_key(node, to)
    group = to if isinstance(to, str) else to.group
    members = [name for name in node.reachable(group) if name != node.name and node.mailbox_of(name) not in tried]
    if not members:
        return None
    if isinstance(to, LeastOutstanding):
        return min(members, key=node.outstanding)
    turn = turns[group] = turns.get(group, os.urandom(1)[0]) + 1  # not everybody begins with the first
    return members[turn % len(members)]


def _by_key(node: Seeker, to: ByKey) -> str | None:
    """A key's member, whether it lives or not: another one would not have what belongs to the key."""
    replicas = node.replicas(to.group)
    if not replicas:
        return None
    try:
        return f"{to.group}.{partition(to.key, replicas)}"
    except UNSENDABLE as error:
        raise bad_value(to.group, "the key", to.key, error) from None
