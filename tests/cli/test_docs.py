"""docs/cli.md says what the program does: verbs, options, statuses and JSON keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from regrow.config import exits
from regrow.daemon.cli import report, shapes
from regrow.daemon.cli.app import SECTIONS, application

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
EVERYWHERE = {"--help", "-h", "--debug", "--run-dir", "--name"}
OF_ACTING = ("start", "stop", "restart")


def chapters() -> dict[str, str]:
    """The page by its headings of both levels."""
    parts = re.split(r"^###? (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def chapter_of(verb: str) -> tuple[str, str]:
    """The usage line and the text of one verb."""
    found = [(head, text) for head, text in chapters().items() if head.startswith(f"`regrow {verb}")]
    assert len(found) == 1, f"{verb} has {len(found)} chapters"
    return found[0]


def usage(verb: str, command: click.Command) -> str:
    """The usage line as click makes it, without the options, which the chapter lists."""
    pieces = command.collect_usage_pieces(click.Context(command, info_name=verb))
    words = [piece.replace("{", "").replace("}", "") for piece in pieces if piece != "[OPTIONS]"]
    return " ".join(["regrow", verb, *words])


VERBS = list(application().commands)


@pytest.mark.parametrize("verb", VERBS)
def test_usage_is_documented(verb: str) -> None:
    """Each verb has one chapter, headed by its usage as --help shows it."""
    assert chapter_of(verb)[0] == f"`{usage(verb, application().commands[verb])}`"


@pytest.mark.parametrize("verb", VERBS)
def test_options_are_documented(verb: str) -> None:
    """A verb's chapter lists exactly its options; start, stop and restart share theirs."""
    command = application().commands[verb]
    real = {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    text = chapters()["Act"] if verb in OF_ACTING else chapter_of(verb)[1]
    listed = [line.partition(":")[0] for line in text.splitlines() if line.startswith("- `")]
    assert set(re.findall(r"--?[a-z][a-z-]*", " ".join(listed))) == real - EVERYWHERE


def test_no_verb_is_made_up() -> None:
    """Every chapter about a verb is about one that exists, in the section that --help shows it in."""
    section, found = "", []
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:].lower()
        elif line.startswith("### `regrow "):
            found.append((section, line.split()[2].strip("`")))
    verbs = application()
    assert set(found) == {(name, verb) for name in SECTIONS for verb in verbs.sections[name]}


def test_every_verb_has_a_section_and_help() -> None:
    """The help groups all verbs, and none is without a sentence."""
    verbs = application()
    assert sorted(verbs.commands) == sorted(verb for section in verbs.sections.values() for verb in section)
    for name, command in verbs.commands.items():
        assert command.get_short_help_str(200), name
        assert not command.get_short_help_str(80).endswith("..."), name


def test_exit_statuses_are_documented() -> None:
    """The table has every status that the program uses."""
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", chapters()["Exit status"], re.MULTILINE)}
    used = {exits.DONE, exits.REFUSED, exits.USAGE, exits.UNREACHABLE, exits.INTERNAL, exits.BAD_CONFIG}
    assert listed == {*used, report.INTERRUPTED, report.CLOSED_PIPE}


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("`regrow status [NAME]...`", shapes.Entry),
        ("`regrow status [NAME]...`", shapes.LastExit),
        ("`regrow events [NAME]...`", shapes.Event),
        ("`regrow why NAME`", shapes.Why),
        ("`regrow logs [NAME]...`", shapes.LogLine),
        ("`regrow check FILE...`", shapes.Problem),
        ("Act", shapes.Outcome),
    ],
)
def test_json_keys_are_documented(heading: str, shape: Any) -> None:
    """Every key of what --format json prints is named."""
    paragraph = chapters()[heading].partition("JSON")[2]
    assert set(shape.__annotations__) - set(re.findall(r"`(\w+)`", paragraph)) == set()
