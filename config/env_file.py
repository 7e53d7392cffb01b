"""Files of environment variables: `NAME=value` lines, as systemd and docker read them."""

from __future__ import annotations

import os
import re
import stat

from regrow.config.values import At, reserved_variable

LARGEST_BYTES = 1024 * 1024

_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*(.*)", re.ASCII | re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*(?:#.*)?')
_SINGLE = re.compile(r"'([^']*)'[ \t]*(?:#.*)?")


def parse_env_file(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    r"""
    Return the variables of an env_file, and what is wrong in it as (line, problem).

    Blank lines and lines that begin with # or ; are skipped; `export` before a name is allowed. A value is taken as
    it stands, without the blanks around it; in '…' literally; in "…" with \n, \t, \", \\ and \$ escaped.
    Nothing is expanded. The last one of a name wins.
    """
    variables: dict[str, str] = {}
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line or line[0] in "#;":
            continue
        match = _LINE.fullmatch(line)
        value = _value(match[2]) if match else None
        if match is None:
            wrong.append((number, "must be NAME=value"))
        elif value is None:
            wrong.append((number, f"the quotes of {match[1]} do not close"))
        elif "\0" in value:
            wrong.append((number, "must not hold a NUL character"))
        elif reserved_variable(match[1]):
            wrong.append((number, f"{match[1]} is set by regrow"))
        else:
            variables[match[1]] = value
    return variables, wrong


def _value(written: str) -> str | None:
    """Return what a written value means, None when its quotes do not close."""
    if written.startswith('"'):
        match = _DOUBLE.fullmatch(written)
        return re.sub(r"\\(.)", _unescaped, match[1]) if match else None
    if written.startswith("'"):
        match = _SINGLE.fullmatch(written)
        return match[1] if match else None
    return written


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1] if match[1] in '"\\$`' else match[0])


def read_env_file(path: str, at: At) -> dict[str, str]:
    """
    Return the variables in the file at `path`.

    A file that cannot be read is reported at `at`; what is wrong in it, at its own lines.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            at.wrong(f"{path} is not a regular file")
            return {}
        with open(path, "rb") as opened:
            content = opened.read(LARGEST_BYTES + 1)
        text = content.decode()
    except OSError as error:
        at.wrong(f"cannot read {path}: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        at.wrong(f"{path} is not UTF-8")
        return {}
    if len(content) > LARGEST_BYTES:
        at.wrong(f"{path} has more than {LARGEST_BYTES} bytes")
        return {}
    variables, wrong = parse_env_file(text)
    for line, problem in wrong:
        at.scope.problems.add_line(path, line, "", problem, code="invalid_env_file")
    return variables
