"""
From words of a command line, and from standard input, to the arguments of a handler.

`key=value` is a named argument: its value is JSON where it reads as JSON, and text otherwise. `key:=value` must be
JSON. A word without either is an argument by position. `--json` gives all of them at once: a list by position, an
object by name, `-` for stdin.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click
import msgspec

from regrow.ipc.taggedjson import BadJson, half_character, parse, untagged
from regrow.ipc.unsendable import unsendable
from regrow.ipc.wire import MAX_MESSAGE_BYTES, UNSENDABLE, encode

STDIN = "standard input"
MAX_STDIN_BYTES = 4 * MAX_MESSAGE_BYTES
"""More than this is not read: JSON may be longer than the message that it becomes, but not by much."""

_NAMED = re.compile(r"(?P<key>[^\W\d]\w*)(?P<strict>:?)=(?P<value>.*)", re.DOTALL)


class ArgumentError(click.UsageError):
    """What was typed is no argument; the text says why, and how to write it."""


class Arguments(NamedTuple):
    """What a handler is called with."""

    args: list[Any]
    kwargs: dict[str, Any]


def read_words(words: Sequence[str]) -> Arguments:
    """
    The arguments that the words of a command line stand for.

    Raises:
        ArgumentError: a key is given twice, or its value is not the JSON that it is said to be, or nothing to send.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        named = _NAMED.fullmatch(word)
        if named is None:
            args.append(read_value(word, f"argument {len(args) + 1}"))
            continue
        key, value = named["key"], named["value"]
        if key in kwargs:
            raise ArgumentError(f"{key} is given twice")
        kwargs[key] = _strict(key, value) if named["strict"] else read_value(value, key)
    return Arguments(args, kwargs)


def read_json(text: str | bytes, what: str = "--json") -> Arguments:
    """
    The arguments in one JSON value: a list by position, an object by name.

    Raises:
        ArgumentError: it is neither, or nothing to send.
    """
    try:
        value = parse(text)
    except BadJson as error:
        raise ArgumentError(f"{what} is not JSON: {'it is empty' if not text else error}") from None
    match value:
        case list():
            return Arguments(_sendable(value, what), {})
        case dict():
            return Arguments([], _sendable(value, what))
        case _:
            raise ArgumentError(f"{what} must be a list (arguments by position) or an object (by name)")


def read_tags(given: Arguments) -> Arguments:
    """
    The same with what JSON lacks: `{"$bytes": "AAE="}` and the other tags of `regrow state`.

    Raises:
        ArgumentError: a tag that is none, or with something else in it.
    """
    try:
        return Arguments(untagged(given.args), {key: untagged(value) for key, value in given.kwargs.items()})
    except BadJson as error:
        raise ArgumentError(f"--tagged: {error}") from None


def read_value(text: str, what: str) -> Any:
    """
    `2`, `true`, `null`, `[1]`, `{}` and `"text"` as JSON has them; what is not JSON is the text itself.

    Raises:
        ArgumentError: no message can carry it.
    """
    try:
        value = msgspec.json.decode(text)
    except UnicodeError:
        value = text
    except msgspec.DecodeError:
        if half := _is_json(text) and half_character(text):
            raise ArgumentError(f"{what} cannot be sent: {half}") from None
        value = text
    except RecursionError:
        raise ArgumentError(f"{what} is JSON that is nested too deeply") from None
    return _sendable(value, what)


def _is_json(text: str) -> bool:
    """Whether it is JSON for who takes less care: halves of characters may be in it."""
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_stdin() -> bytes:
    """
    All of standard input, as far as a message can be made of it.

    Raises:
        ArgumentError: it is too long, or cannot be read.
    """
    try:
        found = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"cannot read {STDIN}: {error.strerror}") from None
    if len(found) > MAX_STDIN_BYTES:
        raise ArgumentError(f"{STDIN} is too long: a message has at most {MAX_MESSAGE_BYTES} bytes")
    return found


def text_of(found: bytes) -> str:
    """
    Standard input as a text.

    Raises:
        ArgumentError: it is none.
    """
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{STDIN} is not UTF-8, at byte {error.start}") from None


def _sendable(value: Any, what: str) -> Any:
    """The value; raises ArgumentError where no message can carry it."""
    try:
        size = len(encode(value))
    except UNSENDABLE as error:
        path, why = unsendable(value, error)
        raise ArgumentError(f"{what} cannot be sent: {'' if path == '$' else f'{path}: '}{why}") from None
    if size > MAX_MESSAGE_BYTES:
        raise ArgumentError(f"{what} is too long: {size} bytes, and a message has at most {MAX_MESSAGE_BYTES}")
    return value


def _strict(key: str, text: str) -> Any:
    try:
        return _sendable(parse(text), key)
    except BadJson as error:
        raise ArgumentError(f"{key} is not JSON: {error}; write {key}=… for text") from None
