"""Where a key stands in a TOML text. The parser gives no line numbers, so this one gives nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:""|")?(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?:''|')?(?!')", re.DOTALL)
_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class _LostError(Exception):
    """The text is not what was expected here; what was found so far stays true."""


class Locator:
    """Finds the line of a key path in one text, which must be valid TOML. Built on the first problem only."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._lines_before = 1
        self._places: dict[Path, int] = {}
        self._implied: dict[Path, int] = {}  # tables that only the header of a table in them mentions
        self._arrays: dict[Path, int] = {}
        try:
            self._document()
        except (_LostError, RecursionError):
            pass  # a line that is only near is better than none

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line (from 1) of `path`, or of the nearest table or key around it that the text has."""
        wanted = tuple(path)
        while wanted and wanted not in self._places and wanted not in self._implied:
            wanted = wanted[:-1]
        return self._places.get(wanted) or self._implied.get(wanted, 1)

    def _document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]` and return the path of the table it opens."""
        at = self._at
        double = self._text.startswith("[[", at)
        self._at += 2 if double else 1
        path = self._resolved(self._dotted(), double)
        self._expect("]")
        if double:
            self._expect("]")
        self._note(path, at)
        for length in range(1, len(path)):
            self._implied.setdefault(path[:length], self._lines_before)
        return path

    def _resolved(self, names: tuple[str, ...], opens_element: bool) -> Path:
        """Insert the index of the newest element after each name that is an array of tables."""
        path: Path = ()
        for number, name in enumerate(names, 1):
            path = (*path, name)
            if number == len(names) and opens_element:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _pair(self, table: Path) -> None:
        at = self._at
        path = table
        for name in self._dotted():
            path = (*path, name)
            self._note(path, at)
        self._expect("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        text, at = self._text, self._at
        if text.startswith("[", at):
            self._array(path)
        elif text.startswith("{", at):
            self._inline(path)
        elif text.startswith(('"""', "'''"), at):
            self._match(_LONG_BASIC if text[at] == '"' else _LONG_LITERAL)
        elif text.startswith(('"', "'"), at):
            self._match(_BASIC if text[at] == '"' else _LITERAL)
        else:
            self._match(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_SPACE)
            if self._peek() == "]":
                self._at += 1
                return
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1
            self._skip(_SPACE)
            if self._peek() == ",":
                self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_SPACE)
            if self._peek() == "}":
                self._at += 1
                return
            self._pair(path)
            self._skip(_SPACE)
            if self._peek() == ",":
                self._at += 1

    def _dotted(self) -> tuple[str, ...]:
        names = [self._name()]
        while True:
            self._skip(_BLANK)
            if self._peek() != ".":
                return tuple(names)
            self._at += 1
            names.append(self._name())

    def _name(self) -> str:
        self._skip(_BLANK)
        if self._peek() == '"':
            return _ESCAPE.sub(_unescaped, self._match(_BASIC)[1:-1])
        if self._peek() == "'":
            return self._match(_LITERAL)[1:-1]
        return self._match(_BARE)

    def _note(self, path: Path, at: int) -> None:
        """Remember the first place of `path`; places come in rising order, so lines are counted once."""
        self._lines_before += self._text.count("\n", self._counted_to, at)
        self._counted_to = max(self._counted_to, at)
        self._places.setdefault(path, self._lines_before)

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise _LostError
        return self._text[self._at]

    def _expect(self, character: str) -> None:
        self._skip(_BLANK)
        if self._peek() != character:
            raise _LostError
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _LostError
        self._at = match.end()
        return match[0]


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] in "uU" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    return _ESCAPES.get(escape, escape)
