"""call and send: what they print and how they fail, against real agents."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from cli_calls import Cli, Done
from click.shell_completion import ShellComplete
from configs import Config
from terminal import OnTerminal
from tree import Tree, short_directory

from regrow.daemon.cli import app
from regrow.daemon.cli.app import application

PROGRAMS = Path(__file__).parents[1] / "programs"
REGROW = str(Path(sys.executable).with_name("regrow"))


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    """A counter, odd agents, one of them in two replicas, and a program."""
    with short_directory() as directory:
        (directory / "talkers.py").write_text((PROGRAMS / "talkers.py").read_text())
        config = Config(directory)
        config.supervisor("sup", "counter odd other pair web", intensity=1000, period="1s")
        config.workers |= {
            "counter": {"agent": "talkers:Counter", "args": {"start": 40}},
            "odd": {"agent": "talkers:Odd"},
            "other": {"agent": "talkers:Odd"},
            "pair": {"agent": "talkers:Odd", "replicas": 2},
            "web": {"command": ["tail", "-f", "/dev/null"]},
        }
        made = Tree(directory, config)
        try:
            yield made.grow()
        finally:
            made.finish()


@pytest.fixture
def cli(tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Run `regrow ARGS` through click, meant for the tree; afterwards whoever has died is awaited."""
    monkeypatch.setenv("REGROW_RUN_DIR", str(tree.run_dir))

    def run(*args: str) -> Done:
        status = app.run(args)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    yield run
    for entry in tree.call("status"):
        if entry["kind"] == "agent" and not entry["ready"]:
            tree.wait("ready", entry["name"], count=entry["incarnation"] + (entry["pid"] is None))


def refusal(done: Done) -> str:
    """The one line of a failure with status 1."""
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("regrow: ")
    assert done.err.count("\n") == 1
    return done.err.removeprefix("regrow: ").rstrip("\n")


def test_call_prints_the_reply(cli: Cli) -> None:
    """By name, by position and as JSON: the handler gets its argument, its reply is printed."""
    values = [
        int(cli("call", "counter", "add", *words).out)
        for words in (["n=2"], ["2"], ["n:=2"], ["--json", '{"n": 2}'], ["--json", "[2]"], [])
    ]
    assert [after - before for before, after in pairwise(values)] == [2, 2, 2, 2, 1]


def test_all_arguments_arrive(cli: Cli) -> None:
    """What is typed is what the handler is given, types included."""
    words = ["a", "2", "x=1", "text=one two", 'quoted="1"', "list=[1]", "timeout=3", "returns=r", "to=t"]
    done = cli("call", "odd", "given", *words, "--format", "json")
    named = {"x": 1, "text": "one two", "quoted": "1", "list": [1], "timeout": 3, "returns": "r", "to": "t"}
    assert json.loads(done.out) == {"args": ["a", 2], "kwargs": named}
    assert cli("send", "odd", "given", "timeout=3").status == 0


@pytest.mark.parametrize("words", [
    ["--tagged", 'data={"$bytes": "aGk="}', "when=2026-01-02T03:04:05Z", 'price="1.50"'],
    ["--tagged", '{"$bytes": "aGk="}', '{"$time": "2026-01-02T03:04:05+00:00"}', '"1.50"'],
    ["--tagged", "--json", '{"data": {"$bytes": "aGk="}, "when": "2026-01-02T03:04:05Z", "price": "1.50"}'],
])  # fmt: skip
def test_what_json_lacks(cli: Cli, words: list[str]) -> None:
    """Bytes by a tag, times and decimals as text, or by a tag."""
    assert cli("call", "odd", "typed", *words).out == "b'hi' 2026-01-02 03:04:05+00:00 1.50\n"


def test_tags_are_asked_for(cli: Cli) -> None:
    """Without --tagged such an object is a map; with it, a tag that is none is usage."""
    word = '{"$bytes": "aGk="}'
    assert json.loads(cli("call", "odd", "echo", word).out) == {"$bytes": "aGk="}
    assert cli("call", "odd", "echo", "--tagged", word).out == "aGk=\n"
    for wrong in ('{"$byte": ""}', '{"$bytes": 3}', '{"$bytes": "", "more": 1}'):
        done = cli("call", "odd", "echo", "--tagged", wrong)
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert done.err.startswith("regrow: --tagged: ")


def test_arguments_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """--json - reads them from stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"value": [1, 2]}\n')))
    assert cli("call", "odd", "echo", "--json", "-").out == "[1, 2]\n"


def test_nothing_is_printed_for_nothing(cli: Cli) -> None:
    """A handler without a reply prints nothing, and null as JSON."""
    assert cli("call", "odd", "echo") == (0, "", "")
    assert cli("call", "odd", "echo", "--format", "json") == (0, "null\n", "")


def test_rich_reply(cli: Cli) -> None:
    """Bytes are base64, times are ISO, a number that JSON lacks is null."""
    rich = {"bytes": "YWJj", "at": "2026-01-02T03:04:05+00:00", "1": [1.5, None]}
    assert json.loads(cli("call", "odd", "rich", "--format", "json").out) == rich


def test_group(cli: Cli) -> None:
    """A group's name reaches one of its replicas; a key always the same one."""
    assert {cli("call", "pair", "who").out for _ in range(40)} == {"pair.0\n", "pair.1\n"}
    assert cli("call", "pair", "who", "--key", "1").out == "pair.1\n"
    assert len({cli("call", "pair", "who", "--key", "Ada").out for _ in range(3)}) == 1


