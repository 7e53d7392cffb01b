"""Values made of values: arrays, tables of any keys, and tables of known keys, each key described once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regrow.config.errors import did_you_mean
from regrow.config.values import BAD, At, Schema, Type, shown


class ListOf:
    """An array of one type, as a tuple in the file's order."""

    def __init__(self, item: Type, *, least: int = 0) -> None:
        self._item = item
        self._least = least

    def read(self, value: Any, at: At) -> Any:
        """Return the tuple; BAD as soon as one item is."""
        if not isinstance(value, list):
            hint = f"did you mean [{shown(value)}]?" if isinstance(value, (str, int)) else ""
            return at.wrong(f"must be an array, not {shown(value)}", hint)
        if len(value) < self._least:
            return at.wrong("must not be empty")
        items = tuple(self._item.read(item, at.down(index)) for index, item in enumerate(value))
        return BAD if any(item is BAD for item in items) else items

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "array", "items": self._item.schema(), **({"minItems": self._least} if self._least else {})}


class Pairs:
    """A table of any keys whose values are of one type."""

    def __init__(self, item: Type, key: Callable[[str], str]) -> None:
        self._item = item
        self._key_problem = key

    def read(self, value: Any, at: At) -> Any:
        """Return the dictionary; BAD as soon as one value is."""
        if not isinstance(value, dict):
            return at.wrong(f"must be a table, not {shown(value)}")
        read = {}
        for key, item in value.items():
            problem = self._key_problem(key)
            read[key] = at.down(key).wrong(problem) if problem else self._item.read(item, at.down(key))
        return BAD if any(item is BAD for item in read.values()) else read

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "object", "additionalProperties": self._item.schema()}


class Key:
    """One key of a table: its name, its type, what it is for, and the field of the spec it becomes."""

    __slots__ = ("about", "default", "field", "name", "type")

    def __init__(self, name: str, type: Type, about: str, *, field: str = "", default: Any = None) -> None:
        self.name = name
        self.type = type
        self.about = about
        self.field = field or name
        self.default = default


class Table:
    """A table of known keys. Reads to a dictionary of the fields that were written and are right."""

    def __init__(self, *keys: Key) -> None:
        self.keys = {key.name: key for key in keys}

    def read(self, value: Any, at: At) -> Any:
        """Return the fields; unknown keys and wrong values are reported and left out."""
        if not isinstance(value, dict):
            return at.wrong(f"must be a table, not {shown(value)}")
        fields = {}
        for name, item in value.items():
            key = self.keys.get(name)
            if key is None:
                at.down(name).wrong(f"unknown key `{shown(name)[1:-1]}`", did_you_mean(name, self.keys), "unknown_key")
                continue
            read = key.type.read(item, at.down(name))
            if read is not BAD:
                fields[key.field] = read
        return fields

    def schema(self) -> Schema:
        """Return the schema, with what each key is for."""
        properties = {}
        for key in self.keys.values():
            default = {} if key.default is None else {"default": key.default}
            properties[key.name] = {"description": key.about, **default, **key.type.schema()}
        return {"type": "object", "properties": properties, "additionalProperties": False}


class Record:
    """A table that becomes one struct; keys that are absent take the struct's defaults."""

    def __init__(self, build: Callable[..., Any], table: Table) -> None:
        self._build = build
        self._table = table

    def read(self, value: Any, at: At) -> Any:
        """Return the struct."""
        fields = self._table.read(value, at)
        return fields if fields is BAD else self._build(**fields)

    def schema(self) -> Schema:
        """Return the schema."""
        return self._table.schema()
