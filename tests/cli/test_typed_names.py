"""Names that are typed and can be none: every verb says the same, and ends with the same status."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from fake_daemon import FakeDaemon

from regrow.config.exits import USAGE
from regrow.daemon.cli import app
from regrow.daemon.cli.app import application
from regrow.daemon.cli.options import Plain, Text
from regrow.daemon.cli.report import say

OF_ANY_BYTES = {
    "call words", "send words", "post words", "workflow start words",  # KEY=VALUE, by arguments.py
    "publish message", "workflow send value", "state set value",  # the same
    "systemd show name", "systemd uninstall names", "run argv",
}  # fmt: skip
"""Words that are no names, and what becomes a program's: these are looked at by whoever takes them."""


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name), command


ARGUMENTS = [
    (words, command, parameter)
    for words, command in commands(application())
    for parameter in command.params
    if isinstance(parameter, click.Argument)
]
NAMES = [(words, command, parameter) for words, command, parameter in ARGUMENTS if isinstance(parameter.type, Text)]


def called(words: tuple[str, ...], parameter: click.Parameter) -> str:
    """A parameter of a verb, for people."""
    return f"{' '.join(words)} {parameter.name}"


def test_each_argument_is_of_a_kind() -> None:
    """Whoever adds one says what it is: a name, a text, a path, a number, or one of the above."""
    bare = {called(words, parameter) for words, _, parameter in ARGUMENTS if parameter.type is click.STRING}
    assert bare <= OF_ANY_BYTES


NO_NAMES = {"a\udcff": r"'a\xff' is not UTF-8", "a\x1bb": r"'a\x1bb' has a control character in it, and no name has"}
CASES = [
    pytest.param(*one, typed, said, id=f"{called(one[0], one[2])} {typed!a}")
    for one in NAMES
    for typed, said in NO_NAMES.items()
    if isinstance(one[2].type, Plain) or "UTF-8" in said  # ids and keys may have control characters
]


@pytest.mark.parametrize(("words", "command", "parameter", "typed", "said"), CASES)
def test_what_is_no_name(
    words: tuple[str, ...],
    command: click.Command,
    parameter: click.Argument,
    typed: str,
    said: str,
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Said before anybody is asked, in one line with nothing in it that a terminal would obey."""
    args = [typed if each is parameter else "1" for each in command.params if isinstance(each, click.Argument)]
    assert app.run([*words, *args]) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("regrow: invalid value for ")
    assert f": {said}; see `regrow {' '.join(words)} --help`\n" in err
    assert err.count("\n") == 1
    assert daemon.requests.empty()


@pytest.mark.parametrize("typed", ["a\udcff", "a\x1bb"])
def test_the_short_way_of_status(typed: str) -> None:
    """What does without click leaves such words to it."""
    from regrow.daemon.cli.fast import status

    assert status([typed]) is None
    assert status(["--name", typed]) is None
    assert status([f"--run-dir={typed}"]) is None


def test_nothing_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of what is told are shown, not sent."""
    say("no \x1b]0;x\x07 and \x9b1m\r\n\ttoo")
    assert capsys.readouterr().err == "regrow: no \\x1b]0;x\\x07 and \\x9b1m\\x0d \\x09too\n"
