"""What a reply looks like: for people, or as one JSON value for programs. Pure."""

from __future__ import annotations

import base64
import datetime
import json
import math
from typing import Any

import msgspec

from regrow.daemon.cli.output import dumps

LINE = 100
"""Characters; what is longer is spread over several lines."""


def as_text(value: Any) -> str | None:
    """
    A reply for people: text as it is, other values as JSON, indented where a line is not enough.

    None for a handler that returns nothing.
    """
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    plain = as_plain(value)
    if isinstance(plain, str):
        return plain
    line = dumps(plain)
    return line if len(line) <= LINE else json.dumps(plain, ensure_ascii=False, indent=2)


def as_json(value: Any) -> str:
    """A reply as one JSON value on one line."""
    return dumps(as_plain(value))


def as_plain(value: Any) -> Any:
    """
    `value` in what JSON has: bytes become base64, times ISO 8601, keys text, and a number that JSON lacks null.
    """
    match value:
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.datetime():
            return value.isoformat()
        case list() | tuple():
            return [as_plain(one) for one in value]
        case dict():
            return {_key(key): as_plain(one) for key, one in value.items()}
        case msgspec.msgpack.Ext():
            return {"type": value.code, "data": base64.b64encode(value.data).decode()}
        case _:
            return value


def on_terminal(text: str) -> str:
    """`text` without what could command a terminal; its line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def _key(key: Any) -> str:
    plain = as_plain(key)
    return plain if isinstance(plain, str) else dumps(plain)