def test_send_says_who_has_accepted(cli: Cli) -> None:
    """The acceptance is awaited, and what was sent is handled before what is called later."""
    before = int(cli("call", "counter", "value").out)
    assert cli("send", "counter", "add", "n=3") == (0, "counter: accepted\n", "")
    assert int(cli("call", "counter", "value").out) == before + 3
    done = cli("send", "pair", "echo", "--key", "1", "--format", "json")
    assert json.loads(done.out) == {"name": "pair.1", "result": "accepted"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("conter add", "cannot call conter: no process has that name; did you mean counter?"),
        (
            "zzz add",
            "cannot call zzz: no process has that name; the agents are counter, odd, other, pair, pair.0, pair.1",
        ),
        ("zzz add --key 1", "cannot call zzz: no process has that name; the agents are "),
        ("counter add --key 1", "cannot call counter: it is no group, and only groups have keys; leave --key out"),
        ("web add", "cannot call web: it is a command, and only agents take messages"),
        ("sup add", "cannot call sup: it is a supervisor, and only agents take messages"),
        ("counter ad", "counter does not take this: no handler ad; Counter has add, value"),
        ("counter add n=x", "counter does not take this: $.n: expected int, got str; handler add(n: int = 1)"),
        ("counter add m=1", "counter does not take this: $.m: no such argument; handler add(n: int = 1)"),
        ("odd label sku=42", "handler label(sku: str); for text that reads as JSON write 'sku=\"…\"'"),
        ("odd lacks what=apple", "odd: LookupError: no apple here"),
        ("odd wait s=0.2 --timeout 20ms", "no answer of odd to wait within 0.02 s; it may still do the work: see "),
        ("odd die", "odd ended before it answered (SIGKILL), and whether the work was done is not known; see `regrow "),
        ("other fail", "other ended before it answered (exception: RuntimeError: out of apples), and "),
    ],
)
def test_failures(cli: Cli, words: str, said: str) -> None:
    """Each is one line that says what, where and what to do, with status 1."""
    assert said in refusal(cli("call", *words.split()))


def test_text_that_looks_like_a_number(cli: Cli) -> None:
    """What the error advises works."""
    assert cli("call", "odd", "label", 'sku="42"').out == "<42>\n"


def test_circle_is_named(cli: Cli) -> None:
    """Agents that wait for each other: the reason of the death names them."""
    said = refusal(cli("call", "pair.0", "circle", "by=pair.1"))
    assert "pair.0 -> pair.1 -> pair.0 wait for each other" in said


def test_agent_that_is_stopped(cli: Cli, tree: Tree) -> None:
    """A name that the tree has, and no process: its state is told, not that there is none."""
    tree.call("stop", names=["counter", "pair"])
    try:
        remedy = "`regrow why counter` says why, `regrow start counter` starts it"
        assert refusal(cli("send", "counter", "add")) == f"cannot send to counter: it is stopped; {remedy}"
        states = "pair.0 is stopped, pair.1 is stopped"
        assert f"none of its replicas is there: {states}; " in refusal(cli("call", "pair", "who"))
        assert "cannot call pair: none of its replicas" in refusal(cli("call", "pair", "who", "--key", "1"))
    finally:
        tree.call("start", names=["counter", "pair"])


@pytest.mark.parametrize(
    "words",
    [
        (), ("counter", "add", "--json", "[1"), ("counter", "add", "n=1", "--json", "[1]"),
        ("counter", "add", "n=1", "n=2"), ("counter", "add", "--timeout", "never"),
    ],
)  # fmt: skip
def test_usage(cli: Cli, words: tuple[str, ...]) -> None:
    """A command line that cannot be meant: status 2, one line, nothing sent."""
    done = cli("call", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)


def test_no_daemon(cli: Cli, tmp_path: Path) -> None:
    """Where nobody listens the status is 69."""
    done = cli("call", "counter", "add", "--run-dir", str(tmp_path))
    assert (done.status, done.out) == (69, "")
    assert "start it with `regrow up FILE`" in done.err


def test_names_are_completed(cli: Cli) -> None:
    """Agents and their groups; a program takes no messages."""
    completion = ShellComplete(application(), {}, "regrow", "_REGROW_COMPLETE")
    found = {item.value for item in completion.get_completions(["call"], "")}
    assert found == {"counter", "odd", "other", "pair", "pair.0", "pair.1"}


def test_handlers_are_completed(cli: Cli) -> None:
    """What can be called there, asked of the agent itself; nothing where nobody is."""
    completion = ShellComplete(application(), {}, "regrow", "_REGROW_COMPLETE")
    assert [item.value for item in completion.get_completions(["call", "counter"], "")] == ["add", "value"]
    assert [item.value for item in completion.get_completions(["send", "pair"], "wh")] == ["who"]
    assert completion.get_completions(["call", "nobody"], "") == []


def test_handlers_are_listed(cli: Cli) -> None:
    """Without a handler the error says what there is to call."""
    done = cli("call", "counter")
    said = "regrow: say which HANDLER: counter has add, value; see `regrow call --help`\n"
    assert (done.status, done.out, done.err) == (2, "", said)
    assert "no process has that name; did you mean counter?" in refusal(cli("send", "conter"))


def test_terminal_is_not_commanded(tree: Tree) -> None:
    """What an agent says cannot move a terminal's cursor."""
    command = [REGROW, "call", "--run-dir", str(tree.run_dir), "odd", "echo", r'value="a\u001b[2Jb"']
    terminal = OnTerminal(command, {}, on=(1,))
    terminal.until("a [2Jb")
    assert terminal.end()[0] == 0


def test_others_start_without_the_means_of_messages() -> None:
    """Whatever does not talk to agents loads neither ZeroMQ nor LMDB."""
    code = "import sys, regrow.daemon.cli.app as app; app.application(); print({'zmq', 'lmdb'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True).stdout
    assert said == "set()\n"
