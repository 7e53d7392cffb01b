"""
What state has handed out and may be changed where it is: `state["items"].append(x)` takes effect as in a dict.

Such an object is on loan from when it was handed out, or assigned, until the transaction is over. Before the commit it
is encoded again, and stored if it has changed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from sys import getrefcount
from typing import Any, Protocol

from regrow.ipc import statekeys
from regrow.ipc.errors import BadState
from regrow.workers.state_values import Values, is_mutable


class Rows(Protocol):
    """
    The rows of one owner, as the present transaction sees them: what it has put is there already.

    Keys are encoded, and without the owner's name. `put` of None deletes. `scan` yields all rows with
    first <= key < end in order (an end of None: to the last one); rows may be put while it runs.
    """

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes | None) -> None: ...
    def scan(
        self, first: bytes, end: bytes | None, *, reverse: bool = False, values: bool = True
    ) -> Iterator[tuple[bytes, bytes]]: ...


class Loan:
    """An object that was handed out, the bytes that it was made of, and how it is encoded."""

    __slots__ = ("row", "stored", "value", "values")

    def __init__(self, row: bytes, value: Any, stored: bytes, values: Values) -> None:
        self.row = row
        self.value = value
        self.stored = stored
        self.values = values

    def changed(self) -> bytes | None:
        """
        What is to be stored now; None when it is still as it was.

        Bytes may differ although nothing was changed: those of an older version of a class, or of a set.

        Raises:
            BadState: it has got something into it that cannot be stored.
        """
        encoded = self.values.write(self.value, self.row)
        if encoded == self.stored:
            return None
        as_it_was = self.values.write(self.values.read(self.stored, self.row), self.row)
        return None if encoded == as_it_was else encoded

    def is_held(self) -> bool:
        """Whether anybody but this loan refers to the object, or to something in it that can be changed."""
        return getrefcount(self.value) > 2 or _is_part_held(self.value)  # 2: this loan, and the argument


class Loans:
    """
    The loans of one transaction, those of all namespaces. `held` has the latest of each row.

    `changes` is another number whenever rows have changed otherwise than by what an iteration has itself put.
    """

    __slots__ = ("changes", "held", "replaced")

    def __init__(self) -> None:
        self.changes = 0
        self.held: dict[bytes, Loan] = {}
        self.replaced: list[Loan] = []

    def lend(self, loan: Loan) -> None:
        """Remember an object; another one of the same row, which was read as another type, is remembered too."""
        before = self.held.get(loan.row)
        if before is not None:
            self.replaced.append(before)
        self.held[loan.row] = loan

    def drop(self, row: bytes) -> None:
        """A row was assigned to or deleted: what was handed out before is the state's no more."""
        self.changes += 1
        if self.held:
            self.held.pop(row, None)
        if self.replaced:
            self.replaced = [loan for loan in self.replaced if loan.row != row]

    def settle_one(self, loan: Loan, rows: Rows) -> None:
        """Put one object if it has changed."""
        encoded = loan.changed()
        if encoded is not None:
            rows.put(loan.row, encoded)
            loan.stored = encoded

    def settle(self, rows: Rows) -> None:
        """
        Put all objects that have changed.

        Raises:
            BadState: one cannot be stored, or one row was changed in two ways; nothing was put.
        """
        self.changes += 1
        if not self.held and not self.replaced:
            return
        changes: dict[bytes, tuple[Loan, bytes]] = {}
        for loan in (*self.replaced, *self.held.values()):
            encoded = loan.changed()
            if encoded is None:
                continue
            if loan.row in changes:
                key = statekeys.decode(loan.row)
                raise BadState(key, "its value was read as two types, and both were changed; change one of them")
            changes[loan.row] = (loan, encoded)
        for row, (loan, encoded) in changes.items():
            rows.put(row, encoded)
            loan.stored = encoded

    def forget(self) -> None:
        """Drop all: the transaction is over, or undone."""
        self.changes += 1
        if self.held or self.replaced:
            self.held.clear()
            self.replaced.clear()


class Passing:
    """
    The objects that an iteration hands out: those that its caller has let go of are settled and dropped on the way.

    So all of a state can be changed in a loop, and is never in memory at once.
    """

    def __init__(self, loans: Loans, rows: Rows) -> None:
        self._loans = loans
        self._rows = rows
        self._last: list[Loan] = []

    def went(self, loan: Loan) -> None:
        """Keep an object in view: the caller's loop still refers to it when it asks for the next one."""
        self._last.append(loan)
        if len(self._last) > 2:
            before = self._last.pop(0)
            if self._loans.held.get(before.row) is before and not before.is_held():
                self._loans.settle_one(before, self._rows)
                del self._loans.held[before.row]


def _is_part_held(value: Any) -> bool:
    """Each part has 4 references: from the whole, the list of parts, the loop, and the argument of getrefcount."""
    return any(
        getrefcount(part) > 4 or _is_part_held(part)
        for part in gc.get_referents(value)
        if is_mutable(part) and not isinstance(part, type)
    )
