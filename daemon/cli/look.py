"""Verbs that look and change nothing: status, tree, top, events, why, logs, replay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import DONE
from regrow.daemon.cli.eventlines import event_line
from regrow.daemon.cli.lines import fact, tree_lines
from regrow.daemon.cli.options import (
    Duration,
    Name,
    daemon_options,
    debug_option,
    format_option,
    names_argument,
    reach,
)
from regrow.daemon.cli.output import dumps, one_line, screen
from regrow.daemon.cli.report import say_if_none
from regrow.daemon.cli.status import ask, show_status

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register
    from regrow.daemon.cli.shapes import Entry, Why

all_option = click.option("--all", "everything", is_flag=True, help="Also regrow's own processes.")


def register(verb: Register) -> None:
    """Add this module's verbs."""
    for command in (status, tree, top, events, why, logs, replay):
        verb("look", command)


@click.command()
@names_argument()
@all_option
@format_option
@daemon_options
def status(names: tuple[str, ...], everything: bool, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """
    A line for each child, or everything about one.

    A supervisor's name means its subtree, a replicated worker's all its replicas.
    """
    show_status(names, everything=everything, as_json=as_json, run_dir=run_dir, daemon=daemon)


@click.command()
@names_argument()
@all_option
@format_option
@daemon_options
def tree(names: tuple[str, ...], everything: bool, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """The tree as configured and as it runs."""
    with reach(run_dir, daemon) as client:
        entries = ask(client, names, everything=everything)
    if as_json:
        click.echo(dumps(nested(entries)))
        return
    for line in tree_lines(entries, screen()):
        print(line)


@click.command()
@click.option("--interval", "interval_s", type=Duration(), default="1s", show_default=True, metavar="TIME")
@all_option
@daemon_options
def top(interval_s: float, everything: bool, run_dir: str | None, daemon: str | None) -> None:
    """Live view with CPU and memory; q or ^C ends it."""
    from regrow.daemon.cli.top import run_top

    with reach(run_dir, daemon) as client:
        run_top(client, interval_s, everything=everything)


@click.command()
@names_argument()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until ^C.")
@click.option("-n", "--lines", "limit", type=click.IntRange(min=0), metavar="N", help="Only the last N of the past.")
@click.option("--since", type=click.IntRange(min=0), metavar="SEQ", help="Only events after the one of this number.")
@format_option
@daemon_options
def events(
    names: tuple[str, ...],
    follow: bool,
    limit: int | None,
    since: int | None,
    as_json: bool,
    run_dir: str | None,
    daemon: str | None,
) -> None:
    """What happened, and which event led to which."""
    fields: dict[str, Any] = {} if limit is None else {"limit": limit}
    if since is not None:
        fields["since"] = since
    with reach(run_dir, daemon) as client:
        if not follow:
            found = client.request("events", names=list(names), **fields)
            if not found and names:
                ask(client, names)  # refuses who is not there
            if not as_json:
                say_if_none(found, "there are no such events")
            _print_events(found, as_json)
            return
        from regrow.daemon.cli.follow import follow as following

        try:
            _print_events(following(client, names, **fields), as_json)
        except KeyboardInterrupt:
            pass  # the way to end it


@click.command()
@click.argument("name", type=Name())
@format_option
@daemon_options
def why(name: str, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """Why a child is as it is: the causes, walked back."""
    with reach(run_dir, daemon) as client:
        answer: Why = client.request("why", name=name)
    if as_json:
        click.echo(dumps(answer))
        return
    for line in answer["text"]:
        print(line)


@click.command()
@names_argument()
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed, until ^C.")
@click.option(
    "-n", "--lines", "limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="N",
    help="The last N lines of each.",
)  # fmt: skip
@format_option
@daemon_options
def logs(
    names: tuple[str, ...], follow: bool, limit: int, as_json: bool, run_dir: str | None, daemon: str | None
) -> None:
    """What the children printed."""
    from regrow.daemon.cli.logs import show_logs

    with reach(run_dir, daemon) as client:
        show_logs(client, names, follow=follow, limit=limit, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@debug_option
def replay(file: str) -> int:
    """Decide a recorded event log again, step by step."""
    from regrow.daemon.replay import replay as decisions

    return _print_result(iter(decisions(file)))


def nested(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Entries in tree order as trees: each gets the list `children`, empty for a worker."""
    made: dict[str, dict[str, Any]] = {}
    roots: list[dict[str, Any]] = []
    for entry in entries:
        node: dict[str, Any] = {**fact(entry), "children": []}
        made[entry["name"]] = node
        parent = made.get(entry.get("supervisor") or "")
        (roots if parent is None else parent["children"]).append(node)
    return roots


def _print_events(stream: Iterable[Any], as_json: bool) -> None:
    to = screen()
    for event in stream:
        print(dumps(event) if as_json else event_line(event, to), flush=True)


def _print_result(lines: Iterator[str]) -> int:
    """Print the lines; the exit status is what the generator returns, if anything."""
    while True:
        try:
            print(one_line(next(lines)))
        except StopIteration as end:
            return end.value if isinstance(end.value, int) else DONE
