"""up, check, schema, init, completion: the verbs that need no daemon, and errors in general."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Cli
from fake_daemon import FakeDaemon

from regrow.daemon.cli import look, run

REGROW = str(Path(sys.executable).with_name("regrow"))

GOOD = """\
[supervisor.app]
children = ["web", "jobs"]
[supervisor.jobs]
children = ["job"]
[worker.web]
command = ["true"]
[worker.job]
command = ["true"]
replicas = 3
"""
BAD = '[supervisor.app]\nstratgy = "one_for_one"\nchildren = ["web"]\n[worker.web]\ncommand = ["/no/such/program"]\n'


@pytest.fixture
def good(tmp_path: Path) -> str:
    """A sound file."""
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """A file with two problems."""
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    return str(path)


def test_check_counts(cli: Cli, good: str) -> None:
    """A sound file is counted out, replicas each."""
    assert cli("check", good) == (0, "ok: 2 supervisors, 4 workers\n", "")
    assert cli("check", good, "--format", "json").out == "[]\n"


def test_check_prints_every_problem(cli: Cli, bad: str) -> None:
    """All problems go to stderr, each with file, line, key path and hint; status 78."""
    done = cli("check", bad)
    assert (done.status, done.out) == (78, "")
    first, second = done.err.splitlines()
    assert first == f"{bad}:2: supervisor.app.stratgy: unknown key `stratgy` (did you mean `strategy`?)"
    assert second.startswith(f"{bad}:5: worker.web.command[0]: ")


def test_check_of_a_file_with_a_byte_order_mark(cli: Cli, good: str) -> None:
    """Nobody sees it in an editor, so it is named."""
    text = Path(good).read_bytes()
    Path(good).write_bytes(b"\xef\xbb\xbf" + text)
    done = cli("check", good)
    assert (done.status, done.err) == (
        78, f"{good}:1: begins with a byte order mark, which TOML has not (save it without)\n",
    )  # fmt: skip
    Path(good).write_bytes(text.replace(b"\n", b"\r\n"))
    assert cli("check", good).status == 0


def test_check_as_json(cli: Cli, bad: str) -> None:
    """As JSON the problems are a list on stdout; the status is 78 all the same."""
    done = cli("check", bad, "--format", "json")
    assert (done.status, done.err) == (78, "")
    problems = json.loads(done.out)
    assert [list(problem) for problem in problems] == [["file", "line", "key", "problem", "hint", "code"]] * 2
    assert (problems[0]["line"], problems[0]["hint"]) == (2, "did you mean `strategy`?")


def test_up_refuses_a_bad_file(cli: Cli, bad: str) -> None:
    """Up prints the same problems, starts nothing and ends with 78."""
    assert cli("up", bad) == cli("check", bad)


def test_file_missing(cli: Cli, tmp_path: Path) -> None:
    """A file that is not there is a problem of the configuration, with its name."""
    done = cli("up", str(tmp_path / "none.toml"))
    assert done.status == 78
    assert f"{tmp_path}/none.toml" in done.err


def test_up_launches_the_plan(cli: Cli, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up hands the plan to launch, which decides the exit status."""
    calls: list[Any] = []

    def launch(plan: Any, *, detach: bool, timeout_s: float) -> int:
        calls.append((plan.root.name, detach, timeout_s))
        return 69

    module = types.ModuleType("regrow.daemon.launch")
    module.__dict__["launch"] = launch
    monkeypatch.setitem(sys.modules, "regrow.daemon.launch", module)
    assert cli("up", good, "--detach", "--timeout", "7s").status == 69
    assert calls == [("app", True, 7.0)]


def test_a_time_to_wait_where_nobody_waits(cli: Cli, good: str) -> None:
    """`up --timeout` without --detach would do nothing: it is refused."""
    done = cli("up", "--timeout", "1s", good)
    assert done.status == 2
    assert "--timeout goes with --detach" in done.err


def test_schema(cli: Cli) -> None:
    """Schema prints a JSON Schema."""
    assert json.loads(cli("schema").out)["$schema"].startswith("https://json-schema.org/")


def test_init_writes_a_sound_tree(cli: Cli, tmp_path: Path) -> None:
    """Init writes files named after the directory; check finds nothing wrong with them."""
    done = cli("init", str(tmp_path / "My Shop"))
    assert done.status == 0
    file = tmp_path / "My Shop" / "my-shop.toml"
    assert done.out.splitlines()[-1] == f"now try: regrow up {file}"
    checked = cli("check", str(file))
    assert (checked.status, checked.err) == (0, "")


