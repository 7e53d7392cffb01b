"""
The click application: sections of verbs, what all verbs share, and the outermost frame.

A verb is registered with its section; `regrow --help` shows the sections in the order a user meets them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from regrow.config.exits import DONE, USAGE
from regrow.config.version import VERSION
from regrow.daemon.cli.report import fail, say

SECTIONS = {
    "run": "Run: start a daemon, write and check its file",
    "look": "Look: what is, what was, and why",
    "act": "Act: change what runs",
    "talk": "Talk: to agents",
    "deploy": "Deploy: change the tree that is running",
}


class Verbs(click.Group):
    """A group whose help lists the verbs by section, in the order they were added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: dict[str, list[str]] = {section: [] for section in SECTIONS}

    def verb(self, section: str, command: click.Command) -> None:
        """Add `command` to `section`."""
        self.add_command(command)
        self.sections[section].append(command.name or "")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in self.sections.items():
            rows = [(name, self.commands[name].get_short_help_str(80)) for name in names]
            if rows:
                with formatter.section(SECTIONS[section]):
                    formatter.write_dl(rows)


EPILOG = """Exit status: 0 done, 1 refused or failed, 2 usage, 69 daemon not reachable, 70 internal error,
78 bad configuration."""


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Verbs, invoke_without_command=True, epilog=EPILOG, context_settings=CONTEXT)
@click.version_option(VERSION, message="regrow %(version)s")
@click.pass_context
def regrow(ctx: click.Context) -> None:
    """Run and watch trees of processes that grow back."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def application() -> Verbs:
    """The group with all its verbs; their modules are imported here and not before."""
    from regrow.daemon.cli import (
        act,
        commands,
        dead,
        deploy,
        hubkeys,
        look,
        post,
        reexec,
        run,
        shell,
        state,
        systemd,
        talk,
        topics,
        workflows,
    )

    assert isinstance(regrow, Verbs)
    if not regrow.commands:
        acting = (run, look, state, act, deploy, reexec, workflows)
        for module in (*acting, talk, commands, post, dead, topics, hubkeys, shell, systemd):
            module.register(regrow.verb)
    return regrow


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit status; every failure is one line on stderr."""
    # Asked of the words themselves, because a command line that click refuses has no parsed options.
    debug = "--debug" in args
    try:
        status = application().main(args=list(args), prog_name="regrow", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        say(usage_line(error))
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return fail(KeyboardInterrupt(), debug=debug)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost frame: every failure becomes a line and a status
        return fail(error, debug=debug)
    return status if isinstance(status, int) else DONE


def usage_line(error: click.ClickException) -> str:
    """A usage error as one line that says where help is."""
    message = re.sub(r"\s*\n\s*", " ", error.format_message()).rstrip(".")
    message = message.replace("is not a valid integer range", "is not a whole number")
    message = re.sub(r"is not in the range x>=(\d+)", r"is less than \1", message)
    message = re.sub(r"is not in the range (-?\d+)<=x<=(-?\d+)", r"is not from \1 to \2", message)
    message = message[:1].lower() + message[1:]
    if error.exit_code != USAGE or not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{message}; see `{error.ctx.command_path} --help`"


Register = Callable[[str, click.Command], None]
