"""
What is wrong with a configuration, for the operator who wrote it.

ConfigErrors      all problems of one load, never only the first
└─ Problem        file, line, key path, what is wrong, what was probably meant, and a code for programs
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from msgspec import Struct

from regrow.config.readable import readable


class Problem(Struct, frozen=True):
    """
    One thing that is wrong, and where. `line` counts from 1; 0 where there is no line (a start_child spec).

    `code` is stable: OTP's fault where OTP has one (`missing_id`, `missing_start`, `bad_combination`,
    `invalid_restart_type`, `invalid_shutdown`, …), else one of `syntax`, `unreadable`, `unknown_key`, `unknown_child`,
    `two_parents`, `cycle`, `unused`, `no_root`, `several_roots`, `duplicate_child_name`, `cannot_trip`,
    `missing_key`, or `invalid_<key>`.
    """

    file: str
    line: int
    key: str
    problem: str
    hint: str = ""
    code: str = ""

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        place = f"{self.file}{line}: " if self.file else ""
        key = f"{self.key}: " if self.key else ""
        return readable(f"{place}{key}{self.problem}{f' ({self.hint})' if self.hint else ''}")


class ConfigErrors(Exception):
    """Nothing was loaded; `problems` says why, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint naming the known word that is nearest to `word`, or nothing."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is nearest to `word`, if any is near."""
    return next(iter(get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)), None)


def key_path(path: Sequence[str | int]) -> str:
    """Write a path as users do: `worker.web.ready.exec[0]`."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written
