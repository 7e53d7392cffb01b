"""What is kept of an apply, and going back to an earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cli
import pytest
from applying import apply, change, small
from configs import Config
from tree import Tree, short_directory


@pytest.fixture
def other() -> Iterator[Path]:
    """Another directory."""
    with short_directory() as path:
        yield path


def test_what_was_done_is_kept_when_it_is_told(tree: Tree, config: Config) -> None:
    """Who asks for all applies at once finds the last one there, as it ended."""
    small(tree, config, "a:P")
    for intensity in range(1, 6):
        config.supervisors["sup"]["intensity"] = intensity
        told = apply(tree)
        newest = tree.call("applies")[-1]
        assert (newest["id"], newest["outcome"], newest["present"]) == (told["id"], "done", True)


def test_an_apply_that_cannot_be_kept(tree: Tree, config: Config) -> None:
    """It is done, and says that there will be no way back to it."""
    small(tree, config, "a:P")
    (tree.directory / "state").mkdir(exist_ok=True)
    (tree.directory / "state" / "applies").write_text("in the way")
    config.supervisors["sup"]["intensity"] = 7
    (note,) = apply(tree)["notes"]
    assert note.startswith("apply 2 cannot be kept: ")
    config.write()
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing has changed\n", "")
    config.supervisors["sup"]["intensity"] = 8
    config.write()
    done = cli.regrow("apply", "--run-dir", tree.directory / "run")
    assert done.stdout.startswith("apply 3 is done: 1 change")
    assert done.stderr.startswith("regrow: apply 3 cannot be kept: ")


def test_there_and_back(tree: Tree, config: Config) -> None:
    """`rollback` brings the plan of before; again, that of after; by number, any that is kept."""
    small(tree, config, "a:P")
    change(config, "a")
    apply(tree)
    change(config, "a")
    apply(tree)

    def arguments() -> int:
        tree.forget()
        tree.terminate_child("a")
        tree.restart_child("a")
        command = Path(f"/proc/{tree.pid('a')}/cmdline").read_bytes()
        return command.count(b"changed")

    assert arguments() == 2
    assert tree.call("rollback")["outcome"] == "done"
    assert arguments() == 1
    assert tree.call("rollback")["outcome"] == "done"
    assert arguments() == 2
    told = cli.regrow("rollback", "1", "--run-dir", tree.directory / "run")
    assert (told.returncode, told.stdout.partition(":")[0]) == (0, "apply 6 is done")
    assert arguments() == 0
    listed = cli.regrow("applies", "--run-dir", tree.directory / "run", "--format", "json")
    records = json.loads(listed.stdout)
    assert [record["id"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["back_to"] for record in records] == [None, None, None, 2, 3, 1]
    assert [record["present"] for record in records] == [False] * 5 + [True]
    assert tree.refused("rollback", apply=77).code == "bad_request"
    for wrong in ("x", "0", "1.5", "9" * 5000):
        told = cli.regrow("rollback", wrong, "--run-dir", tree.directory / "run")
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert "is not the number of an apply: `regrow applies` has them" in told.stderr
    notes = tree.call("plan")["notes"]
    assert notes == [
        "the daemon runs apply 6, which brought apply 1 back; started again it would run what its files say now"
    ]


def test_another_file(tree: Tree, config: Config, other: Path) -> None:
    """The tree may come from other files from now on."""
    small(tree, config, "a:P")
    change(config, "a")
    file = other / "regrow.toml"
    file.write_text(config.text())
    done = cli.regrow("apply", "--run-dir", tree.directory / "run", "--format", "json", file)
    assert json.loads(done.stdout)["files"] == [str(file)]
    assert tree.call("ping")["files"] == [str(file)]
