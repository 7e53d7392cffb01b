"""
What an engine deals with: what can be waited for, what it watches for others, what it is told to bind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from regrow.ipc.mailbox import LIMIT, Mailbox


class Awaited(Protocol):
    """What can be waited for: `callback` is called when `done` becomes True."""

    callback: Callable[[], None] | None

    @property
    def done(self) -> bool: ...


class Watcher(Protocol):
    """What has descriptors of its own that the node looks at. Its methods are called with the node's lock held."""

    def heard(self) -> None:
        """Something is readable, or was; must neither block nor raise."""

    def dropped(self) -> None:
        """The node looks no more: it was closed, or this process is a fork of the one that watched."""


class MailboxSpec(Struct, frozen=True):
    """A mailbox of this process. `admit` holds (user ids, group ids) that may connect; empty: everybody."""

    name: str
    incarnation: int
    group: str = ""
    replicas: int = 1
    limit: int = LIMIT
    admit: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class Stats:
    """Counters since the start: messages that could not be read, answers that nobody could be given."""

    __slots__ = ("bad", "unanswered")

    def __init__(self) -> None:
        self.bad = 0
        self.unanswered = 0


class Inbox:
    """What `receive` waits for."""

    __slots__ = ("callback", "mailbox", "woken")

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.callback: Callable[[], None] | None = None
        self.woken = False

    @property
    def done(self) -> bool:
        return self.woken or bool(self.mailbox.waiting)


class _All:
    """A callback that stands for several."""

    __slots__ = ("each",)

    def __init__(self, *each: Callable[[], None]) -> None:
        self.each = list(each)

    def __call__(self) -> None:
        for callback in tuple(self.each):
            callback()


def when_done(thing: Awaited, callback: Callable[[], None]) -> None:
    """Have `callback` called as well; the caller holds the lock that `thing` changes under."""
    known = thing.callback
    if known is None:
        thing.callback = callback
    elif isinstance(known, _All):
        known.each.append(callback)
    else:
        thing.callback = _All(known, callback)


def never_mind(thing: Awaited, callback: Callable[[], None]) -> None:
    """Take back one `when_done`; the same lock is held."""
    known = thing.callback
    if known == callback:
        thing.callback = None
    elif isinstance(known, _All) and callback in known.each:
        known.each.remove(callback)
        if not known.each:
            thing.callback = None
