"""Verbs that need no running daemon: up, check, schema, init."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regrow.config.exits import BAD_CONFIG, DONE
from regrow.daemon.cli.options import debug_option, format_option, timeout_option
from regrow.daemon.cli.output import json_list
from regrow.daemon.cli.report import Failed

if TYPE_CHECKING:
    from regrow.config.errors import ConfigErrors
    from regrow.config.spec import ChildSpec, Plan
    from regrow.daemon.cli.app import Register
    from regrow.daemon.cli.shapes import Problem

files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(dir_okay=False))


def register(verb: Register) -> None:
    """Add this module's verbs."""
    for command in (up, check, schema, init):
        verb("run", command)


@click.command()
@files_argument
@click.option("--detach", is_flag=True, help="Return when all is ready; the daemon goes on in the background.")
@timeout_option("5m", "With --detach: how long to wait until all is ready.")
@debug_option
def up(files: tuple[str, ...], detach: bool, timeout_s: float) -> int:
    """
    Check the files, then be the root daemon of their tree.

    Stays in the foreground unless --detach is given. A later FILE may only add tables to those before it.
    Ends with the tree: on SIGTERM or ^C (twice: at once), after `regrow down`, or when the root supervisor gives up.
    """
    from regrow.config.errors import ConfigErrors
    from regrow.config.load import load

    source = click.get_current_context().get_parameter_source("timeout_s")
    if not detach and source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--timeout goes with --detach: in the foreground nobody waits")
    try:
        plan = load(files)
    except ConfigErrors as errors:
        return _refuse(errors)
    from regrow.daemon.launch import launch

    return launch(plan, detach=detach, timeout_s=timeout_s)


@click.command()
@files_argument
@format_option
@debug_option
def check(files: tuple[str, ...], as_json: bool) -> int:
    """
    Check the files: all that is wrong with them.

    Starts nothing. A sound file is counted out: "ok: 3 supervisors, 12 workers".
    """
    from regrow.config.errors import ConfigErrors
    from regrow.config.load import load

    try:
        plan = load(files)
    except ConfigErrors as errors:
        if not as_json:
            return _refuse(errors)
        click.echo(json_list(problems(errors)))
        return BAD_CONFIG
    if as_json:
        click.echo("[]")
    else:
        supervisors, workers = count(plan)
        sockets = f", {_plural(len(plan.sockets), 'socket')}" if plan.sockets else ""
        click.echo(f"ok: {_plural(supervisors, 'supervisor')}, {_plural(workers, 'worker')}{sockets}")
    return DONE


@click.command()
@debug_option
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    import json

    from regrow.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@debug_option
def init(directory: str) -> None:
    """
    Write a commented starter file with a working agent.

    It is named after DIR (default: here), which is made if need be. Nothing is overwritten.
    """
    from regrow.config.starter import starter_files

    files = starter_files(name_after(directory))
    taken = [name for name in files if os.path.lexists(os.path.join(directory, name))]
    if taken:
        raise Failed(f"cannot write {', '.join(taken)} into {directory}: already there; choose an empty directory")
    for name, text in files.items():
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x") as file:  # "x": nobody's file is overwritten, whatever happened since we looked
                file.write(text)
        except OSError as error:
            raise Failed(f"cannot write {path}: {error.strerror}") from error
        click.echo(f"wrote {path}")
    first = next((name for name in files if name.endswith(".toml")), "")
    click.echo(f"now try: regrow up {Path(directory, first)}")


def name_after(directory: str) -> str:
    """A daemon's name made from a directory's: `My Shop` gives `my-shop`."""
    said = os.path.basename(os.path.abspath(directory)).lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", said).strip("-_")
    return name if name[:1].isalpha() else f"tree-{name}".rstrip("-")


def count(plan: Plan) -> tuple[int, int]:
    """How many supervisors and workers a plan holds, replicas counted each."""
    from regrow.config.spec import SupervisorSpec

    supervisors, workers = 0, 0
    unseen: list[ChildSpec] = [plan.root]
    while unseen:
        child = unseen.pop()
        if isinstance(child, SupervisorSpec):
            supervisors += 1
            unseen.extend(child.children)
        else:
            workers += 1
    return supervisors, workers


def problems(errors: ConfigErrors) -> list[Problem]:
    """The findings as `check --format json` prints them."""
    return [
        {"file": one.file, "line": one.line, "key": one.key, "problem": one.problem, "hint": one.hint, "code": one.code}
        for one in errors.problems
    ]


def _refuse(errors: ConfigErrors) -> int:
    for problem in errors.problems:
        click.echo(str(problem), err=True)
    return BAD_CONFIG


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
