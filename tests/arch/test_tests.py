"""How tests are written: they wait for events, and each says what it shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SLEEPS = ("sleep(", '"sleep"', "'sleep'", "import sleep", "; sleep ", "'sleep ", '"sleep ')


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function under tests/ with the place it stands at."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(TESTS)}:{node.lineno}", node


def test_no_test_sleeps() -> None:
    """Nothing under tests/ calls `sleep`, in Python or in a shell line: waiting is for events."""
    wrong = []
    for path in sorted(TESTS.rglob("*")):
        if path == Path(__file__) or path.suffix not in (".py", ".sh", ".toml"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if any(word in line for word in SLEEPS):
                wrong.append(f"{path.relative_to(TESTS)}:{number}: {line.strip()}")
    assert wrong == []


def test_every_test_says_what_it_shows() -> None:
    """Every test function has a docstring."""
    wrong = [
        f"{place} {node.name}"
        for place, node in functions()
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert wrong == []
