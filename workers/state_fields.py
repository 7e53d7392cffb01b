"""
The fields of a class that is an agent's state, as rows.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, NamedTuple

import msgspec

from regrow.ipc import statekeys
from regrow.workers.state_values import Values, values_of


class Field(NamedTuple):
    """One field: its row, how it is stored, and whether the object can be made without it, or only without it."""

    name: str
    row: bytes
    values: Values
    has_default: bool
    is_argument: bool


def fields_of(cls: type, limit: int = statekeys.STORE_KEY_BYTES) -> list[Field]:
    """
    The fields of a Struct or dataclass.

    Raises:
        TypeError: it is none, or a field is of a type that nothing stored can be turned into; NameError: an annotation
        names what is not defined, or not yet.
    """
    found: list[tuple[str, Any, bool, bool]]
    if issubclass(cls, msgspec.Struct):
        found = [(each.name, each.type, not each.required, True) for each in msgspec.structs.fields(cls)]
    elif dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls, include_extras=True)
        found = [(each.name, hints[each.name], _has_default(each), each.init) for each in dataclasses.fields(cls)]
    else:
        raise TypeError(f"{cls.__qualname__} is neither a Struct nor a dataclass, and no state can be kept as one")
    return [_field(cls, *each, limit) for each in found]


def version_of(cls: type) -> int:
    """
    The version of a class: 1 unless it says another.

    Raises:
        TypeError: it is no whole number from 1 up.
    """
    version: object = getattr(cls, "version", 1)
    if type(version) is not int or version < 1:
        raise TypeError(f"{cls.__qualname__}.version must be a whole number from 1 up, not {version!r}")
    return version


def _has_default(field: dataclasses.Field[Any]) -> bool:
    never = dataclasses.MISSING
    return not field.init or field.default is not never or field.default_factory is not never


def _field(cls: type, name: str, hint: Any, has_default: bool, is_argument: bool, limit: int) -> Field:
    try:
        values = values_of(hint)
    except TypeError as error:
        raise TypeError(f"field {name} of {cls.__qualname__}: {error}") from None
    return Field(name, statekeys.encode(name, limit), values, has_default, is_argument)
