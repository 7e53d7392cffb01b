"""
What is wrong with a message's arguments, or with a reply, in words and with the place: `$.quantity`.

msgspec says it in one line; here that line is taken apart, so that the place can be told apart from the fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

_PLACE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`(?P<path>[^`]*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<kind>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_LENGTH = re.compile(r"Expected `array` of (?:at least |at most )?length (?P<length>\d+), got (?P<got>\d+)")
_POSITION = re.compile(r"\$\[(?P<index>\d+)\]")
_UNSUPPORTED = re.compile(r"Encoding objects of type (?P<type>.*) is unsupported")

MAX_DEPTH = 40
"""How deep the culprit in a reply is looked for."""


class BadArguments(Exception):
    """The arguments do not fit; `path` is the place and `text` says all of it."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


class BadReply(Exception):
    """What the handler returned cannot be its reply. `type` is for the caller's RemoteError."""

    def __init__(self, type: str, text: str) -> None:
        super().__init__(text)
        self.type = type
        self.text = text


def mismatch(error: Exception, positions: Sequence[str] | None = None) -> tuple[str, str]:
    """
    The place and the fault that a decoding error tells of.

    Args:
        positions: the names of what was given by position, so that the place is a name whichever way it was given.
    """
    if isinstance(error, RecursionError):
        return "$", "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "$", f"a text is not UTF-8 ({error.reason})"
    match = _PLACE.fullmatch(str(error))
    if match is None:  # cannot be: the pattern takes any text
        return "$", str(error)
    what, path = match["what"], match["path"] or "$"
    if positions is not None and path == "$" and (length := _LENGTH.fullmatch(what)):
        return _wrong_count(int(length["length"]), int(length["got"]), positions)
    if positions:
        path = _POSITION.sub(lambda place: f"$.{positions[int(place['index'])]}", path, count=1)
    if field := _FIELD.fullmatch(what):
        unknown = "no such argument" if path == "$" else "no such field"
        return f"{path}.{field['name']}", "missing" if field["kind"].startswith("missing") else unknown
    text = what.replace("`", "")
    return path, (text[:1].lower() + text[1:]) + (" as a key" if match["key"] else "")


def _wrong_count(length: int, got: int, positions: Sequence[str]) -> tuple[str, str]:
    if got < length:
        return f"$.{positions[got]}", "missing"
    return f"$[{length}]", f"one too many: at most {length} by position, got {got}"


def unsendable(value: Any, error: Exception) -> tuple[str, str]:
    """The place in `value` that msgpack has no form for, and why."""
    try:
        path = _culprit(value, "$", (id(value),))
    except Exception:  # noqa: BLE001 - user classes are looked into, and may do anything; the place is a courtesy
        path = "$"
    if isinstance(error, RecursionError):
        return path, "nested too deeply, or within itself"
    type = _UNSUPPORTED.fullmatch(str(error))
    return path, f"no message can carry a {type['type']}" if type else str(error)


def _culprit(value: Any, path: str, above: tuple[int, ...]) -> str:
    """Where in `value`, which is at `path`, the fault is; `above` are the identities on the way here."""
    for place, part in _parts(value):
        if id(part) in above or len(above) == MAX_DEPTH:
            return path + place
        if not _is_sendable(part):
            return _culprit(part, path + place, (*above, id(part)))
    return path


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]" if not isinstance(key, str) else f".{key}", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [("[…]", part) for part in value]
    names = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None) or ()
    return [(f".{name}", getattr(value, name)) for name in names]


def _is_sendable(value: Any) -> bool:
    try:
        msgspec.msgpack.encode(value)
    except Exception:  # noqa: BLE001 - whatever it is, it is why
        return False
    return True
