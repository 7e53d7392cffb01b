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


def test_tables_that_are_about_no_child(tree: Tree, config: Config) -> None:
    """What differs in them is said as the file has it, and that it takes nobody's restart."""
    config.sections["commands"] = {"allow": ["true"]}
    config.sections["access"] = {"viewers": [7]}
    small(tree, config)
    config.sections["commands"] = {"allow": ["true", {"program": "ls", "arguments": ["-l"]}], "max_parallel": 3}
    config.sections["access"] = {"viewers": [7, 8]}
    config.sections["hub"] = {}
    config.write()
    done = cli.regrow("plan", "--run-dir", tree.directory / "run")
    rule = '{"program":"ls","arguments":["-l"],"env":[]}'
    assert done.stdout.splitlines()[-3:] == [
        "change   [access]  viewers: user:7 -> user:7, user:8; holds at once",
        f'change   [commands]  allow: ["true"] -> ["true",{rule}]; max_parallel: 8 -> 3; holds at once',
        "change   [hub]  table: unset -> in the file; holds at once",
    ]
    as_json = json.loads(cli.regrow("plan", "--run-dir", tree.directory / "run", "--format", "json").stdout)
    assert as_json["tables"] == [one["table"] for one in as_json["settings"]] == ["access", "commands", "hub"]
    assert as_json["settings"][0]["why"] == [{"key": "viewers", "before": "user:7", "after": "user:7, user:8"}]


def test_what_becomes_of_sockets(tree: Tree, config: Config) -> None:
    """Of each it is said whether it is bound, closed or goes on, and where."""
    path = tree.directory
    config.sections["socket.gone"] = {"unix": f"{path}/gone"}
    config.sections["socket.old"] = {"unix": f"{path}/same"}
    config.sections["socket.kept"] = {"unix": f"{path}/kept"}
    config.worker("a", sockets=["gone", "old", "kept"])
    small(tree, config)
    config.workers["a"]["sockets"] = ["new", "kept", "more"]
    del config.sections["socket.gone"], config.sections["socket.old"]
    config.sections["socket.new"] = {"unix": f"{path}/same"}
    config.sections["socket.more"] = {"unix": f"{path}/more"}
    config.sections["socket.kept"] = {"unix": f"{path}/kept", "mode": "0600", "backlog": 7}
    config.write()
    done = cli.regrow("plan", "--run-dir", tree.directory / "run")
    assert done.stdout.splitlines()[1:] == [
        f"close    [socket.gone]  no longer in the file; {path}/gone is closed when no worker has it any more",
        f"change   [socket.old]  {path}/same is that of [socket.new]: it stays open",
        "change   [socket.kept]  mode: 0666 -> 0600; backlog: 4096 -> 7",
        f"change   [socket.new]  {path}/same is that of [socket.old]: it stays open",
        f"listen   [socket.more]  at {path}/more",
    ]
    as_json = json.loads(cli.regrow("plan", "--run-dir", tree.directory / "run", "--format", "json").stdout)
    assert as_json["tables"] == [f"socket.{one['name']}" for one in as_json["sockets"]]
    assert as_json["sockets"][0] == {
        "name": "gone", "action": "close", "address": f"{path}/gone", "why": [], "other": "",
    }  # fmt: skip


def test_files_are_absolute(tree: Tree, config: Config) -> None:
    """On the socket, files are named by absolute paths."""
    small(tree, config)
    for files in ("x", ["x"], [3]):
        assert tree.refused("plan", files=files).code == "bad_request"
