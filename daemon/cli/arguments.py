"""
From words of a command line to the arguments of a handler. Pure but for stdin.

`key=value` is a named argument: its value is JSON where it reads as JSON, and text otherwise. `key:=value` must be
JSON. A word without either is an argument by position. `--json` gives all of them at once: a list by position, an
object by name, `-` for stdin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

_NAMED = re.compile(r"(?P<key>[^\W\d]\w*)(?P<strict>:?)=(?P<value>.*)", re.DOTALL)


class ArgumentError(ValueError):
    """What was typed is no argument; the text says why, and how to write it."""


class Arguments(NamedTuple):
    """What a handler is called with."""

    args: list[Any]
    kwargs: dict[str, Any]


def read_words(words: Sequence[str]) -> Arguments:
    """
    The arguments that the words of a command line stand for.

    Raises:
        ArgumentError: a key is given twice, or its value is not the JSON that it is said to be.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        named = _NAMED.fullmatch(word)
        if named is None:
            args.append(read_value(word))
            continue
        key, value = named["key"], named["value"]
        if key in kwargs:
            raise ArgumentError(f"{key} is given twice")
        kwargs[key] = _strict(key, value) if named["strict"] else read_value(value)
    return Arguments(args, kwargs)


def read_json(text: str) -> Arguments:
    """
    The arguments in one JSON value: a list by position, an object by name.

    Raises:
        ArgumentError: it is neither.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ArgumentError(f"--json is not JSON: {error}") from None
    match value:
        case list():
            return Arguments(value, {})
        case dict():
            return Arguments([], value)
        case _:
            raise ArgumentError("--json must be a list (arguments by position) or an object (by name)")


def read_value(text: str) -> Any:
    """`2`, `true`, `null`, `[1]`, `{}` and `"text"` as JSON has them; what is not JSON is the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text


def _strict(key: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ArgumentError(f"{key} is not JSON: {error}; write {key}=… for text") from None
