"""The [commands] table: what its entries say, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.config.errors import ConfigErrors
from regrow.config.load import load
from regrow.config.spec import CommandRule, CommandsSpec, Isolation, Limits


def read(folder: Path, table: str) -> CommandsSpec | None:
    """The table of a file."""
    file = folder / "a.toml"
    file.write_text(f"{table}\n[supervisor.app]\n")
    return load([str(file)], environ={}, check_system=False).commands


def test_absent(tmp_path: Path) -> None:
    """A file without the table asks for nothing."""
    assert read(tmp_path, "") is None
    assert read(tmp_path, "[commands]") == CommandsSpec()


def test_all_keys(tmp_path: Path) -> None:
    """Every key becomes a field."""
    text = """
    [commands]
    allow = ["git", "/bin/ls", { program = "ffmpeg", arguments = ["-i", "*.mp4"], env = ["A_*"] }, { program = "id" }]
    queue = 0
    max_timeout = "90s"
    limits = { memory = "1GiB", processes = 400 }
    isolate = ["network", "root"]
    """
    assert read(tmp_path, text) == CommandsSpec(
        allow=(
            CommandRule("git", env=("*",)),
            CommandRule("/bin/ls", env=("*",)),
            CommandRule("ffmpeg", ("-i", "*.mp4"), ("A_*",)),
            CommandRule("id"),
        ),
        queue=0,
        max_timeout_s=90.0,
        limits=Limits(memory_bytes=1 << 30, processes=400),
        isolate=(Isolation.NETWORK, Isolation.ROOT),
    )


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ('allow = ["./x"]', "commands.allow[0]", "a name or an absolute path"),
        ("allow = [{ arguments = [] }]", "commands.allow[0]", "must say which `program`"),
        ('allow = [{ program = "a", argument = [] }]', "commands.allow[0].argument", "unknown key"),
        ('allow = [{ program = "a/b" }]', "commands.allow[0].program", "a name or an absolute path"),
        ("allow = [3]", "commands.allow[0]", "must be a program"),
        ('isolate = ["net"]', "commands.isolate[0]", "must be one of network"),
        ("queue = -1", "commands.queue", "from 0"),
        ("max_timeout = 5", "commands.max_timeout", "5"),
    ],
)
def test_problems(tmp_path: Path, line: str, key: str, said: str) -> None:
    """Each mistake is one problem at its place."""
    with pytest.raises(ConfigErrors) as raised:
        read(tmp_path, f"[commands]\n{line}")
    (problem,) = raised.value.problems
    assert (problem.key, said in problem.problem) == (key, True), str(problem)
