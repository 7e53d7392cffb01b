"""`regrow run`: what it prints, its exit status, and what its own end does."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cli
import procs
import pytest
from commanding import WORKER, Desk, desk_of
from configs import Config
from harness import REGROW
from tree import Tree, short_directory
from wire import TIMEOUT_S


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """One tree for the tests of this file."""
    with short_directory() as directory:
        config = Config(directory)
        with desk_of(Tree(directory, config), config) as made:
            yield made.open()


def line(desk: Desk, *words: str) -> list[str]:
    """A command line."""
    return [REGROW, "run", "--run-dir", str(desk.tree.run_dir), *words]


def run(desk: Desk, *words: str, fed: bytes = b"") -> tuple[int, str, str]:
    """(exit status, stdout, stderr)."""
    done = subprocess.run(line(desk, *words), input=fed, capture_output=True, check=False, timeout=TIMEOUT_S)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_output_and_status(desk: Desk) -> None:
    """Its output is the command's, and so is its status."""
    assert run(desk, "--", "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--", "sh", "-c", "kill -9 $$"), 137, "regrow: sh: SIGKILL\n"),
        (
            ("--timeout", "300ms", "--", "tail", "-f", "/dev/null"),
            124,
            "regrow: tail: timeout: it took longer than 0.3 s\n",
        ),
        (("--", "/nonsuch"), 127, "regrow: /nonsuch: start_failed: cannot exec /nonsuch: No such file or directory\n"),
        (("--", "/etc/passwd"), 126, "regrow: /etc/passwd: start_failed: cannot exec /etc/passwd: Permission denied\n"),
    ],
)
def test_other_ends(desk: Desk, words: tuple[str, ...], status: int, said: str) -> None:
    """The other ends have the statuses that shells and timeout(1) use."""
    assert run(desk, *words) == (status, "", said)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--", "nonsuch"), 127, "cannot run: there is no program nonsuch in /usr/local/sbin:"),
        (("--format", "json", "--", "nonsuch"), 127, "there is no program nonsuch"),
        (("--user", "nonsuch", "--", "true"), 1, "cannot run: there is no user nonsuch"),
        (("--user", "\udc80", "--", "true"), 2, "is not UTF-8"),
        (("--cwd", "/nonsuch", "--", "true"), 126, "cannot enter /nonsuch"),
        (("--cwd", "rel", "--", "true"), 2, "--cwd takes an absolute path, not rel: write /"),
        (("--", "./rel"), 2, "./rel is a relative path, and commands run elsewhere: write a name in PATH, or /"),
        (("--", ""), 2, "the program is an empty word"),
        (("--limit", "moon=3", "--", "true"), 2, "--limit: there is no limit moon; there are memory,"),
        (("--limit", "memry=3", "--", "true"), 2, "--limit: there is no limit memry; did you mean memory?"),
        (("--limit", "memory=x", "--", "true"), 2, '--limit: limit memory must be a size such as "512MiB", not "x"'),
        (("--limit", "memory=5", "--", "true"), 2, 'with its unit, such as "512MiB", not the bare number "5"'),
        (("--limit", "processes=x", "--", "true"), 2, "--limit: limit processes must be a whole number, not 'x'"),
        (("--limit", "processes=-5", "--", "true"), 2, "limit processes must be a whole number, not '-5'"),
        (("--", "ls -l"), 127, "there is no program ls -l in /usr/local/sbin:"),
        (("--", "ls -l"), 127, "/bin; there is no shell: its words are arguments of their own"),
        (("--nice", "30", "--", "true"), 2, "'--nice': 30 is not from -20 to 19; see"),
        (("--timeout", "1x", "--", "true"), 2, 'such as "5s", not "1x"; units: ms, s, m, h, d; see'),
        (("--limit", "processes=0", "--", "true"), 2, "--limit: limit processes must be 1 or more, not 0; see"),
        (("--limit", "cpu=1500ms", "--", "true"), 2, 'cpu must be whole seconds, not "1500ms"; write "2s"; see'),
        (("--isolate", "network,tmp", "--", "true"), 2, "at a time: write --isolate network --isolate tmp; see"),
        (("--isolate", "moon", "--", "true"), 2, "'moon' is not one of 'network', 'tmp',"),
        (("--limit", "memory", "--", "true"), 2, "--limit takes NAME=VALUE, not memory"),
        (("--env", "A", "--", "true"), 2, "NAME=VALUE"),
        (("--timeout", "0", "--", "true"), 2, "'--timeout': '0' is not a time above zero"),
        (("--share-processes", "--isolate", "all", "--", "true"), 2, "exclude each other: leave one out"),
        (("--timeout", "2h", "--", "true"), 1, "max_timeout"),
        ((), 2, "ARGV"),
    ],
)
def test_mistakes(desk: Desk, words: tuple[str, ...], status: int, said: str) -> None:
    """One line that says what is wrong."""
    code, out, err = run(desk, *words)
    assert (code, out, err.count("\n"), said in err) == (status, "", 1, True), err


