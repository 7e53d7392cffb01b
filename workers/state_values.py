"""
Values of state as bytes, and back: what comes back is what was assigned, or the assignment is refused.

msgpack has no form of its own for a set, a tuple or a class; msgspec writes them as arrays and maps, and needs the type
to make them again. Where no type is said, a value that would come back as another one is refused at once, rather than
found changed after the commit.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from regrow.ipc.errors import BadState
from regrow.ipc.statekeys import decode
from regrow.ipc.unsendable import unsendable
from regrow.ipc.wire import UNREADABLE, UNSENDABLE
from regrow.workers.mismatch import mismatch
from regrow.workers.signature import foreign_type

IMMUTABLE = frozenset(
    {
        type(None), bool, int, float, str, bytes, decimal.Decimal, uuid.UUID,
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    }
)  # fmt: skip
"""The types whose values cannot be changed after they were handed out."""

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_SHOWN = 200

MAX_VALUE_BYTES = 0xFFFFFFFF
"""LMDB takes no longer one (mdb.c: MAXDATASIZE)."""

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Values:
    """
    How the values of one type are stored; Any: each as what it is by nature.

    `plain`: the types whose values need no look after they were encoded.

    Raises:
        TypeError: msgspec can make nothing of the type.
    """

    __slots__ = ("of", "plain", "read_unchecked")

    def __init__(self, of: Any = Any) -> None:
        self.of = of
        if of is Any:
            self.plain = _PLAIN
            self.read_unchecked: Callable[[bytes], Any] = _decode
            return
        foreign = foreign_type(of)  # raises what msgspec says of a type that it can do nothing with
        if foreign is not None:
            raise TypeError(f"state cannot hold {foreign.__qualname__}: nothing that is stored can be turned into one")
        self.plain = frozenset({type(None) if of is None else of}) & _PLAIN
        self.read_unchecked = msgspec.msgpack.Decoder(of).decode

    def write(self, value: Any, row: bytes) -> bytes:
        """
        Encode a value that was assigned to the key of this row.

        Raises:
            BadState: there is no form for it, or it would not come back as what it is.
        """
        try:
            encoded = encode(value)
        except UNSENDABLE as error:
            path, _ = unsendable(value, error)
            deep = isinstance(error, RecursionError)
            text = "nested too deeply, or within itself" if deep else str(error)
            raise BadState(decode(row), text, path) from error
        if len(encoded) > MAX_VALUE_BYTES:
            said = f"a value has at most {MAX_VALUE_BYTES} bytes in the store, this one would have {len(encoded)}"
            raise BadState(decode(row), said)
        if type(value) in self.plain:
            return encoded
        if self.of is Any:
            self._check_natural(value, encoded, row)
        else:
            self._check_typed(value, encoded, row)
        return encoded

    def read(self, encoded: bytes, row: bytes) -> Any:
        """
        Decode what is stored in this row.

        Raises:
            BadState: it is no value of this type; says what it is.
        """
        try:
            return self.read_unchecked(encoded)
        except UNREADABLE as error:
            path, text = mismatch(error)
            expected = "" if self.of is Any else f"; the type is {type_name(self.of)}"
            raise BadState(decode(row), f"{text}; stored is {_shown(encoded)}{expected}", path) from error

    def _check_typed(self, value: Any, encoded: bytes, row: bytes) -> None:
        """It would be found to be of another type when it is next read, and then it is too late."""
        try:
            back = self.read_unchecked(encoded)
        except UNREADABLE as error:
            path, text = mismatch(error)
            raise BadState(decode(row), f"{text}; the type is {type_name(self.of)}", path) from error
        if not isinstance(value, type(back)) and (is_mutable(back) or is_mutable(value)):
            said = f"a {type(value).__name__} is not the {type(back).__name__} that it would come back as"
            raise BadState(decode(row), f"{said}; the type is {type_name(self.of)}")

    def _check_natural(self, value: Any, encoded: bytes, row: bytes) -> None:
        back = _decode(encoded)
        if value == back and isinstance(value, type(back)):
            return
        found = _altered(value, back, "$")
        if found is None:  # such as a NaN, which equals nothing
            return
        path, part, other = found
        said = f"a {type(part).__name__} would come back as a {type(other).__name__}"
        raise BadState(decode(row), f"{said}; say the type, as in space(…, of={_advice(value, part)})", path)


def values_of(of: Any) -> Values:
    """
    How the values of a type are stored; made once for each.

    Raises:
        TypeError: msgspec can make nothing of the type.
    """
    try:
        return _made(of)
    except TypeError:  # such as Annotated with something that has no hash
        return Values(of)


_made = functools.cache(Values)


def is_mutable(value: Any) -> bool:
    """Whether it, or what is in it, could be changed where it is."""
    if type(value) in IMMUTABLE or isinstance(value, enum.Enum):
        return False
    if type(value) is tuple:
        return any(map(is_mutable, value))
    return True


def type_name(of: Any) -> str:
    """A type as it is written."""
    return of.__qualname__ if isinstance(of, type) and not hasattr(of, "__args__") else str(of)


def _altered(value: Any, back: Any, path: str) -> tuple[str, Any, Any] | None:
    """The first place where what comes back is another value or of another type; both of them."""
    if isinstance(value, dict) and isinstance(back, dict):
        if value.keys() != back.keys():
            odd = next((pair for pair in zip(value, back, strict=False) if pair[0] != pair[1]), None)
            return (f"{path}, a key", *odd) if odd else None  # keys that are a NaN
        parts = [(value[key], back[key], f"{path}[{key!r}]") for key in value]
    elif isinstance(value, list) and isinstance(back, list):
        parts = [(*pair, f"{path}[{index}]") for index, pair in enumerate(zip(value, back, strict=False))]
    else:
        is_same = isinstance(value, type(back)) and (value == back or value != value)  # a NaN
        return None if is_same else (path, value, back)
    return next((found for part in parts if (found := _altered(*part)) is not None), None)


def _advice(value: Any, part: Any) -> str:
    """The type to say of `value`, in which `part` is what needs one."""
    name = type(value).__name__
    if value is not part and isinstance(value, list | dict):
        inner = next((each for each in _within(value) if each is part), None)
        within = "…" if inner is None else _advice(part, part)
        return f"{name}[…, {within}]" if isinstance(value, dict) else f"{name}[{within}]"
    return f"{name}[…]" if isinstance(value, set | frozenset | tuple) and type(value).__module__ == "builtins" else name


def _within(value: list[Any] | dict[Any, Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _shown(encoded: bytes) -> str:
    try:
        text = repr(_decode(encoded))
    except UNREADABLE:
        text = f"no msgpack: {encoded[:_SHOWN]!r}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(encoded)} bytes)"
