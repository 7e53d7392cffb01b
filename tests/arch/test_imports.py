"""Who may import whom: rooms downwards only, a pure core, and lean supervisors."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("REGROW_SOURCE", Path(__file__).parents[2]))
ROOMS = ("config", "ipc", "workers", "daemon")  # each may import those before it, and itself

CORE_MAY_IMPORT = {
    "__future__", "abc", "bisect", "collections", "copy", "dataclasses", "enum", "functools", "heapq", "itertools",
    "math", "operator", "types", "typing", "msgspec", "msgspec.structs",
    "regrow.config.backoff", "regrow.config.exits", "regrow.config.reach", "regrow.config.spec",
    "regrow.config.diff",
}  # fmt: skip

LEAN = [
    "regrow.config.spec",
    "regrow.config.exits",
    "regrow.config.backoff",
    "regrow.config.reach",
    "regrow.daemon.core.supervisor",
    "regrow.daemon.loop",
    "regrow.daemon.root",
    "regrow.daemon.runtime",
    "regrow.daemon.cli.fast",
    "regrow.workers.system.logger",
]
FAT = {
    "argparse", "asyncio", "click", "concurrent", "ctypes.util", "json", "lmdb", "logging",
    "multiprocessing", "psutil", "rich", "subprocess", "threading", "tomli", "tomllib", "urllib", "zmq",
}  # fmt: skip


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield every module of the project: room, path below the root, syntax tree."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield room, str(path.relative_to(ROOT)), ast.parse(path.read_text(), str(path))


def imports(path: str, tree: ast.Module) -> Iterator[str]:
    """Yield the full names of all modules that this one imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; say regrow.…"
            yield node.module or ""
            if (node.module or "").startswith("regrow"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name))


def is_module(package: str | None, name: str) -> bool:
    """Whether `from package import name` imports a module of the project rather than something in one."""
    below = (package or "").replace(".", "/").removeprefix("regrow").lstrip("/")
    return (ROOT / below / f"{name}.py").exists() or (ROOT / below / name / "__init__.py").exists()


def test_rooms_import_only_downwards() -> None:
    """The room config imports nothing of regrow; ipc config; workers both; daemon all."""
    wrong = [
        f"{path} imports {name}"
        for room, path, tree in modules()
        for name in imports(path, tree)
        if name.startswith("regrow.") and ROOMS.index(name.split(".")[1]) > ROOMS.index(room)
    ]
    assert wrong == []


def test_rooms_are_imported_by_their_full_name() -> None:
    """No module imports `config.x` or `daemon.x`: that would load a second copy of it."""
    wrong = [
        f"{path} imports {name}"
        for _, path, tree in modules()
        for name in imports(path, tree)
        if name.split(".")[0] in ROOMS
    ]
    assert wrong == []


def test_core_is_pure() -> None:
    """daemon/core and the arithmetic in config import value tools only: no os, time, random, signal, logging."""
    wrong = [
        f"{path} imports {name}"
        for _, path, tree in modules()
        for name in imports(path, tree)
        if path.startswith("daemon/core/") or path in ("config/spec.py", "config/backoff.py", "config/reach.py")
        if name not in CORE_MAY_IMPORT and name.split(".")[0] != "collections"
        if not (name == "regrow.config" or name.startswith("regrow.daemon.core"))
        if (path, name) != ("config/spec.py", "signal")  # for the names of signals only
    ]
    assert wrong == []


@pytest.mark.parametrize("module", LEAN)
def test_lean_modules_stay_lean(module: str) -> None:
    """What root and supervisors import pulls in nothing heavy: fork costs grow with memory."""
    assert importlib.util.find_spec(module) is not None
    source = f"import sys\nbefore = set(sys.modules)\nimport {module}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{source}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert sorted(name for name in loaded if name in FAT or name.split(".")[0] in FAT) == []


@pytest.mark.parametrize("room", ROOMS)
def test_short_name_is_refused(room: str) -> None:
    """With the repository's root on sys.path, `import daemon` fails instead of loading a second copy."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport {room}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"import it as regrow.{room}" in done.stderr
