"""
What in a value, or in a message's arguments, msgpack has no form for: in words and with the place, `$.order.lines[2]`.

Looked for only when the encoder has refused: it says why, and not where.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from regrow.config.readable import quoted
from regrow.ipc.errors import BadRequest

MAX_DEPTH = 40
"""How deep the culprit is looked for."""

MAX_PARTS = 100_000
"""How many parts of each value on the way there are looked at; an agent must not stand still for a courtesy."""

_SHOWN = 200
_UNSUPPORTED = re.compile(r"Encoding objects of type (?P<type>.*) is unsupported")


def bad_arguments(
    to: str, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
) -> BadRequest:
    """The error of a message whose arguments could not be encoded; its `path` is `$[0]…` or `$.name…`."""
    if not _is_sendable(handler):
        return BadRequest(to, f"cannot encode the name of the handler, {quoted(handler, 100)}: {_why(error)}", "$")
    path, why = unsendable(Arguments(args, kwargs), error)
    return BadRequest(to, f"cannot encode the arguments of {handler}: {path}: {why}", path)


def too_large(to: str, handler: str, size: int, limit: int) -> BadRequest:
    """The error of a message that has more bytes than one may have."""
    return BadRequest(to, f"the message for {quoted(handler, 100)} has {size} bytes, {limit} are the limit")


def bad_value(to: str, what: str, value: Any, error: Exception) -> BadRequest:
    """The error of something else that could not be encoded; its `path` is the place in it."""
    path, why = unsendable(value, error)
    place = "" if path == "$" else f"{path}: "
    return BadRequest(to, f"cannot encode {what}: {place}{why}", path)


class Arguments:
    """Those of a message: a value whose parts are what was given by position and by name."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs


def unsendable(value: Any, error: Exception) -> tuple[str, str]:
    """The place in `value` that msgpack has no form for, and why."""
    try:
        path = _culprit(value, "$", (id(value),))
    except Exception:  # noqa: BLE001 - user classes are looked into, and may do anything; the place is a courtesy
        path = "$"
    return path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…", _why(error)


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply, or within itself"
    if isinstance(error, UnicodeEncodeError):
        shown = quoted(error.object[max(error.start - 20, 0) : error.end], _SHOWN)
        return f"a text that is not UTF-8, {shown} in it"
    if isinstance(error, OverflowError):
        return "an integer is from -2**63 to 2**64 - 1; send a text, or a Decimal"
    type = _UNSUPPORTED.fullmatch(str(error))
    return f"no message can carry this {type['type']}" if type else str(error)


def _culprit(value: Any, path: str, above: tuple[int, ...]) -> str:
    """Where in `value`, which is at `path`, the fault is; `above` are the identities on the way here."""
    for place, part in islice(_parts(value), MAX_PARTS):
        if id(part) in above or len(above) == MAX_DEPTH:
            return path + place
        if not _is_sendable(part):
            return _culprit(part, path + place, (*above, id(part)))
    return path


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"[{quoted(key, _SHOWN)}]" if not isinstance(key, str) or not _is_sendable(key) else f".{key}", part
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif isinstance(value, set | frozenset):
        for part in value:
            yield "[…]", part
    elif isinstance(value, Arguments):
        yield from _parts(value.args)
        yield from _parts(value.kwargs)
    else:
        names = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None) or ()
        for name in names:
            yield f".{name}", getattr(value, name, None)


def _is_sendable(value: Any) -> bool:
    try:
        msgspec.msgpack.encode(value)
    except Exception:  # noqa: BLE001 - whatever it is, it is why
        return False
    return True
