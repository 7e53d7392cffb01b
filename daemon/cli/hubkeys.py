"""`regrow keys`: the keys with which programs on other hosts talk to the hub."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from regrow.config.exits import REFUSED, USAGE
from regrow.config.internal import HUB
from regrow.daemon.cli.options import Function, Plain, daemon_options, debug_option, format_option, reach
from regrow.daemon.cli.output import json_list
from regrow.daemon.cli.report import Failed, say, say_if_none
from regrow.ipc.errors import ControlError, Unreachable

if TYPE_CHECKING:
    from regrow.config.spec import Plan
    from regrow.daemon.cli.app import Register


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("talk", keys)


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def keys(ctx: click.Context) -> None:
    """
    Make, list and remove the keys of programs on other hosts.

    They lie in the daemon's state_dir, so they can be made before it runs: with --file.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def of_daemon(function: Function) -> Function:
    """--file, as `files`, and which daemon."""
    return click.option(
        "--file", "files", multiple=True, metavar="FILE", type=click.Path(dir_okay=False),
        help="The file that `regrow up` is given, for a daemon that does not run; may be repeated.",
    )(daemon_options(function))  # fmt: skip


@keys.command()
@of_daemon
def make(files: tuple[str, ...], run_dir: str | None, daemon: str | None) -> None:
    """
    Make the hub's own key, unless it has one; print its public half.

    `add` does so too, and so does a hub that listens.
    """
    from regrow.ipc.keys import server_pair

    plan = plan_of(files, run_dir, daemon)
    with key_files():
        click.echo(server_pair(plan.daemon.state_dir).public.decode())


@keys.command()
@click.argument("name", type=Plain())
@click.option("--out", metavar="PATH", type=click.Path(dir_okay=False), help="Where to; default: NAME.key here.")
@of_daemon
def add(name: str, out: str | None, files: tuple[str, ...], run_dir: str | None, daemon: str | None) -> None:
    """
    Make the key of a client, and write the file that it needs.

    Move that file to the client's host: it is not kept here.
    """
    from regrow.ipc.keys import add_client

    plan = plan_of(files, run_dir, daemon)
    path = out or f"{name}.key"
    with key_files():
        add_client(plan.daemon.state_dir, name, path)
    click.echo(f"wrote {path}: move it to where {name} runs, and nowhere else")
    if plan.hub is None or name not in plan.hub.clients:
        click.echo(f'now name it in the file, in [hub]: clients = ["{name}"]')
    else:
        click.echo(f"there: Client({reachable(plan.hub.listen)!r}, key={os.path.basename(path)!r})")


@keys.command("list")
@of_daemon
@format_option
def list_(files: tuple[str, ...], as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """Whose keys there are, and whether the file lets them in."""
    from regrow.ipc.keys import list_clients

    plan = plan_of(files, run_dir, daemon)
    with key_files():
        found = list_clients(plan.daemon.state_dir)
    rows = [(name, public.decode(), standing(plan, name)) for name, public in found.items()]
    if as_json:
        click.echo(json_list({"name": name, "public_key": key, "admitted_as": role} for name, key, role in rows))
        return
    say_if_none(rows, "there are no keys; `regrow keys add NAME` makes one")
    for name, key, role in rows:
        click.echo(f"{name:<16}  {key}  {role or 'not among the [hub] clients of the file'}")


@keys.command()
@click.argument("name", type=Plain())
@of_daemon
def remove(name: str, files: tuple[str, ...], run_dir: str | None, daemon: str | None) -> int | None:
    """Let a client in no longer; one that is connected is cut off."""
    from regrow.ipc.keys import remove_client

    plan = plan_of(files, run_dir, daemon)
    with key_files():
        if not remove_client(plan.daemon.state_dir, name):
            say(f"cannot remove {name}: there is no such key; see `regrow keys list`")
            return REFUSED
    click.echo(f"{name}: removed{'' if cut_off(plan) else '; if it is connected, until the hub restarts'}")
    return None


def plan_of(files: tuple[str, ...], run_dir: str | None, daemon: str | None) -> Plan:
    """
    What the files say; without any, those of the daemon that runs.

    Raises:
        Failed: they are wrong; ControlError: there is none, or it cannot be reached.
    """
    from regrow.config.errors import ConfigErrors
    from regrow.config.load import load

    if not files:
        try:
            with reach(run_dir, daemon) as client:
                files = tuple(client.request("ping")["files"])
        except Unreachable as error:
            remedy = f"{error.remedy}; or name its file: --file FILE"
            raise Unreachable(error.what, error.why, remedy, absent=error.absent, denied=error.denied) from error
    try:
        return load(files, check_system=False)
    except ConfigErrors as errors:
        raise Failed(f"{errors.problems[0]}; see all with `regrow check {' '.join(files)}`") from errors


def standing(plan: Plan, name: str) -> str | None:
    """What the file lets a client be; None if it is not named there."""
    if plan.hub is None or name not in plan.hub.clients:
        return None
    return "operator" if name in plan.hub.operators else "client"


def reachable(listen: str) -> str:
    """Where the hub is for others; an address that stands for all of this host's becomes its name."""
    host, _, port = listen.removeprefix("tcp://").rpartition(":")
    return f"tcp://{os.uname().nodename}:{port}" if host in ("*", "0.0.0.0", "[::]") else listen


@contextmanager
def key_files() -> Iterator[None]:
    """What is wrong with a key, as one line."""
    from regrow.ipc.keys import KeyFileError

    try:
        yield
    except KeyFileError as error:
        raise Failed(str(error)) from error


def cut_off(plan: Plan) -> bool:
    """Have the hub look at its keys again; False where it runs and we may not tell it."""
    try:
        with reach(plan.daemon.run_dir, None) as client:
            (hub,) = client.request("status", names=[HUB], all=True)
    except Unreachable as error:
        return error.absent
    except ControlError:
        return True  # it has no hub
    if hub["pid"] is None:
        return True
    try:
        pidfd = os.pidfd_open(hub["pid"])
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGHUP)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    finally:
        os.close(pidfd)
    return True
