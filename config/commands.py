"""What an entry of `[commands] allow` says: a program, and which arguments and variables it may be given."""

from __future__ import annotations

import os
from typing import Any

from regrow.config.spec import CommandRule
from regrow.config.tables import Key, ListOf, Table
from regrow.config.values import BAD, At, Schema, Text


class _Program(Text):
    """A name that is looked for along the worker's PATH, or an absolute path."""

    def read(self, value: Any, at: At) -> Any:
        """Return the text."""
        text = super().read(value, at)
        if text is BAD or "/" not in text or os.path.isabs(text):
            return text
        return at.wrong(f"must be a name or an absolute path, not {text}")


PROGRAM = _Program("a program")
_PATTERNS = ListOf(Text("a pattern", empty=True))

_RULE = Table(
    Key("program", PROGRAM, "a name, looked for in PATH, or an absolute path"),
    Key("arguments", _PATTERNS, "each argument must match one of these patterns (*, ?, [a-z]); default: any"),
    Key("env", _PATTERNS, "variables that may be set, as patterns of their names", default=[]),
)


class Allowed:
    """A program with any arguments and variables, or a table that says which."""

    def read(self, value: Any, at: At) -> Any:
        """Return the rule."""
        if not isinstance(value, dict):
            program = PROGRAM.read(value, at)
            return BAD if program is BAD else CommandRule(program, env=("*",))
        if "program" not in value:
            return at.wrong("must say which `program`", code="missing_program")
        fields = _RULE.read(value, at)
        return CommandRule(**fields) if "program" in fields else BAD

    def schema(self) -> Schema:
        """Return the schema."""
        return {"anyOf": [PROGRAM.schema(), {**_RULE.schema(), "required": ["program"]}]}
