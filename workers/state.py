"""
What an agent keeps: a mapping whose changes are stored when the handler returns, and undone when it raises.

Nothing is read before it is asked for, and only what has changed is written.

Source: architecture section 7.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Generic, TypeVar, overload

from regrow.ipc import statekeys
from regrow.ipc.errors import BadState
from regrow.ipc.statekeys import Element, Key
from regrow.ipc.wire import UNREADABLE
from regrow.workers.state_loans import Loan, Loans, Passing, Rows
from regrow.workers.state_values import IMMUTABLE, is_mutable, type_name, values_of
from regrow.workers.state_views import Items, Keys, Span, Values

T = TypeVar("T")
V = TypeVar("V")

_NUMBERS = (int, float)

_MANY, _SHORT = 256, 64
"""Rows that a state remembers of keys that are short texts: most of them are used again."""


class State(MutableMapping[Key, V], Generic[V]):
    """
    A persistent mapping. Keys are str, int, bytes, or tuples of these; they come in the order bytes, int, str, and a
    tuple comes behind what it begins with.

    What it hands out may be changed where it is: `state["items"].append(x)` is enough. That holds until the handler
    returns; what is kept longer than that is a copy.

    Args:
        rows: where the values are.
        of: the type of all values. Any: each is of a natural type (None, bool, int, float, str, bytes, list, dict,
            datetime with a time zone), and one of another type is refused.
        limit: how many bytes an encoded key may have.
        loans: what was handed out in the present transaction; the default is right where there is one at a time.

    Raises:
        TypeError: values of that type cannot be stored.
    """

    __slots__ = ("_above", "_limit", "_loans", "_named", "_read", "_rows", "_values")

    def __init__(
        self, rows: Rows, of: Any = Any, *, limit: int = statekeys.STORE_KEY_BYTES, loans: Loans | None = None
    ) -> None:
        self._rows = rows
        self._values = values_of(of)
        self._read = self._values.read_unchecked
        self._limit = limit
        self._loans = Loans() if loans is None else loans
        self._above = b""
        self._named: dict[str, bytes] = {}

    # -- one key -----------------------------------------------------------------------------------

    def __getitem__(self, key: Key) -> V:
        row = self.row_of(key)
        if self._loans.held and (loan := self._loan(row)) is not None:
            value: V = loan.value
            return value
        stored = self._rows.get(row)
        if stored is None:
            raise KeyError(key)
        return self._handed_out(row, stored)

    def __setitem__(self, key: Key, value: V) -> None:
        row = self.row_of(key)
        encoded = self._values.write(value, row)
        self._rows.put(row, encoded)
        loans = self._loans
        loans.drop(row)
        if type(value) not in IMMUTABLE and is_mutable(value):
            loans.lend(Loan(row, value, encoded, self._values))

    def __delitem__(self, key: Key) -> None:
        row = self.row_of(key)
        if self._rows.get(row) is None:
            raise KeyError(key)
        self._rows.put(row, None)
        self._loans.drop(row)

    def __contains__(self, key: object) -> bool:
        return self._rows.get(self.row_of(key)) is not None

    def add(self, key: Key, n: int | float = 1) -> int | float:
        """
        Add to a number, which is 0 where there is none yet; returns the sum.

        Raises:
            BadState: there is something else, or the sum is too large.
        """
        row = self.row_of(key)
        rows, values = self._rows, self._values
        old: Any = 0
        if (stored := rows.get(row)) is not None:
            try:
                old = self._read(stored)
            except UNREADABLE:
                old = values.read(stored, row)  # once more, for the error
        if type(old) not in _NUMBERS or type(n) not in _NUMBERS:
            wrong = type(n) if type(old) in _NUMBERS else type(old)
            raise BadState(statekeys.decode(row), f"a {wrong.__name__} is no number that can be added")
        new: Any = old + n
        rows.put(row, values.write(new, row))
        self._loans.drop(row)
        return new  # type: ignore[no-any-return]  # two numbers were added

    # -- many keys ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Key]:
        return self.keys_in(self._span())

    def __reversed__(self) -> Iterator[Key]:
        return self.keys_in(self._span(reverse=True))

    def __len__(self) -> int:
        return self.count_in(self._span())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def clear(self) -> None:
        """Delete all keys, those of the namespaces in this one included."""
        span = self._span()
        for row, _ in self._rows.scan(span.first, span.end, values=False):
            self._rows.put(row, None)
            self._loans.drop(row)

    def keys(
        self,
        *,
        prefix: str | bytes | tuple[Element, ...] = (),
        first: Key | None = None,
        last: Key | None = None,
        reverse: bool = False,
    ) -> Keys:
        """
        The keys in their order, or only some of them.

        Args:
            prefix: a tuple: the longer keys that begin with its elements; a str or bytes: the keys whose first
                element, or only one, begins with it.
            first: the first key, whether there is such a one or not.
            last: the last key. What is below it, such as ("a", 1) below "a", comes behind it.
            reverse: from the last to the first.

        Keys may be assigned to and deleted meanwhile; whether one that is new comes up is not said.

        Raises:
            BadState: what was given is no key, or no prefix.
        """
        return Keys(self, self._span(prefix, first, last, reverse=reverse))

    def values(
        self,
        *,
        prefix: str | bytes | tuple[Element, ...] = (),
        first: Key | None = None,
        last: Key | None = None,
        reverse: bool = False,
    ) -> Values[V]:
        """The values in the order of their keys; arguments and errors as those of `keys`."""
        return Values(self, self._span(prefix, first, last, reverse=reverse))

    def items(
        self,
        *,
        prefix: str | bytes | tuple[Element, ...] = (),
        first: Key | None = None,
        last: Key | None = None,
        reverse: bool = False,
    ) -> Items[V]:
        """The pairs of key and value in the order of the keys; arguments and errors as those of `keys`."""
        return Items(self, self._span(prefix, first, last, reverse=reverse))

    @overload
    def space(self, *names: Element) -> State[V]: ...
    @overload
    def space(self, *names: Element, of: type[T]) -> State[T]: ...
    @overload
    def space(self, *names: Element, of: Any) -> State[Any]: ...
    def space(self, *names: Element, of: Any = None) -> State[Any]:
        """
        The part of this state whose keys begin with these names, as a mapping of the keys behind them.

        `state.space("orders")[7]` is `state["orders", 7]`. Its values are of the same type unless another is said.

        Raises:
            BadState: the names are none, or too long; TypeError: values of that type cannot be stored.
        """
        part: State[Any] = State(self._rows, self._values.of if of is None else of, loans=self._loans)
        encoded = statekeys.encode_all(names, self._limit - 1)
        part._above = self._above + encoded
        part._limit = self._limit - len(encoded)
        return part

    # -- transactions ------------------------------------------------------------------------------

    def settle(self) -> None:
        """
        Before a commit: put what was handed out and has changed since, in all namespaces.

        Raises:
            BadState: something has got into a value that cannot be stored; nothing was put.
        """
        self._loans.settle(self._rows)

    def forget(self) -> None:
        """At the beginning of a transaction, and when one was undone: what was handed out is the state's no more."""
        self._loans.forget()

    # -- for the views -----------------------------------------------------------------------------

    def row_of(self, key: object) -> bytes:
        """The encoded key behind the names of this namespace, remembered where it is a short text. Raises: BadState."""
        row = self._named.get(key) if type(key) is str else None
        if row is not None:
            return row
        row = self._above + statekeys.encode(key, self._limit)  # type: ignore[arg-type]  # anything may be asked for
        if type(key) is str and len(key) <= _SHORT:
            if len(self._named) >= _MANY:
                self._named.clear()
            self._named[key] = row
        return row

    def keys_in(self, span: Span) -> Iterator[Key]:
        """The keys in a part of this state."""
        above = len(self._above)
        for row, _ in self._scan(span, values=False):
            yield statekeys.decode(row[above:])

    def items_in(self, span: Span) -> Iterator[tuple[Key, V]]:
        """The pairs in a part of this state; how a large one is held back: Passing."""
        above, held = len(self._above), self._loans.held
        passing = Passing(self._loans, self._rows)
        for row, stored in self._scan(span):
            if row in held:
                yield statekeys.decode(row[above:]), self._lent(row, stored)
                continue
            yield statekeys.decode(row[above:]), self._handed_out(row, stored)
            if row in held:
                passing.went(held[row])

    def count_in(self, span: Span) -> int:
        """How many keys there are in a part of this state: they are counted one by one."""
        return sum(1 for _ in self._rows.scan(span.first, span.end, values=False))

    # -- inside ------------------------------------------------------------------------------------

    def _span(
        self,
        prefix: str | bytes | tuple[Element, ...] = (),
        first: Key | None = None,
        last: Key | None = None,
        *,
        reverse: bool = False,
    ) -> Span:
        start, end = statekeys.prefix_range(prefix, self._limit)
        if first is not None:
            start = max(start, statekeys.encode(first, self._limit))
        if last is not None:
            end = min(end, statekeys.end_behind(last, self._limit))
        return Span(self._above + start, self._above + end, reverse)

    def _scan(self, span: Span, *, values: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """The rows in a part of this state; what has changed since the iteration began may have been read before."""
        loans, rows = self._loans, self._rows
        changes = loans.changes
        for row, stored in rows.scan(span.first, span.end, reverse=span.reverse, values=values):
            if loans.changes == changes:
                yield row, stored
            elif (now := rows.get(row)) is not None:
                yield row, now

    def _loan(self, row: bytes) -> Loan | None:
        """What was handed out of this row already; what was as another type is put first, if it has changed."""
        loan = self._loans.held.get(row)
        if loan is None or loan.values is self._values:
            return loan
        self._loans.settle_one(loan, self._rows)
        return None

    def _lent(self, row: bytes, stored: bytes) -> V:
        """The value of a row of which something was handed out."""
        loan = self._loan(row)
        if loan is None:
            return self._handed_out(row, self._rows.get(row) or stored)
        value: V = loan.value
        return value

    def _handed_out(self, row: bytes, stored: bytes) -> V:
        try:
            value: V = self._read(stored)
        except UNREADABLE:
            value = self._values.read(stored, row)  # once more, for the error
        if type(value) not in IMMUTABLE and is_mutable(value):
            self._loans.lend(Loan(row, value, stored, self._values))
        return value

    def __repr__(self) -> str:
        return f"<State of {type_name(self._values.of)}>"
