"""
What is different between the sockets of two plans. Pure.

The same address is the same socket, whatever its name: nobody who waits there to be accepted is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from msgspec import Struct

from regrow.config.described import NOT_SET, Change
from regrow.config.spec import SocketSpec


class Fate(StrEnum):
    """What becomes of one socket."""

    LISTEN = "listen"
    CLOSE = "close"
    CHANGE = "change"


class SocketDifference(Struct, frozen=True):
    """
    One table `[socket.NAME]` that is not as it was; `address` is where it listens from now on, or did last.

    `why` holds the keys that differ. `other` is the socket that had this address before, or has it from now on.
    """

    name: str
    action: Fate
    address: str
    why: tuple[Change, ...] = ()
    other: str = ""


def sockets_diff(before: Sequence[SocketSpec], after: Sequence[SocketSpec]) -> tuple[SocketDifference, ...]:
    """In the order of the old file, new ones last."""
    old, new = ({spec.name: spec for spec in specs} for specs in (before, after))
    had, has = ({spec.address: spec.name for spec in specs} for specs in (before, after))
    found = []
    for name in {**old, **new}:
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if was is not None and now is not None:
            found.append(SocketDifference(name, Fate.CHANGE, now.address, tuple(_keys(was, now))))
        elif now is not None:
            other = had.get(now.address, "")
            found.append(SocketDifference(name, Fate.CHANGE if other else Fate.LISTEN, now.address, other=other))
        elif was is not None:
            other = has.get(was.address, "")
            found.append(SocketDifference(name, Fate.CHANGE if other else Fate.CLOSE, was.address, other=other))
    return tuple(found)


def _keys(was: SocketSpec, now: SocketSpec) -> Iterator[Change]:
    if was.address != now.address:
        yield Change("address", was.address, now.address)
    if was.mode != now.mode:
        yield Change("mode", f"{was.mode:04o}", f"{now.mode:04o}")
    for key, old, new in (
        ("user", was.uid, now.uid),
        ("group", was.gid, now.gid),
        ("backlog", was.backlog, now.backlog),
    ):
        if old != new:
            yield Change(key, *(NOT_SET if value is None else str(value) for value in (old, new)))