def test_init_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    """Init refuses when any of its files is there, and then writes none."""
    place = tmp_path / "lab"
    place.mkdir()
    (place / "lab.toml").write_text("mine")
    done = cli("init", str(place))
    assert (done.status, done.out) == (1, "")
    assert done.err == f"regrow: cannot write lab.toml into {place}: already there; choose an empty directory\n"
    assert [path.name for path in place.iterdir()] == ["lab.toml"]
    assert (place / "lab.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("directory", "name"),
    [("/a/shop", "shop"), ("/a/My Shop!", "my-shop"), ("/", "tree"), ("/a/42", "tree-42"), ("/a/été", "t")],
)
def test_name_after_a_directory(directory: str, name: str) -> None:
    """Whatever a directory is called, a daemon's name comes of it."""
    assert run.name_after(directory) == name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli: Cli, shell: str) -> None:
    """Completion prints a script that calls the command back."""
    assert f"_REGROW_COMPLETE={shell}_complete" in cli("completion", shell).out


def completed(daemon: FakeDaemon, words: str, **environ: str) -> list[str]:
    """What bash would offer for the last of `words`."""
    done = subprocess.run(
        [REGROW], capture_output=True, text=True, check=True, timeout=20,
        env={
            **os.environ, "REGROW_RUN_DIR": str(daemon.run_dir), "_REGROW_COMPLETE": "bash_complete",
            "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), **environ,
        },
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("regrow rest", ["plain,restart"]),
        ("regrow status pri", ["plain,pricing", "plain,pricer", "plain,pricer.0", "plain,pricer.1"]),
        ("regrow stop redis r", []),
        ("regrow why red", ["plain,redis"]),
        ("regrow status --form", ["plain,--format"]),
        ("regrow status --format j", ["plain,json"]),
        ("regrow up sh", ["file,sh"]),
        ("regrow check sh", ["file,sh"]),
    ],
)
def test_completion(daemon: FakeDaemon, words: str, offered: list[str]) -> None:
    """Verbs, options and choices are completed; names from the running daemon, each once; files for up and check."""
    assert sorted(completed(daemon, words)) == sorted(offered)


def test_completion_without_a_daemon(daemon: FakeDaemon) -> None:
    """With no daemon to ask there are no names, and no error."""
    assert completed(daemon, "regrow status r", REGROW_RUN_DIR="/nonexistent") == []


def test_completion_of_another_daemon(daemon: FakeDaemon) -> None:
    """--run-dir on the line being typed decides which daemon is asked."""
    words = f"regrow status --run-dir {daemon.run_dir} red"
    assert completed(daemon, words, REGROW_RUN_DIR="/nonexistent") == ["plain,redis"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["statsu"], "no such command 'statsu'"),
        (["status", "--nonsense"], "no such option '--nonsense'"),
        (["why"], "missing argument 'NAME'"),
        (["up"], "missing argument 'FILE...'"),
        (["stop"], "missing argument 'NAME...'"),
        (["status", "--format", "xml"], "invalid value for '--format'"),
    ],
)
def test_usage_error_is_one_line(cli: Cli, args: list[str], words: str) -> None:
    """A mistyped command line is answered with one line that says where help is; status 2."""
    done = cli(*args)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"regrow: {words}")
    assert done.err.count("\n") == 1
    assert "--help`" in done.err


def test_no_verb_shows_help(cli: Cli) -> None:
    """Without a verb the help goes to stderr; status 2."""
    done = cli()
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("Usage: regrow ")


def test_internal_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of regrow itself is one line and status 70; --debug shows where it was."""

    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(look, "ask", broken)
    done = cli("tree")
    assert done.status == 70
    assert done.err == (
        "regrow: internal error: ZeroDivisionError: oh; run it again with --debug and report what it shows\n"
    )
    assert "Traceback" in cli("tree", "--debug").err


def test_debug_shows_where_a_refusal_came_from(cli: Cli) -> None:
    """--debug shows a traceback with every error, and the line after it."""
    done = cli("why", "nobody", "--debug")
    assert done.status == 1
    assert "Traceback" in done.err
    assert done.err.endswith("regrow: cannot find 'nobody': no child has this name\n")


def test_unreadable_place(cli: Cli, tmp_path: Path) -> None:
    """An error of the system is a line with the path and the reason."""
    (tmp_path / "file").touch()
    done = cli("init", str(tmp_path / "file" / "below"))
    assert done.status == 1
    assert done.err == f"regrow: cannot use {tmp_path}/file/below: Not a directory\n"


def test_version(cli: Cli) -> None:
    """--version says which."""
    from regrow.config.version import VERSION

    assert cli("--version").out == f"regrow {VERSION}\n"
