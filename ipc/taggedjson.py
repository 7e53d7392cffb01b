"""
Keys and values of the store as JSON, and back without a difference.

What JSON has is written as it is. What it lacks is an object with one key that begins with `$`:

    {"$bytes": "AAE="}               bytes, in base64
    {"$time": "2026-01-02T03:04:05+00:00"}
    {"$float": "nan"}                also "inf" and "-inf"
    {"$map": [[1, "a"], …]}          a map with keys that are no text, or one that begins with `$`
    {"$ext": [5, "AAE="]}            an extension of msgpack: its code and content
    {"$msgpack": "gaFh"}             a value whose msgpack has another form than regrow's own
    {"$row": "AXZlcnNpb24="}         a key that is regrow's own, as it is in the store

A key that is a tuple is a list. Pure.
"""

from __future__ import annotations

import base64
import datetime
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from regrow.ipc import statekeys
from regrow.ipc.errors import BadState
from regrow.ipc.wire import UNREADABLE

_encode = msgspec.msgpack.Encoder().encode
_FAULT = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<byte>\d+)\)")
_ESCAPE = re.compile(rb"\\(?:u(?P<code>[0-9a-fA-F]{4})|.)", re.DOTALL)
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)
_decode = msgspec.msgpack.Decoder().decode
_UNREADABLE = (*UNREADABLE, ValueError)


class BadJson(ValueError):
    """It stands for no value; the text says why."""


def parse(text: str | bytes) -> Any:
    """
    What a JSON text says.

    Raises:
        BadJson: it is none; says why, in words for whoever has written it.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise BadJson("it is nested too deeply") from None
    except UnicodeError as error:
        raise BadJson(f"it is not UTF-8, at byte {_byte(text, error)}") from None
    except msgspec.DecodeError as error:
        found = _FAULT.fullmatch(str(error))
        if (not found or "surrogate" in found["what"]) and (half := half_character(text)):
            raise BadJson(half) from None
        what = f"{found['what']}, at byte {found['byte']}" if found else "it is broken off, or a word that JSON has not"
        raise BadJson(what) from None


def half_character(text: str | bytes) -> str:
    r"""
    What is said of the first `\ud800` in a JSON text, an escape that is half of a character; empty if there is none.

    JSON lets it stand, and no UTF-8 can say it. Source: RFC 8259, section 8.2.
    """
    encoded = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    high: re.Match[bytes] | None = None
    for found in _ESCAPE.finditer(encoded):
        code = int(found["code"], 16) if found["code"] else 0
        follows = high is not None and high.end() == found.start()
        if high and not (follows and code in _LOW):
            break
        if high is None and code in _LOW:
            high = found
            break
        high = found if code in _HIGH else None
    return f"{high[0].decode()}, at byte {high.start()}, is half of a character" if high else ""


def _byte(text: str | bytes, error: UnicodeError) -> int:
    """Where it is not UTF-8; of a text, the place among the bytes that it was read from."""
    if isinstance(text, str):
        return len(text[: getattr(error, "start", 0)].encode(errors="surrogateescape"))
    try:
        text.decode()
    except UnicodeDecodeError as found:  # msgspec counts from the beginning of a string within
        return found.start
    return 0


def value_to_json(encoded: bytes) -> Any:
    """A value as it is in the store, as what `json.dumps` takes."""
    try:
        value = _decode(encoded)
        if _encode(value) == encoded:
            return _out(value)
    except (*_UNREADABLE, TypeError):
        pass
    return {"$msgpack": _text(encoded)}


def value_from_json(value: Any) -> bytes:
    """
    The same back: as it is in the store.

    Raises:
        BadJson.
    """
    if isinstance(value, dict) and value.keys() == {"$msgpack"}:
        return _bytes(value["$msgpack"])
    try:
        return _encode(_in(value))
    except (TypeError, OverflowError, RecursionError) as error:
        raise BadJson(f"no value of the store: {error}") from None


def untagged(value: Any) -> Any:
    """
    What a JSON value with tags stands for.

    Raises:
        BadJson.
    """
    try:
        return _in(value)
    except RecursionError:
        raise BadJson("it is nested too deeply") from None


def key_to_json(row: bytes) -> Any:
    """A key as it is in the store, behind its owner's name."""
    try:
        key = statekeys.decode(row)
        if not statekeys.is_reserved(row) and statekeys.encode(key) == row:
            return [_out(element) for element in key] if isinstance(key, tuple) else _out(key)
    except (BadState, ValueError):
        pass
    return {"$row": _text(row)}


def key_from_json(key: Any) -> bytes:
    """
    The same back.

    Raises:
        BadJson.
    """
    if isinstance(key, dict) and key.keys() == {"$row"}:
        return _bytes(key["$row"])
    found = tuple(_in(element) for element in key) if isinstance(key, list) else _in(key)
    try:
        return statekeys.encode(found)
    except BadState as error:
        raise BadJson(error.text) from None


def _out(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case bytes():
            return {"$bytes": _text(value)}
        case datetime.datetime():
            return {"$time": value.isoformat()}
        case list():
            return [_out(part) for part in value]
        case dict():
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: _out(part) for key, part in value.items()}
            return {"$map": [[_out(key), _out(part)] for key, part in value.items()]}
        case msgspec.msgpack.Ext():
            return {"$ext": [value.code, _text(value.data)]}
        case tuple():  # a key of a map that is a list
            return [_out(part) for part in value]
        case _:
            return value


def _in(value: Any) -> Any:
    match value:
        case list():
            return [_in(part) for part in value]
        case dict():
            tag = next((key for key in value if key.startswith("$")), None)
            if tag is None:
                return {key: _in(part) for key, part in value.items()}
            if len(value) != 1 or tag not in _TAGS:
                raise BadJson(f"{tag} is none of {', '.join(sorted(_TAGS))}, alone in its object")
            try:
                return _TAGS[tag](value[tag])
            except (TypeError, ValueError, OverflowError) as error:
                raise BadJson(f"what is in {tag} is not what it should be: {error}") from None
        case _:
            return value


def _map(pairs: Any) -> dict[Any, Any]:
    return {_hashable(_in(key)): _in(part) for key, part in pairs}


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _float(text: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"{text!r} is none of nan, inf, -inf")
    return float(text)


def _ext(parts: Any) -> msgspec.msgpack.Ext:
    code, content = parts
    return msgspec.msgpack.Ext(code, _bytes(content))


def _text(content: Any) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise BadJson(f"no base64: {error}") from None


_TAGS: dict[str, Callable[[Any], Any]] = {
    "$bytes": _bytes,
    "$time": datetime.datetime.fromisoformat,
    "$float": _float,
    "$map": _map,
    "$ext": _ext,
}
