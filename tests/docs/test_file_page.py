"""docs/file.md has every key of the file, with its default, and no other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pages import TOP

from regrow.config.schema import json_schema

PAGE = TOP / "docs" / "file.md"
SCHEMA = json_schema()["properties"]


def _named(family: str) -> dict[str, Any]:
    (table,) = SCHEMA[family]["patternProperties"].values()
    return dict(table)


def _inner(table: dict[str, Any], key: str) -> dict[str, Any]:
    """The table that a key holds, whatever else it may hold."""
    value = table["properties"][key]
    choices = [value, *value.get("anyOf", ())]
    return next(choice for choice in choices if choice.get("type") == "object")


WORKER, SUPERVISOR = _named("worker"), _named("supervisor")
TABLES = {
    "`[daemon]`": SCHEMA["daemon"],
    "`[access]`": SCHEMA["access"],
    "`[commands]`": SCHEMA["commands"],
    "`[hub]`": SCHEMA["hub"],
    "`[supervisor.NAME]`": SUPERVISOR,
    "`backoff`": _inner(SUPERVISOR, "backoff"),
    "`[worker.NAME]`": WORKER,
    "`ready`": _inner(WORKER, "ready"),
    "`liveness`": _inner(WORKER, "liveness"),
    "`limits`": _inner(WORKER, "limits"),
    "`log`": _inner(WORKER, "log"),
    "`[socket.NAME]`": _named("socket"),
    "`update`": _inner(WORKER, "update"),
    "`[workflow.NAME]`": _named("workflow"),
}


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the first table below a heading, by key."""
    parts = re.split(r"^##+ (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = cells
    return found


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_documented(heading: str) -> None:
    """The table of a section lists exactly the keys of the schema."""
    assert sorted(rows(heading)) == sorted(TABLES[heading]["properties"])


@pytest.mark.parametrize("heading", TABLES)
def test_defaults_are_right(heading: str) -> None:
    """Where the schema states a default, the page states the same."""
    for key, cells in rows(heading).items():
        default = TABLES[heading]["properties"][key].get("default")
        if default is not None:
            assert cells[2] == f"`{json.dumps(default)}`", key


def test_choices_are_complete() -> None:
    """Where only certain words are allowed, the page names all of them."""
    for heading, table in TABLES.items():
        for key, cells in rows(heading).items():
            for word in table["properties"][key].get("enum", ()):
                assert f'`"{word}"`' in cells[1], f"{heading} {key}"
