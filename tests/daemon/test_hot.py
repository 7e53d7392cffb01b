"""The list of what children run first (`hot`) is written by `python -m benchmarks.hot`; whether it has grown stale."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
from configs import Config
from tree import Tree

from regrow.daemon import hot

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STALE = 0.2
"""The share of wrong names at which somebody should write it anew; a few cost nearly nothing."""

REMEDY = "write it anew: `python -m benchmarks.hot > daemon/hot.py`"
MODULE = "from regrow.workers import Agent\n\nclass Echo(Agent):\n    pass\n\n\ndef work():\n    signal.pause()\n"


def listed() -> set[tuple[str, str]]:
    """Module and name of our own functions in the list."""
    lines = [line.split() for line in hot.RUN.splitlines() if line.startswith("regrow.")]
    return {(module, name) for module, *names in lines for name in names}


def is_there(module: str, name: str) -> bool:
    """Whether there is such a function, or, of one that is made when another one runs, that one."""
    try:
        found = vars(importlib.import_module(module))
        for part in name.partition(".<locals>")[0].split("."):
            last = found[part]
            found = getattr(last, "__dict__", {})
    except (ImportError, KeyError):
        return False
    return True


def test_what_is_listed_is_there() -> None:
    """Who moves functions and modules in numbers moves them in the list."""
    gone = {f"{module} {name}" for module, name in listed() if not is_there(module, name)}
    assert len(gone) < STALE * len(listed()), f"{REMEDY}; there are no {sorted(gone)}"


def test_names_are_those_of_what_is_listed() -> None:
    """Each name stands there once, as a word, and those of today's code are among them."""
    names = hot.NAMES.split()
    assert len(names) == len(set(names))
    assert {"processes", "incarnation", "_runtime", "feed"} <= set(names), REMEDY


def test_what_is_run_is_listed(tree: Tree, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a supervisor, a function and an agent run until all are ready is in the list, most of it."""
    seen = tree.directory / "seen"
    seen.mkdir()
    shutil.copy(BENCHMARKS / "seen.py", tree.directory)
    (tree.directory / "small.py").write_text(f"import signal\n\n{MODULE}")
    monkeypatch.setenv("SEEN", str(seen))
    config.workers |= {"work": {"function": "small:work"}, "echo": {"agent": "small:Echo"}}
    config.supervisor("top", "below", preload=["seen"]).supervisor("below", "work echo")
    tree.grow()
    lines = {line for path in seen.iterdir() for line in path.read_text().splitlines()}
    run = {(module, name) for module, name in map(str.split, lines) if module.startswith("regrow.")}
    assert len(run) > 100, "a supervisor, a function and an agent run more than that"
    missing = run - listed()
    assert len(missing) < STALE * len(run), f"{REMEDY}; it has not {sorted(map(' '.join, missing))}"
