"""
The kinds of value that a key may have: each reads one TOML value, and says in JSON Schema what it reads.

`read` returns the value in the units of spec.py, or BAD after reporting what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol

from regrow.config import units
from regrow.config.errors import did_you_mean
from regrow.config.placeholders import PlaceholderError, fill
from regrow.config.sources import FAMILIES, SECTIONS, Problems, Source

NAME_PATTERN = r"^[a-z][a-z0-9_-]*$"

Schema = dict[str, Any]


class _Bad:
    """The type of BAD."""


BAD = _Bad()


class Scope:
    """What a table is read with: the placeholders that mean something in it, and the environment."""

    def __init__(self, problems: Problems, placeholders: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self.problems = problems
        self.placeholders = placeholders
        self.environ = environ


class At:
    """A place in a file, and the scope it is read in."""

    __slots__ = ("path", "scope", "source")

    def __init__(self, source: Source, path: tuple[str | int, ...], scope: Scope) -> None:
        self.source = source
        self.path = path
        self.scope = scope

    def down(self, *keys: str | int) -> At:
        """Return the place of a key or index below this one."""
        return At(self.source, (*self.path, *keys), self.scope)

    def wrong(self, problem: str, hint: str = "", code: str = "") -> _Bad:
        """Report that this place is wrong. The code follows from the key unless given."""
        self.scope.problems.add(self.source, self.path, problem, hint, code or self._code())
        return BAD

    def _code(self) -> str:
        """Name the key below the table that this place is in, as OTP's faults do."""
        keys = [part for part in self.path if isinstance(part, str)]
        above = 2 if keys[:1] and keys[0] in FAMILIES else 1 if keys[:1] and keys[0] in SECTIONS else 0
        subject = (keys[above:] or keys[-1:] or ["spec"])[0]
        return "invalid_restart_type" if subject == "restart" else f"invalid_{subject}"

    def filled(self, text: str) -> str | _Bad:
        """Return the text with its placeholders filled in; refuse what no process can be given."""
        try:
            text = fill(text, self.scope.placeholders, self.scope.environ)
        except PlaceholderError as error:
            return self.wrong(str(error), error.hint, "invalid_placeholder")
        if "\0" in text:
            return self.wrong("must not hold a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            return self.wrong("an environment variable in it is not UTF-8")
        return text


def reserved_variable(name: str) -> bool:
    """Say whether regrow itself sets that environment variable in every child."""
    return name.startswith(("REGROW_", "LISTEN_")) or name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Type(Protocol):
    """One kind of value."""

    def read(self, value: Any, at: At) -> Any: ...

    def schema(self) -> Schema: ...


def shown(value: object) -> str:
    """Write a wrong value for a message, in TOML's words, and short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


class Text:
    """A string that is not empty, with its placeholders filled in."""

    def __init__(self, noun: str = "a string", *, pattern: str = "", empty: bool = False) -> None:
        self._noun = noun
        self._pattern = pattern
        self._matcher = re.compile(pattern) if pattern else None
        self._empty = empty

    def read(self, value: Any, at: At) -> Any:
        """Return the filled text."""
        if not isinstance(value, str):
            hint = f'did you mean "{value}"?' if isinstance(value, int) and not isinstance(value, bool) else ""
            return at.wrong(f"must be {self._noun}, not {shown(value)}", hint)
        text = at.filled(value)
        if isinstance(text, str) and not text and not self._empty:
            return at.wrong(f"must be {self._noun}, not empty")
        if isinstance(text, str) and self._matcher and not self._matcher.search(text):
            return at.wrong(f"must be {self._noun}, not {shown(text)}")
        return text

    def schema(self) -> Schema:
        """Return the schema."""
        bounds: Schema = {"pattern": self._pattern} if self._pattern else {} if self._empty else {"minLength": 1}
        return {"type": "string", **bounds}


class Literal:
    """A string taken as it stands."""

    def read(self, value: Any, at: At) -> Any:
        """Return the text."""
        if not isinstance(value, str):
            return at.wrong(f"must be a string, not {shown(value)}")
        return at.wrong("must not hold a NUL character") if "\0" in value else value

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "string"}


class Quantity:
    """A time or a size with its unit."""

    def __init__(self, parse: Callable[[str], Any], noun: str, example: str, pattern: str, *, positive: bool) -> None:
        self._parse = parse
        self._noun = noun
        self._example = example
        self._pattern = pattern
        self._positive = positive

    def read(self, value: Any, at: At) -> Any:
        """Return seconds or bytes."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = shown(value)
            unit = self._example.lstrip("0123456789")
            hint = f'did you mean "{number}{unit}"?'
            return at.wrong(f'must be {self._noun} with its unit, such as "{self._example}", not {number}', hint)
        if not isinstance(value, str):
            return at.wrong(f'must be {self._noun} such as "{self._example}", not {shown(value)}')
        text = at.filled(value)
        if not isinstance(text, str):
            return text
        try:
            quantity = self._parse(text)
        except units.UnitError as error:
            return at.wrong(str(error), error.hint)
        if self._positive and not quantity:
            return at.wrong(f"must be more than nothing, not {shown(text)}")
        return quantity

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "string", "pattern": f"{self._pattern}|[{{]"}  # or a placeholder


def duration(*, positive: bool = True) -> Quantity:
    """Return the type of a time."""
    return Quantity(units.duration_s, "a time", "5s", units.DURATION_PATTERN, positive=positive)


def size(*, positive: bool = True) -> Quantity:
    """Return the type of a size."""
    return Quantity(units.size_bytes, "a size", "512MiB", units.SIZE_PATTERN, positive=positive)


class Int:
    """A whole number within bounds."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def read(self, value: Any, at: At) -> Any:
        """Return the number."""
        if not isinstance(value, int) or isinstance(value, bool):
            return at.wrong(f"must be a whole number, not {shown(value)}")
        if not self._least <= value <= self._most:
            return at.wrong(f"must be from {self._least} to {self._most}, not {shown(value)}")
        return value

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "integer", "minimum": self._least, "maximum": self._most}


class Number:
    """A number within bounds."""

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most

    def read(self, value: Any, at: At) -> Any:
        """Return the number as a float."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return at.wrong(f"must be a number, not {shown(value)}")
        if not self._least <= value <= self._most:
            return at.wrong(f"must be from {self._least:g} to {self._most:g}, not {shown(value)}")
        return float(value)

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "number", "minimum": self._least, "maximum": self._most}


class Bool:
    """True or false."""

    def read(self, value: Any, at: At) -> Any:
        """Return the truth."""
        return value if isinstance(value, bool) else at.wrong(f"must be true or false, not {shown(value)}")

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "boolean"}


class Choice:
    """One word of an enumeration."""

    def __init__(self, words: type[StrEnum]) -> None:
        self._words = words

    def read(self, value: Any, at: At) -> Any:
        """Return the member."""
        if isinstance(value, str):
            value = at.filled(value)
            if value is BAD:
                return BAD
            if value in self._words.__members__.values():
                return self._words(value)
        known = [str(word) for word in self._words]
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        return at.wrong(f"must be one of {', '.join(known)}, not {shown(value)}", hint)

    def schema(self) -> Schema:
        """Return the schema."""
        return {"enum": [str(word) for word in self._words]}
