"""`regrow plan`: what an apply would do, asked of a real daemon."""

from __future__ import annotations

import json

import cli
from configs import Config
from tree import Tree


def small(tree: Tree, config: Config) -> None:
    """Two actors under top."""
    config.supervisor("top", "a:P b:P")
    tree.grow()


def test_nothing_would_change(tree: Tree, config: Config) -> None:
    """The daemon's own files, as they are."""
    small(tree, config)
    done = cli.regrow("plan", "--run-dir", tree.directory / "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing would change\n", "")


def test_what_would_change(tree: Tree, config: Config) -> None:
    """A line for each child, with the reason, from files that only the daemon need be able to read; nothing happens."""
    small(tree, config)
    before = tree.pids("top a b")
    config.supervisors["top"] |= {"intensity": 7, "children": ["a", "c"]}
    config.workers["a"]["env"] = {"TOKEN": "secret"}
    del config.workers["b"]
    config.worker("c")
    config.write()
    done = cli.regrow("plan", "--run-dir", tree.directory / "run")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "change   top  intensity: 10 -> 7",
        "restart  a    env.TOKEN: unset -> a value",
        "start    c    new under top",
        "stop     b    no longer in the file",
    ]
    said = json.loads(cli.regrow("plan", "--run-dir", tree.directory / "run", "--format", "json", tree.file).stdout)
    assert said["files"] == [str(tree.file)]
    assert [(change["name"], change["action"]) for change in said["changes"]] == [
        ("top", "change"), ("a", "restart"), ("c", "start"), ("b", "stop"),
    ]  # fmt: skip
    assert said["changes"][1]["why"] == [{"key": "env.TOKEN", "before": "", "after": "a value"}]
    assert tree.pids("top a b") == before


def test_a_bad_file(tree: Tree, config: Config) -> None:
    """All that is wrong, as `check` shows it, and its exit status."""
    small(tree, config)
    text = tree.file.read_text().replace("strategy", "stratgy").replace("intensity = 10", "intensity = -1")
    tree.file.write_text(text)
    done = cli.regrow("plan", "--run-dir", tree.directory / "run")
    check = cli.regrow("check", tree.file)
    assert done.returncode == cli.BAD_CONFIG
    assert done.stderr.splitlines()[:-1] == check.stderr.splitlines()
    as_json = cli.regrow("plan", "--run-dir", tree.directory / "run", "--format", "json")
    assert json.loads(as_json.stdout) == json.loads(cli.regrow("check", "--format", "json", tree.file).stdout)


def test_what_no_daemon_can_change(tree: Tree, config: Config) -> None:
    """Another run_dir is refused, with the remedy."""
    small(tree, config)
    config.daemon["log_dir"] = str(tree.directory / "elsewhere")
    config.write()
    done = cli.regrow("plan", "--run-dir", tree.directory / "run")
    assert done.returncode == 1
    assert "cannot change [daemon] log_dir of a running daemon: stop it and start it again" in done.stderr


def test_files_are_absolute(tree: Tree, config: Config) -> None:
    """On the socket, files are named by absolute paths."""
    small(tree, config)
    for files in ("x", ["x"], [3]):
        assert tree.refused("plan", files=files).code == "bad_request"
