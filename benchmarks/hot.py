"""
Writes `daemon/hot.py`: what supervisors, functions and agents run between their fork and their first rest.

    python -m benchmarks.hot > daemon/hot.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
import time
from itertools import groupby
from pathlib import Path

from benchmarks.contenders import HERE, Daemon, agent, function, supervisor, workspace

_HEAD = '''"""
What supervisors, functions and agents run between their fork and their first rest: module and functions, first what
all of them run, then what some do. `sharing` puts the code of these side by side.

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
    print(_HEAD + "".join(f"{line}\n" for line in _listed(by)) + '"""')


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


def _listed(by: dict[str, set[str]]) -> list[str]:
    """What is run by the same kinds together, those run by most kinds first."""
    ordered = sorted(by, key=lambda line: (-len(by[line]), sorted(by[line]), line))
    lines: list[str] = []
    for (_, module), group in groupby(ordered, key=lambda line: (sorted(by[line]), line.split()[0])):
        functions = " ".join(line.split()[1] for line in group)
        lines += [f"{module} {part}" for part in textwrap.wrap(functions, 118 - len(module), break_on_hyphens=False)]
    return lines


if __name__ == "__main__":
    main()
