"""Verbs that publish and listen: publish, subscribe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from regrow.config.internal import HUB
from regrow.daemon.cli.arguments import STDIN, read_stdin, read_value, text_of
from regrow.daemon.cli.options import Plain, daemon_options, format_option, reach, timeout_option
from regrow.daemon.cli.output import dumps, one_line
from regrow.daemon.cli.replies import as_plain
from regrow.daemon.cli.report import Failed, say
from regrow.ipc.errors import Refused

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register
    from regrow.ipc.client import Client
    from regrow.ipc.control import ControlClient
    from regrow.ipc.mailbox import Signal

CONFIRM_S = 1.0
"""A subscription that the hub has not confirmed by then is not waited for in silence."""


def register(verb: Register) -> None:
    """Add this module's verbs."""
    for command in (publish, subscribe):
        verb("talk", command)


@click.command()
@click.argument("topic", type=Plain())
@click.argument("message", required=False)
@timeout_option("5s", "How long to wait for the hub.")
@format_option
@daemon_options
def publish(
    topic: str, message: str | None, timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None
) -> None:
    """
    Publish a message under a topic.

    MESSAGE is JSON where it reads as JSON, and text otherwise; - reads it from stdin, and without it the message is
    null. Prints for how many subscribers it was.
    """
    what = "the message"
    if message == "-":
        message, what = text_of(read_stdin()).removesuffix("\n"), STDIN
    value = None if message is None else read_value(message, what)
    with listening("publish", run_dir, daemon) as (client, _control):
        count = client.publish(topic, value, timeout=timeout_s)
    if as_json:
        click.echo(dumps({"topic": topic, "subscribers": count}))
    else:
        click.echo(f"{topic}: for {count} subscriber{'' if count == 1 else 's'}")


@click.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True, type=Plain())
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@format_option
@daemon_options
def subscribe(
    patterns: tuple[str, ...], count: int | None, as_json: bool, run_dir: str | None, daemon: str | None
) -> None:
    """
    Print what is published from now on, until ^C.

    A PATTERN is a topic in which * stands for any part, and > at its end for all that is left: "shop.*.sold",
    "shop.>". The daemon's own events are below regrow.event.
    """
    from regrow.daemon.cli.follow import signals

    with listening("subscribe", run_dir, daemon) as (client, control):
        confirmed = [client.subscribe(pattern, timeout=CONFIRM_S) for pattern in patterns]
        if not all(confirmed):
            say(f"waiting for the hub; see `regrow status {HUB}`")
        try:
            for number, signal in enumerate(signals(client, control, lambda: daemon_lives(control)), 1):
                show(signal, as_json)
                if number == count:
                    return
        except KeyboardInterrupt:
            pass  # the way to end it


def show(signal: Signal, as_json: bool) -> None:
    """Print one signal as one line, at once."""
    message = as_plain(signal.message)
    if as_json:
        print(dumps({"topic": signal.topic, "message": message, "lost": signal.lost}), flush=True)
        return
    if signal.lost:
        say(f"{signal.lost} messages before the next one are lost: they came faster than they were read here")
    print(f"{signal.topic}  {one_line(message) if isinstance(message, str) else dumps(message)}", flush=True)


def daemon_lives(control: ControlClient) -> bool:
    """
    Take in what the daemon says on this connection, which is nothing as long as it lives.

    Raises:
        Unreachable: it has hung up.
    """
    while control.receive(0) is not None:
        pass
    return True


@contextmanager
def listening(verb: str, run_dir: str | None, daemon: str | None) -> Iterator[tuple[Client, ControlClient]]:
    """
    A client of a daemon that has a hub, and the connection by which its end is known; errors leave as one line.

    Raises:
        Failed; ControlError: there is no daemon to talk to.
    """
    from regrow.ipc.client import Client
    from regrow.ipc.errors import BadRequest, DeliveryTimeout, MessageError

    with reach(run_dir, daemon) as control:
        check_hub(verb, control)
        with Client(control.run_dir) as client:
            try:
                yield client, control
            except BadRequest as error:
                raise Failed(f"cannot {verb}: {error.text}") from error
            except DeliveryTimeout as error:
                raise Failed(f"{error}; see `regrow status {HUB}`") from error
            except MessageError as error:
                raise Failed(f"cannot {verb}: {error}") from error


def check_hub(verb: str, control: ControlClient) -> None:
    """
    Say so where there is nobody to publish through.

    Raises:
        Failed.
    """
    try:
        control.request("status", names=[HUB], all=True)
    except Refused as error:
        if error.code != "not_found":
            raise
        why = "the hub comes with the first agent, or with a [hub] table in its file"
        raise Failed(f"cannot {verb}: {control.label} has no hub; {why}") from error
