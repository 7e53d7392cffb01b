"""
Who gets what is published: patterns of subscribers, and for each topic the subscribers that one of them matches.

Pure. Patterns are kept as a tree of their parts; what was found for a topic is remembered until any pattern changes,
so that publishing under the same topics again costs one look-up.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from regrow.ipc.topics import ONE, REST

REMEMBERED_TOPICS = 10_000

S = TypeVar("S")


class _Node(Generic[S]):
    __slots__ = ("below", "here", "rest")

    def __init__(self) -> None:
        self.below: dict[str, _Node[S]] = {}
        self.here: dict[S, None] = {}
        self.rest: dict[S, None] = {}

    def is_empty(self) -> bool:
        return not (self.below or self.here or self.rest)


class Subscriptions(Generic[S]):
    """Valid patterns of subscribers, which are told apart by `==`."""

    def __init__(self) -> None:
        self._root: _Node[S] = _Node()
        self._found: dict[str, tuple[S, ...]] = {}

    def add(self, pattern: str, subscriber: S) -> None:
        """Idempotent."""
        node = self._root
        *parts, last = pattern.split(".")
        for part in parts:
            node = node.below.setdefault(part, _Node())
        if last == REST:
            node.rest[subscriber] = None
        else:
            node.below.setdefault(last, _Node()).here[subscriber] = None
        self._found.clear()

    def remove(self, pattern: str, subscriber: S) -> None:
        """Idempotent."""
        *parts, last = pattern.split(".")
        path = [self._root]
        for part in parts if last == REST else (*parts, last):
            below = path[-1].below.get(part)
            if below is None:
                return
            path.append(below)
        (path[-1].rest if last == REST else path[-1].here).pop(subscriber, None)
        for parent, part, node in reversed(list(zip(path, (*parts, last), path[1:], strict=False))):
            if node.is_empty():
                del parent.below[part]
        self._found.clear()

    def subscribers(self, topic: str) -> tuple[S, ...]:
        """Everybody whose patterns match, once each, in the order of their coming."""
        found = self._found.get(topic)
        if found is None:
            seen: dict[S, None] = {}
            _collect(self._root, topic.split("."), 0, seen)
            found = tuple(seen)
            if len(self._found) >= REMEMBERED_TOPICS:
                self._found.clear()
            self._found[topic] = found
        return found

    def is_empty(self) -> bool:
        return self._root.is_empty()


def _collect(node: _Node[S], parts: list[str], at: int, seen: dict[S, None]) -> None:
    """The walk visits no more nodes than patterns have made, whatever the topic is."""
    if at == len(parts):
        seen.update(node.here)
        return
    seen.update(node.rest)
    for part in (parts[at], ONE):
        below = node.below.get(part)
        if below is not None:
            _collect(below, parts, at + 1, seen)
