"""Reading the files: text, TOML, and one set of tables out of several files, each knowing where it stands."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regrow.config.errors import ConfigErrors, Problem, did_you_mean, key_path
from regrow.config.locate import Locator

SECTIONS = ("daemon", "access", "commands", "hub")
FAMILIES = ("supervisor", "worker", "workflow", "socket")
LARGEST_FILE_BYTES = 16 * 1024 * 1024
MOST_LINKS = 40
"""As the kernel has it; a circle of links cannot have been read anyway."""

_PLACE = re.compile(r" *\(at (?:line (\d+), column (\d+)|end of document)\)$")


class Source:
    """One file: its name as given, its folder (relative paths start there), its text and its tables."""

    def __init__(self, file: str, folder: str, text: str) -> None:
        self.file = file
        self.folder = folder
        self.text = text
        self.tables: dict[str, Any] = {}
        self._locator: Locator | None = None

    def line(self, path: tuple[str | int, ...]) -> int:
        """Return the line of a key path; the text is scanned only when somebody asks."""
        if not self.text:
            return 0
        if self._locator is None:
            self._locator = Locator(self.text)
        return self._locator.line(path)


class Problems:
    """Collects what is wrong, in any order; says each thing once, in the order of files and lines."""

    def __init__(self) -> None:
        self._found: list[tuple[int, Problem]] = []
        self._order: dict[str, int] = {}

    def add(self, source: Source, path: tuple[str | int, ...], problem: str, hint: str = "", code: str = "") -> None:
        """Record one problem at a key path of a source."""
        self.add_line(source.file, source.line(path), key_path(path), problem, hint, code)

    def add_line(self, file: str, line: int, key: str, problem: str, hint: str = "", code: str = "") -> None:
        """Record one problem at a line of a file, which need not be TOML (an env_file)."""
        order = self._order.setdefault(file, len(self._order))
        key, problem, hint = map(_on_one_line, (key, problem, hint))
        self._found.append((order, Problem(file, line, key, problem, hint, code)))

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """
        End the load if anything is wrong.

        Raises:
            ConfigErrors with all problems.
        """
        if self._found:
            ordered = sorted(self._found, key=lambda found: (found[0], found[1].line))
            raise ConfigErrors(dict.fromkeys(problem for _, problem in ordered))


def _on_one_line(text: str) -> str:
    """Escape what a terminal would obey rather than show: keys and values are the user's."""
    return text if text.isprintable() else "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


class Tables:
    """The tables of all files together. `owner` says for each table, by its path, which file it stands in."""

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, Any]] = {}
        self.supervisors: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self.workflows: dict[str, dict[str, Any]] = {}
        self.sockets: dict[str, dict[str, Any]] = {}
        self.owner: dict[tuple[str, ...], Source] = {}

    def source(self, *path: str) -> Source | None:
        """Return the file a table stands in, if any does."""
        return self.owner.get(path)


def read_sources(files: Iterable[str | Path], problems: Problems) -> list[Source]:
    """Read and parse every file. A file that cannot be read or parsed is a problem and is left out."""
    sources = []
    for file in files:
        source = _read(Path(file), problems)
        if source is not None and _parse(source, problems):
            sources.append(source)
    return sources


def _read(path: Path, problems: Problems) -> Source | None:
    file = str(path)
    content = b""
    try:
        with path.open("rb") as opened:
            content = opened.read(LARGEST_FILE_BYTES + 1)
        if len(content) > LARGEST_FILE_BYTES:
            problems.add_line(file, 1, "", f"cannot read a file above {LARGEST_FILE_BYTES} bytes", code="unreadable")
            return None
        if content.startswith(BOM_UTF8):
            told = "begins with a byte order mark, which TOML has not"
            problems.add_line(file, 1, "", told, "save it without", "syntax")
            return None
        return Source(file, _folder(path), content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add_line(file, line, "", "the file is not UTF-8", code="syntax")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problems.add_line(file, 0, "", f"cannot read the file: {reason}", code="unreadable")
    return None


def _folder(path: Path) -> str:
    """
    Return where relative paths begin. A file that is a link stands where it leads to, with all that it names.

    Links among the folders above are left alone: `current/shop.toml` is to stay in `current`, whatever that is today.
    """
    for _ in range(MOST_LINKS):
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return str(path.absolute().parent)


def _parse(source: Source, problems: Problems) -> bool:
    import tomli  # here: `start_child` specs come without TOML, and their reader must stay lean

    try:
        source.tables = tomli.loads(source.text)
        return True
    except RecursionError:
        problems.add_line(source.file, 1, "", "nested too deeply", code="syntax")
    except ValueError as error:  # TOMLDecodeError, and what `int` says of 5,000 digits
        message = str(error)
        place = _PLACE.search(message)
        line, column = (int(place[1]), int(place[2])) if place and place[1] else (source.text.count("\n") + 1, 0)
        said = _PLACE.sub("", message)
        where = f" (column {column})" if column else " (at the end of the file)" if place else ""
        problems.add_line(source.file, line, "", f"not valid TOML: {said[:1].lower()}{said[1:]}{where}", code="syntax")
    return False


def merge(sources: Iterable[Source], problems: Problems) -> Tables:
    """Put the tables of all files together; a later file may add tables, not change one."""
    tables = Tables()
    for source in sources:
        for key, value in source.tables.items():
            if key in SECTIONS:
                _adopt(tables, tables.sections, source, (key,), value, problems)
            elif key in FAMILIES:
                _adopt_family(tables, source, key, value, problems)
            else:
                hint = did_you_mean(key, SECTIONS + FAMILIES)
                problems.add(source, (key,), f"unknown table `{key}`", hint, "unknown_key")
    return tables


def _adopt_family(tables: Tables, source: Source, family: str, value: object, problems: Problems) -> None:
    if not isinstance(value, dict):
        hint = f"write [{family}.NAME]"
        problems.add(source, (family,), "must be a table of tables", hint, f"invalid_{family}")
        return
    into = {
        "supervisor": tables.supervisors,
        "worker": tables.workers,
        "workflow": tables.workflows,
        "socket": tables.sockets,
    }[family]
    for name, table in value.items():
        _adopt(tables, into, source, (family, name), table, problems)


def _adopt(
    tables: Tables,
    into: dict[str, dict[str, Any]],
    source: Source,
    path: tuple[str, ...],
    value: object,
    problems: Problems,
) -> None:
    earlier = tables.owner.get(path)
    if not isinstance(value, dict):
        hint = f"write [{path[0]}.NAME]" if path[0] in FAMILIES else f"write [{path[0]}]"
        problems.add(source, path, "must be a table", hint, f"invalid_{path[-1]}")
    elif earlier is not None:
        said = f"is already in {earlier.file}:{earlier.line(path)}; a later file may only add tables"
        code = "duplicate_child_name" if path[0] in FAMILIES else "duplicate_table"
        problems.add(source, path, said, code=code)
    else:
        into[path[-1]] = value
        tables.owner[path] = source