def test_a_turn_that_does_not_come(directory: Path, config: Config) -> None:
    """Who waits for his turn in vain has timed out like any other."""
    with desk_of(Tree(directory, config), config) as desk:
        desk.open(max_parallel=1)
        with desk.start("tail", "-f", "/dev/null") as first:
            first.wait_started()
            said = "regrow: cannot run: its turn has not come within 0.1 s; see `regrow events regrow.commands`\n"
            assert run(desk, "--timeout", "100ms", "--", "true") == (124, "", said)
        desk.settle()


def test_where_nobody_runs_commands(tree: Tree, config: Config) -> None:
    """It is said what the file lacks."""
    config.supervisor("top", "a:P")
    tree.grow()
    done = cli.regrow("run", "--run-dir", tree.run_dir, "--", "true")
    remedy = "write [commands] into its file, and then `regrow apply`"
    assert (done.returncode, done.stderr) == (1, f"regrow: cannot run: this tree runs no commands; {remedy}\n")


def test_input(desk: Desk) -> None:
    """Standard input is fed only where it is asked for."""
    assert run(desk, "-i", "--", "wc", "-c", fed=bytes(300_000)) == (0, "300000\n", "")
    assert run(desk, "--", "wc", "-c", fed=bytes(300_000)) == (0, "0\n", "")


def test_options(desk: Desk) -> None:
    """Each option does what it says."""
    script = "echo $A; pwd; ulimit -n; nice; test -w /etc || echo read-only; id -un"
    words = ["--env", "A=b c", "--cwd", "/usr", "--limit", "open_files=77", "--nice", "5", "--isolate", "root"]
    assert run(desk, *words, "--user", "nobody", "--", "sh", "-c", script) == (
        0, "b c\n/usr\n77\n5\nread-only\nnobody\n", "",
    )  # fmt: skip
    assert run(desk, "--max-output", "3B", "--", "echo", "hello") == (0, "hel", "")
    assert int(run(desk, "--share-processes", "--", "sh", "-c", "echo $$")[1]) > 2


def test_json(desk: Desk) -> None:
    """One object, with what it printed in it."""
    status, out, err = run(desk, "--format", "json", "--", "sh", "-c", "printf 'a\\377'; exit 2")
    shown = json.loads(out)
    assert (status, err, shown["code"], shown["stdout"], shown["reason"]) == (2, "", 2, "a\\xff", "exit")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_its_own_end(desk: Desk, number: signal.Signals) -> None:
    """Whatever ends it ends the command."""
    sign = f"9595959{int(number)}"
    before = sum(sign in text for text in desk.events("command_ended"))
    words = line(desk, "--", "sh", "-c", "echo up; tail -f -n $0 /dev/null", sign)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as shown:
        assert shown.stdout is not None
        assert shown.stdout.readline() == b"up\n"
        shown.send_signal(number)
    desk.tree.stream.wait_events(
        lambda event: event["event"] == "command_ended" and sign in event["text"], count=before + 1, what="its end"
    )
    assert procs.carrying(sign) == {}
    assert desk.tree.pid(WORKER)
