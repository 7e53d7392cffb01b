"""The verb that puts a running daemon on the regrow that is installed now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import DONE, REFUSED
from regrow.daemon.cli.options import daemon_options, format_option, reach, timeout_option
from regrow.daemon.cli.output import dumps
from regrow.daemon.cli.report import say
from regrow.daemon.cli.waiting import Watch, finished

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register


def register(verb: Register) -> None:
    """Add this module's verb."""
    verb("deploy", reexec)


@click.command()
@click.option(
    "--python",
    metavar="PATH",
    type=click.Path(exists=True, dir_okay=False, resolve_path=False),
    help="The interpreter whose regrow takes over; default: the daemon's own.",
)
@timeout_option("60s", "How long to wait until all supervisors have followed.")
@format_option
@daemon_options
def reexec(python: str | None, timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None) -> int:
    """
    Go on in the regrow that is installed now; no child is restarted.

    Root and supervisors replace their program in place and keep their pids. A program that could not take over is
    found out first, and then nothing has changed.
    """
    with reach(run_dir, daemon) as client:
        path = {} if python is None else {"python": python_path(python)}
        answer = finished(Watch(client), client.submit("reexec", **path), "regrow reexec", timeout_s)
    click.echo(dumps(answer) if as_json else summary(answer))
    for refused in answer["refused"]:
        say(f"{refused['name']} has not followed: {refused['message']}; run it again")
    return REFUSED if answer["refused"] else DONE


def python_path(path: str) -> str:
    """The daemon has a working directory of its own; a link stays one, for an environment is known by it."""
    import os

    return os.path.abspath(path)


def summary(answer: dict[str, Any]) -> str:
    """`regrow 0.2.0 (before: 0.1.0): root and 3 supervisors, 0.6 s; none was deaf for longer than 170 ms`."""
    count = len(answer["supervisors"])
    followed = f"root and {count} supervisor{'' if count == 1 else 's'}"
    deaf = f"none was deaf for longer than {max(answer['deaf_ms'].values()):.0f} ms"
    return f"regrow {answer['version']} (before: {answer['before']}): {followed}, {answer['took_s']:.1f} s; {deaf}"
