"""
State as one object: `state: Cart` in the class of an agent. Each field is a row: only changed ones are written.

A class that changes has a `version`; what an older one has stored is handed to its `upgrade`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from regrow.ipc import statekeys
from regrow.ipc.errors import BadState
from regrow.ipc.wire import UNREADABLE, UNSENDABLE
from regrow.workers.state_fields import Field, fields_of, version_of
from regrow.workers.state_loans import Rows
from regrow.workers.state_type import check_state, declared_state, state_type
from regrow.workers.state_values import IMMUTABLE, encode, values_of

T = TypeVar("T")

VERSION_ROW = statekeys.reserved("version")
"""Holds the version of the class that the rows are of."""

_NEVER = object()
_natural = values_of(Any)
_version: Callable[[bytes], int] = values_of(int).read_unchecked


class Whole(Generic[T]):
    """
    One object that is kept in rows. `value` is the object; another one of its class may be put in its place.

    Args:
        cls: a Struct or a dataclass.
        limit: how many bytes an encoded key may have.

    Raises:
        TypeError: nothing that is stored could be turned into such an object; NameError: an annotation cannot be read.
    """

    def __init__(self, cls: type[T], rows: Rows, *, limit: int = statekeys.STORE_KEY_BYTES) -> None:
        self._cls = cls
        self._rows = rows
        self._limit = limit
        self._fields = fields_of(cls, limit)
        self._version = version_of(cls)
        self._stored: dict[str, bytes] = {}
        self._seen: dict[str, Any] = {}
        self._leftover: list[bytes] = []
        self._is_current = False
        self.value: Any = None

    def load(self) -> T:
        """
        Make the object from its rows; a field without a row has its default.

        Raises:
            BadState: the rows are of a newer version, or do not fit and cannot be upgraded.
        """
        self._stored, self._seen, self._leftover = {}, {}, []
        rows = {field: row for field in self._fields if (row := self._rows.get(field.row)) is not None}
        version = self._stored_version() or (1 if rows else self._version)
        if version != self._version:
            made = self._made(self._upgraded(version))
        else:
            found = {field.name: field.values.read(row, field.row) for field, row in rows.items()}
            made = self._made(found)
            # as they are encoded now, and not the rows: a class within may have got a field since
            self._stored = {name: encode(part) for name, part in found.items()}
        self.value = made
        return made

    def reload(self) -> T:
        """Make the object again after a transaction was undone: what had been changed in it is gone."""
        return self.load()

    def settle(self, value: T | None = None) -> None:
        """
        Before a commit: put the fields that have changed since, of this object or else of `value`.

        Raises:
            BadState: a field has got something that cannot be stored, or is not of its type; nothing was put.
        """
        if value is not None:
            self.value = value
        if type(self.value) is not self._cls:
            raise BadState(None, f"it is declared as {self._cls.__name__}, not {type(self.value).__name__}")
        changes = [(field, *change) for field in self._fields if (change := self._changed(field)) is not None]
        for row in self._leftover:
            self._rows.put(row, None)
        for field, part, encoded in changes:
            self._rows.put(field.row, encoded)
            self._stored[field.name] = encoded
            self._seen[field.name] = part
        if not self._is_current:
            self._rows.put(VERSION_ROW, encode(self._version))
        self._is_current, self._leftover = True, []

    def _stored_version(self) -> int | None:
        stored = self._rows.get(VERSION_ROW)
        self._is_current = stored is not None
        if stored is None:
            return None
        try:
            return _version(stored)
        except UNREADABLE as error:
            raise BadState(None, f"the version of what is stored cannot be read: {error}") from error

    def _changed(self, field: Field) -> tuple[Any, bytes] | None:
        part = getattr(self.value, field.name, _NEVER)
        if part is _NEVER:
            raise BadState(field.name, f"{self._cls.__name__} has lost this field")
        if type(part) in IMMUTABLE and part is self._seen.get(field.name, _NEVER):
            return None
        try:
            if encode(part) == self._stored.get(field.name):
                self._seen[field.name] = part
                return None
        except UNSENDABLE:
            pass  # said below, with the place
        return part, field.values.write(part, field.row)

    def _made(self, parts: dict[str, Any]) -> T:
        missing = [field.name for field in self._fields if not field.has_default and field.name not in parts]
        if missing:
            said = f"{self._cls.__name__} has no default for it, and nothing is stored: give it a default"
            raise BadState(missing[0], said)
        later = {field.name for field in self._fields if not field.is_argument}
        try:
            made = self._cls(**{name: part for name, part in parts.items() if name not in later})
        except (TypeError, ValueError) as error:
            raise BadState(None, f"no {self._cls.__name__} can be made of what is stored: {error}") from error
        for name in later & parts.keys():
            object.__setattr__(made, name, parts[name])  # as a frozen dataclass does it itself
        return made

    def _upgraded(self, version: int) -> dict[str, Any]:
        """What an older version has stored, as the fields of this one; everything is written with the next commit."""
        name = self._cls.__name__
        where = f"what is stored is version {version} of {name}, and this code has version {self._version}"
        if version > self._version:
            raise BadState(None, f"{where}: run the newer code, or restore a backup of the state that is older")
        upgrade = getattr(self._cls, "upgrade", None)
        if upgrade is None:
            raise BadState(None, f"{where}: give {name} a classmethod upgrade(old, version) that returns its fields")
        old = self._natural_rows()
        new = upgrade(dict(old), version)
        by_name = {field.name: field for field in self._fields}
        if not isinstance(new, dict):
            raise BadState(None, f"{name}.upgrade returned no dict but {new!r:.200}")
        for key in new:
            if key not in by_name:
                raise BadState(None, f"{name}.upgrade returned {key!r}, and there is no such field")
        self._is_current = False
        self._leftover = [statekeys.encode(key) for key in old if key not in new]
        return {key: _converted(part, by_name[key]) for key, part in new.items()}

    def _natural_rows(self) -> dict[str, Any]:
        """All rows that may be fields of an older version."""
        start, end = statekeys.prefix_range("", self._limit)
        rows = ((statekeys.decode(row), row, stored) for row, stored in self._rows.scan(start, end))
        return {key: _natural.read(stored, row) for key, row, stored in rows if isinstance(key, str)}


def _converted(part: Any, field: Field) -> Any:
    """What `upgrade` returned for a field, by the field's annotation."""
    try:
        encoded = encode(part)
    except UNSENDABLE:
        encoded = field.values.write(part, field.row)  # once more, for the error
    return field.values.read(encoded, field.row)


__all__ = ["VERSION_ROW", "Whole", "check_state", "declared_state", "state_type"]
