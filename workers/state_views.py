"""
The keys, values and items of a part of a state, in the order of the keys; each is read when the iteration comes to it.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from regrow.ipc.statekeys import Key

if TYPE_CHECKING:
    from regrow.workers.state import State

V = TypeVar("V")


class Span(NamedTuple):
    """A part of a state: encoded keys from `first` on, before `end`, of the whole owner."""

    first: bytes
    end: bytes
    reverse: bool

    def turned(self) -> Span:
        return self._replace(reverse=not self.reverse)

    def has(self, row: bytes) -> bool:
        return self.first <= row < self.end


class Keys(KeysView[Key]):
    """The keys of a part of a state."""

    def __init__(self, state: State[Any], span: Span) -> None:
        super().__init__(state)
        self._state = state
        self._span = span

    def __iter__(self) -> Iterator[Key]:
        return self._state.keys_in(self._span)

    def __reversed__(self) -> Iterator[Key]:
        return self._state.keys_in(self._span.turned())

    def __len__(self) -> int:
        return self._state.count_in(self._span)

    def __contains__(self, key: object) -> bool:
        return key in self._state and self._span.has(self._state.row_of(key))


class Items(ItemsView[Key, V]):
    """The keys and values of a part of a state."""

    def __init__(self, state: State[V], span: Span) -> None:
        super().__init__(state)
        self._state = state
        self._span = span

    def __iter__(self) -> Iterator[tuple[Key, V]]:
        return self._state.items_in(self._span)

    def __reversed__(self) -> Iterator[tuple[Key, V]]:
        return self._state.items_in(self._span.turned())

    def __len__(self) -> int:
        return self._state.count_in(self._span)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or item[0] not in Keys(self._state, self._span):
            return False
        return bool(self._state[item[0]] == item[1])


class Values(ValuesView[V]):
    """The values of a part of a state."""

    def __init__(self, state: State[V], span: Span) -> None:
        super().__init__(state)
        self._state = state
        self._span = span

    def __iter__(self) -> Iterator[V]:
        return self._only(self._span)

    def __reversed__(self) -> Iterator[V]:
        return self._only(self._span.turned())

    def _only(self, span: Span) -> Iterator[V]:
        for _, value in self._state.items_in(span):
            yield value

    def __len__(self) -> int:
        return self._state.count_in(self._span)

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)
