"""What `regrow init` writes is right as it stands."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from trees import ENVIRON, workers

from regrow.config.load import load
from regrow.config.starter import starter_files


@pytest.mark.parametrize("name", ["shop", "my-shop", "9lives", "a.b"])
def test_starter_tree_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The starter files load without a problem, under any name, and hold an agent, a function and a command."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "python3").touch(0o755)
    for file, text in starter_files(name).items():
        (tmp_path / file).write_text(text)
    plan = load([tmp_path / f"{name}.toml"], environ={**ENVIRON, "PATH": str(tmp_path)})
    assert plan.daemon.name == name
    assert [str(spec.kind) for spec in workers(plan.root).values()] == ["agent", "function", "command"]


def test_starter_module_is_python() -> None:
    """The starter module parses and documents itself."""
    (source,) = (text for file, text in starter_files("shop").items() if file.endswith(".py"))
    assert ast.get_docstring(ast.parse(source))
