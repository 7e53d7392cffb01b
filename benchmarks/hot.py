"""
Writes `daemon/hot.py`: what supervisors, functions and agents run between their fork and their first rest, and the
names in that.

    python -m benchmarks.hot > daemon/hot.py
"""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import CodeType
from typing import Any

from benchmarks.contenders import HERE, Daemon, agent, function, supervisor, workspace

_HEAD = '''"""
What supervisors, functions and agents run between their fork and their first rest, first what all of them run, then
what some do: `RUN`, modules and functions, whose code `sharing` puts side by side, and `NAMES`, what these functions
call things, which `interned` does the same with.

Written by `python -m benchmarks.hot`. A name too many or too few costs a little memory, and nothing else.
"""

from __future__ import annotations

RUN = """\\
'''
_KINDS = {"regrow.daemon.nested run": "supervisor", "regrow.workers.runtime run": "agent"}


def main() -> None:
    """Watch a small tree start, and print the module."""
    by: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEEN"] = folder
        _run_tree()
        for path in Path(folder).iterdir():
            lines = [line for line in path.read_text().splitlines() if not line.startswith("_distutils_hack")]
            kind = next((kind for line, kind in _KINDS.items() if line in lines), "function")
            for line in lines:
                by.setdefault(line, set()).add(kind)
    ordered = _ordered(by)
    print(_HEAD + "".join(f"{line}\n" for line in _listed(by, ordered)) + '"""\n')
    words = textwrap.wrap(" ".join(_names(ordered)), 118, break_on_hyphens=False, break_long_words=False)
    print('NAMES = """\\\n' + "\n".join(words) + '\n"""')


def _run_tree() -> None:
    tables = (
        supervisor("app", ["below"], 'preload = ["seen"]')
        + supervisor("below", ["worker", "echo"])
        + function("worker", replicas=3)
        + agent("echo", "agents:Echo", 3)
    )
    with workspace() as directory:
        shutil.copy(HERE / "seen.py", directory)
        with Daemon(directory, tables):
            time.sleep(1.0)


def _ordered(by: dict[str, set[str]]) -> list[str]:
    """What is run by the same kinds together, those run by most kinds first."""
    return sorted(by, key=lambda line: (-len(by[line]), sorted(by[line]), line))


def _names(ordered: list[str]) -> list[str]:
    """What Python has one string of for all code, and counts: names, words that are constants, names of functions."""
    found: dict[str, None] = {}
    for line in ordered:
        module, name = line.split()
        code = _code(importlib.import_module(module), name) if "<locals>" not in name else None
        if code is not None:  # what is made within it comes with it
            found.update(dict.fromkeys(_words(code)))
    return [word for word in found if word.split() == [word]]


def _code(scope: Any, name: str) -> CodeType | None:
    for part in name.split("."):
        scope = inspect.getattr_static(scope, part, None)
    inner = scope.fget if isinstance(scope, property) else getattr(scope, "__func__", scope)
    return getattr(inspect.unwrap(inner), "__code__", None) if inner is not None else None


def _words(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        for part in constant if isinstance(constant, tuple) else (constant,):
            if isinstance(part, str) and part.isidentifier():
                yield part
            elif isinstance(part, CodeType):
                yield from (part.co_name, part.co_qualname, *_words(part))


def _listed(by: dict[str, set[str]], ordered: list[str]) -> list[str]:
    """A line for each module, or more where one would be too long."""
    lines: list[str] = []
    for (_, module), group in groupby(ordered, key=lambda line: (sorted(by[line]), line.split()[0])):
        functions = " ".join(line.split()[1] for line in group)
        lines += [f"{module} {part}" for part in textwrap.wrap(functions, 118 - len(module), break_on_hyphens=False)]
    return lines


if __name__ == "__main__":
    main()
