"""
What is wrong with a message's arguments, or with a reply, in words and with the place: `$.quantity`.

msgspec says it in one line; here that line is taken apart, so that the place can be told apart from the fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`(?P<path>[^`]*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<kind>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_LENGTH = re.compile(r"Expected `array` of (?:at least |at most )?length (?P<length>\d+), got (?P<got>\d+)")
_POSITION = re.compile(r"\$\[(?P<index>\d+)\]")


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
