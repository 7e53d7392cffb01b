"""Options that several verbs share, and the types of their values."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from regrow.config.readable import quoted
from regrow.daemon.cli.nearby import Reached
from regrow.ipc.daemons import connect
from regrow.ipc.errors import ControlError

Function = TypeVar("Function", bound=Callable[..., Any])

if TYPE_CHECKING:
    DurationParam = click.ParamType[float]
    NameParam = click.ParamType[str]
else:  # generic from click 8.2 on only
    DurationParam = NameParam = click.ParamType

COMPLETION_S = 1.0
"""Somebody waits at a prompt: no names are better than a pause."""


class Duration(DurationParam):
    """A time such as `10s`, `500ms` or `2m`; a plain number is seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Fails on anything that is not a positive time."""
        if isinstance(value, float):
            return value
        from regrow.config.units import UnitError, duration_s

        text = str(value).strip()
        try:
            seconds = duration_s(text + "s" if text.replace(".", "", 1).isdigit() else text)
        except UnitError as error:
            self.fail(f"{error}; {error.hint}" if error.hint else str(error), param, ctx)
        if seconds <= 0:
            self.fail(f"{value!r} is not a time above zero", param, ctx)
        return seconds


class Text(NameParam):
    """What is sent or kept as text: it has to be UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text. Fails on bytes that are none."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{quoted(text, 200)} is not UTF-8", param, ctx)
        return text


class Plain(Text):
    """A name of any kind: no name has control characters."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name. Fails on what cannot be one."""
        text = super().convert(value, param, ctx)
        if any(unicodedata.category(character) == "Cc" for character in text):
            self.fail(f"{quoted(text, 200)} has a control character in it, and no name has", param, ctx)
        return text


class ToldPath(click.Path):
    """A file that the daemon is to read: it is told where, in JSON."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Fails where it is no text."""
        return super().convert(Text().convert(value, param, ctx), param, ctx)


class Folder(click.Path):
    """A directory, completed as one; whether it is one is seen by who looks into it, the same for all verbs."""

    def __init__(self) -> None:
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


class Name(Plain):
    """The name of a child, completed from the running daemon."""

    kind = ""
    """Complete children of this kind only; empty: of all."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin with `incomplete`; none when no daemon answers at once."""
        typed = ctx.params.get(param.name or "") or ()
        try:
            with connect(
                run_dir=ctx.params.get("run_dir"), name=ctx.params.get("daemon"), timeout_s=COMPLETION_S
            ) as client:
                entries = client.request("status")
        except ControlError:
            return []
        names: dict[str, str] = {}
        for entry in entries:
            if self.kind not in ("", entry["kind"]):
                continue
            group = entry["name"].partition(".")[0]
            names.setdefault(group, entry["state"] if group == entry["name"] else "all its replicas")
            names.setdefault(entry["name"], entry["state"])
        return [
            CompletionItem(name, help=state)
            for name, state in names.items()
            if name.startswith(incomplete) and name not in typed
        ]


class AgentName(Name):
    """Whom a message is for: an agent, or a group of replicas."""

    kind = "agent"


def daemon_options(function: Function) -> Function:
    """--run-dir and --name (as `run_dir` and `daemon`), and --debug."""
    function = debug_option(function)
    function = click.option("--name", "daemon", metavar="NAME", type=Plain(), help="The daemon of this name.")(function)
    return click.option(
        "--run-dir",
        metavar="DIR",
        type=Folder(),
        help="The daemon with this run_dir; default: $REGROW_RUN_DIR, else the only one running.",
    )(function)


def debug_option(function: Function) -> Function:
    """--debug, which `app.run` looks for by itself."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(function)


def format_option(function: Function) -> Function:
    """--format, as the flag `as_json`."""
    return click.option(
        "--format",
        "as_json",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        callback=lambda _context, _option, value: value == "json",
        help="For people, or for programs.",
    )(function)


def timeout_option(default: str, help: str) -> Callable[[Function], Function]:
    """--timeout, as `timeout_s`."""
    return click.option(
        "--timeout", "timeout_s", type=Duration(), default=default, show_default=True, metavar="TIME", help=help
    )


def names_argument(*, required: bool = False) -> Callable[[Function], Function]:
    """NAME…, completed from the running daemon."""
    metavar = "NAME..." if required else "[NAME]..."
    return click.argument("names", metavar=metavar, nargs=-1, required=required, type=Name())


def reach(run_dir: str | None, daemon: str | None) -> Reached:
    """The daemon that --run-dir and --name mean, for the length of a block."""
    return Reached(connect(run_dir=run_dir, name=daemon))
