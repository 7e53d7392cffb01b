"""
A unit of work: what one handler changes, which is committed when it returns, or is gone.

Source: architecture section 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from regrow.ipc.errors import StoreError
from regrow.ipc.forks import from_first_use
from regrow.ipc.posting import Posting, process
from regrow.ipc.statekeys import limit_of
from regrow.ipc.transaction import Transaction
from regrow.workers.state import State
from regrow.workers.state_loans import Loans
from regrow.workers.whole import Whole

UNIT: ContextVar[Unit | None] = ContextVar("unit", default=None)
"""That of the handler that runs now."""


class Rows:
    """The rows of one owner, as a unit sees them."""

    __slots__ = ("_prefix", "_shared", "_unit")

    def __init__(self, unit: Unit, owner: str, *, shared: bool) -> None:
        self._unit = unit
        self._prefix = owner.encode() + b"\0"
        self._shared = shared

    def get(self, key: bytes) -> bytes | None:
        """A row, as it would be after the commit."""
        unit = self._unit
        unit.is_used = True
        return unit.transaction.get(self._prefix + key, unit.posting.row, self._shared)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Change a row, or remove it."""
        unit = self._unit
        unit.is_used = True
        unit.transaction.puts[self._prefix + key] = value

    def scan(
        self, first: bytes, end: bytes | None, *, reverse: bool = False, values: bool = True
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with `first` <= key < `end` in order; `values` False: without reading what they hold."""
        unit, prefix = self._unit, self._prefix
        last = prefix[:-1] + b"\1" if end is None else prefix + end
        cut = len(prefix)
        rows = unit.transaction.scan(
            unit.posting.store, prefix + first, last, reverse=reverse, shared=self._shared, values=values
        )
        for key, value in rows:
            unit.is_used = True  # also where a handler goes on with what another one has begun
            yield key[cut:], value


class Owner:
    """
    Whose work it is. `whole` is the agent's state where it is one object, `of` the type of its values where it is a
    mapping; `concurrent`: units may overlap.
    """

    __slots__ = ("concurrent", "forgets", "group", "is_stale", "name", "of", "pid", "posting", "unrecorded", "whole")

    def __init__(self, name: str, group: str, posting: Posting, *, concurrent: bool, of: Any = Any) -> None:
        self.name = name
        self.group = group
        self.posting = posting
        self.concurrent = concurrent
        self.of = of
        self.whole: Whole[Any] | None = None
        self.is_stale = False
        """The whole object has been changed by a handler that was undone, and could not be read since."""

        self.pid = process.pid
        self.unrecorded: dict[bytes, bytes] = {}
        """Results of `once` that the store had no room for, by their rows."""

        self.forgets = False
        """It was told that the oldest results of `once` are forgotten."""


class Unit:
    """
    One after the other may be done with the same one. `is_used` says that there may be something to commit.
    """

    __slots__ = (
        "_group_state", "_lent", "_outer", "is_over", "is_used", "keep", "mapping", "owner", "posting", "transaction"
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        _heed_forks()
        self.owner = owner
        self.posting = owner.posting
        self.transaction = Transaction()
        self.is_used = owner.whole is not None
        self.mapping: State[Any] | None = None
        """The state of the agent, once it was asked for, if that is a mapping."""

        self._lent = Loans()
        self._group_state: State[Any] | None = None
        self._outer: list[Transaction] = []
        self.is_over = False
        """Its handler has returned: what that has left running may not change anything with it."""

        self.keep = self.keep_alone
        """Commits what it is given, or raises and leaves it as it is; a post's is part of more."""

    @property
    def rows(self) -> Rows:
        """The rows of the agent."""
        return Rows(self, self.owner.name, shared=self.owner.concurrent)

    @property
    def state(self) -> State[Any]:
        """The state of the agent."""
        if self.mapping is None:
            self.mapping = State(self.rows, self.owner.of, limit=limit_of(self.owner.name), loans=self._lent)
        return self.mapping

    @property
    def group_state(self) -> State[Any]:
        """The state that the members of its group share."""
        if self._group_state is None:
            group = self.owner.group
            if not group:
                raise RuntimeError(f"{self.owner.name} has no group to share a state with: it is not one of `replicas`")
            self._group_state = State(Rows(self, group, shared=True), limit=limit_of(group))
        return self._group_state

    def commit(self) -> None:
        """
        Commit what was changed.

        Raises:
            StoreError, Overtaken: nothing was changed, and it is to be rolled back.
        """
        self.settle()
        self.keep(self.transaction)
        self.begin()

    def settle(self) -> bool:
        """Put what was changed in place into the transaction; whether there is anything to `renew` behind it."""
        lent, owner, is_lent = self._lent, self.owner, False
        if self.mapping is not None and (lent.held or lent.replaced):
            self.mapping.settle()
            is_lent = True
        if self._group_state is not None:
            self._group_state.settle()
            is_lent = True
        if owner.whole is not None and not owner.is_stale:
            owner.whole.settle()
        return is_lent

    def roll_back(self) -> None:
        """Forget what was changed."""
        self.begin()
        self.forget_loans()

    def begin(self) -> None:
        """Nothing is changed yet."""
        self.transaction.clear()
        self.renew()

    def renew(self) -> None:
        """The same, where the transaction is empty already."""
        self.is_used = self.owner.whole is not None
        if self._lent.held or self._lent.replaced:
            self._lent.forget()
        if self._group_state is not None:
            self._group_state.forget()

    def keep_alone(self, work: Transaction) -> None:
        """Commit it for itself."""
        if work:
            process.check(self.owner.pid, self.owner.name)
            self.posting.commit(work)

    @contextmanager
    def block(self) -> Iterator[None]:
        """
        A part that is committed at its end, with all that was changed before it; an exception undoes the part only.

        Raises:
            StoreError, Overtaken: nothing was committed.
        """
        self.settle()
        self._outer.append(self.transaction)
        self.transaction = Transaction(self.transaction)
        self.is_used = True
        try:
            yield
            self.settle()
            self.keep(self._all())
        except BaseException:
            self.transaction = self._outer.pop()
            self.forget_loans()
            raise
        self.transaction = self._outer.pop()
        for layer in (*self._outer, self.transaction):
            layer.clear()
        if self._group_state is not None:
            self._group_state.forget()  # from here on others may change it
        if self.owner.concurrent:
            self._lent.forget()

    def _all(self) -> Transaction:
        """Everything that was changed, by all blocks that are open."""
        together = Transaction()
        for layer in (*self._outer, self.transaction):
            together.add(layer)
        return together

    def forget_loans(self) -> None:
        """What was handed out is read anew."""
        for state in (self.mapping, self._group_state):
            if state is not None:
                state.forget()
        if self.owner.whole is not None:
            self.owner.is_stale = True
            with suppress(StoreError):
                self.read_whole()

    def read_whole(self) -> Any:
        """
        The state, where it is one object.

        Raises:
            StoreError: it was undone what had been changed in it, and it cannot be read.
        """
        owner = self.owner
        assert owner.whole is not None
        if owner.is_stale:
            owner.whole.reload()
            owner.is_stale = False
        return owner.whole.value


def current(what: str) -> Unit:
    """
    The unit of the handler that runs now.

    Raises:
        RuntimeError: none does, in this thread or task.
    """
    unit = UNIT.get()
    if unit is None or unit.is_over:
        elsewhere = "not in a thread or a process that one has started, nor in a task that it has left behind"
        raise RuntimeError(f"{what} belongs to a handler, and none runs here: {elsewhere}")
    return unit


_heed_forks = from_first_use(after_in_child=lambda: UNIT.set(None))
