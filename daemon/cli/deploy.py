"""Verbs that change the tree that runs to that of a file: plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import DONE
from regrow.daemon.cli.act import bad_files
from regrow.daemon.cli.options import daemon_options, format_option, reach, timeout_option
from regrow.daemon.cli.output import dumps, one_line
from regrow.ipc.errors import Refused

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register

files_argument = click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(dir_okay=False))

SHOWN = 60
"""Characters of a value on a line; JSON has more of it."""


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("deploy", plan)


@click.command()
@files_argument
@timeout_option("60s", "How long to wait for the daemon, which reads the files.")
@format_option
@daemon_options
def plan(files: tuple[str, ...], timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None) -> int:
    """
    What `apply` would do, and why. Changes nothing.

    Compares FILE, by default the files of the daemon, with what the daemon runs. A line for each child that is not
    as it was; wrong files are told as `check` tells them.
    """
    with reach(run_dir, daemon) as client:
        try:
            answer = client.request("plan", within_s=timeout_s, files=absolute(files))
        except Refused as refusal:
            if "problems" not in refusal.details:
                raise
            return bad_files(refusal, as_json)
    click.echo(dumps(answer) if as_json else "\n".join(_lines(answer)))
    return DONE


def absolute(files: Sequence[str]) -> list[str]:
    """The daemon has a working directory of its own."""
    return [os.path.abspath(file) for file in files]


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    changes, tables = answer["changes"], answer["tables"]
    if not changes and not tables:
        yield "nothing would change"
    wide = max((len(change["name"]) for change in changes), default=0)
    for change in changes:
        yield f"{change['action']:<8} {change['name']:<{wide}}  {'; '.join(_reasons(change))}".rstrip()
    for table in tables:
        yield f"{'change':<8} [{table}]"
    yield from answer.get("notes", ())


def _reasons(change: dict[str, Any]) -> Iterator[str]:
    """Why, in a few words each."""
    action, because = change["action"], change["because"]
    if action == "start":
        yield f"with {because}" if because else f"new under {_above(change)}"
    elif action == "stop":
        yield f"with {because}" if because else "no longer in the file"
    elif action == "move":
        yield f"from {change['left'] or 'the top'} to {_above(change)}"
    elif because:
        yield f"with {because}"
    for key in change["why"]:
        yield f"{key['key']}: {_short(key['before'])} -> {_short(key['after'])}"


def _above(change: dict[str, Any]) -> str:
    return change["supervisor"] or "the top"


def _short(value: str) -> str:
    text = one_line(value) or "unset"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
