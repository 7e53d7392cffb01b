"""Verbs that talk to agents: call, send."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from random import choice
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from regrow.daemon.cli.arguments import STDIN, Arguments, read_json, read_stdin, read_tags, read_value, read_words
from regrow.daemon.cli.handlernames import HandlerName, handlers
from regrow.daemon.cli.options import AgentName, Function, daemon_options, format_option, reach, timeout_option
from regrow.daemon.cli.output import dumps
from regrow.daemon.cli.replies import as_json as json_of
from regrow.daemon.cli.replies import as_text, on_terminal
from regrow.daemon.cli.report import Failed

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register
    from regrow.ipc.client import Client
    from regrow.ipc.groups import Address


def register(verb: Register) -> None:
    """Add this module's verbs."""
    for command in (call, send):
        verb("talk", command)


class Message(NamedTuple):
    """What was typed of a message: for whom, which handler (None: it was not said), and its arguments."""

    name: str
    handler: str | None
    given: Arguments
    key: str | None
    run_dir: str | None
    daemon: str | None

    @contextmanager
    def sender(self, verb: str) -> Iterator[tuple[Client, str | Address, str]]:
        """
        A client of the daemon meant, the receiver and the handler.

        Raises:
            Failed; ControlError; click.UsageError: no handler was said.
        """
        with talking(verb, self.run_dir, self.daemon) as client:
            to = address(client, self.name, self.key)
            yield client, to, self.handler or ask(client, to)


def message(*options: Callable[[Any], Any]) -> Callable[[Function], Any]:
    """
    What all verbs that send a message have in common, as `message`; `options` are those between --json and --format.
    """

    def decorate(function: Function) -> Any:
        @wraps(function)
        def sending(
            name: str,
            handler: str | None,
            words: tuple[str, ...],
            json_text: str | None,
            tagged: bool,
            key: str | None,
            run_dir: str | None,
            daemon: str | None,
            **own: Any,
        ) -> Any:
            given = arguments(words, json_text)
            given = read_tags(given) if tagged else given
            return function(Message(name, handler, given, key, run_dir, daemon), **own)

        decorated: Any = sending
        for option in (
            daemon_options,
            format_option,
            click.option("--key", metavar="KEY", help="The replica of the group NAME that this key belongs to."),
            *options,
            click.option("--tagged", is_flag=True, help='{"$bytes": "AAE="} is bytes, {"$time": …} a time; see docs.'),
            click.option(
                "--json", "json_text", metavar="TEXT",
                help="All arguments: a JSON list by position, an object by name; - for stdin.",
            ),
            click.argument("words", metavar="[KEY=VALUE]...", nargs=-1),
            click.argument("handler", metavar="HANDLER", required=False, type=HandlerName()),
            click.argument("name", type=AgentName()),
        ):  # fmt: skip
            decorated = option(decorated)
        return decorated

    return decorate


@click.command()
@message(timeout_option("5s", "How long to wait for the answer."))
def call(message: Message, timeout_s: float, as_json: bool) -> None:
    """
    Call a handler of an agent and print its reply.

    NAME is an agent's, or that of a group of replicas: then one of them gets it. Without HANDLER, those that it has
    are listed. A VALUE is JSON where it reads as JSON, and text otherwise; KEY:=VALUE must be JSON. A word without =
    is an argument by position.
    """
    with message.sender("call") as (client, to, handler):
        reply = answer(client, to, handler, message.given, timeout_s)
    if as_json:
        click.echo(json_of(reply))
        return
    text = as_text(reply)
    if text is not None:
        click.echo(on_terminal(text) if sys.stdout.isatty() else text)


@click.command()
@message(timeout_option("5s", "How long to wait until it is accepted."))
def send(message: Message, timeout_s: float, as_json: bool) -> None:
    """
    Send a message to an agent; done when it is accepted.

    The arguments are written as for `call`. What the handler makes of it is not waited for: if they do not fit, the
    agent writes it to its log.
    """
    with message.sender("send") as (client, to, handler):
        delivery = client.send(to, handler, *message.given.args, **message.given.kwargs)
        delivery.wait(timeout_s)
    taker = delivery._to  # of a group: the one that has it
    click.echo(dumps({"name": taker, "result": "accepted"}) if as_json else f"{taker}: accepted")


@contextmanager
def talking(verb: str, run_dir: str | None, daemon: str | None) -> Iterator[Client]:
    """
    A client of the daemon meant; errors of messages leave as one line.

    Raises:
        Failed; ControlError: there is no daemon to talk to.
    """
    # Not before now: looking at a tree takes neither ZeroMQ nor LMDB.
    from regrow.daemon.cli.misses import Misses
    from regrow.ipc.client import Client
    from regrow.ipc.errors import MessageError

    with reach(run_dir, daemon) as control, Client(control.run_dir) as client:
        try:
            yield client
        except MessageError as error:
            misses = Misses(verb, client, control)
            raise Failed(misses.explain(error), misses.status(error)) from error


def arguments(words: tuple[str, ...], json_text: str | None) -> Arguments:
    """
    What was typed, as the handler's arguments.

    Raises:
        click.UsageError: it cannot be read.
    """
    if json_text is not None and words:
        raise click.UsageError(f"give the arguments as words or with --json, not both: {' '.join(words)}")
    if json_text is None:
        return read_words(words)
    return read_json(read_stdin(), STDIN) if json_text == "-" else read_json(json_text)


def answer(client: Client, to: str | Address, handler: str, given: Arguments, timeout_s: float) -> Any:
    """
    What a handler returns; `Client.call` keeps `timeout` and `returns` for itself, which a handler may take too.

    Raises:
        MessageError.
    """
    from regrow.ipc.delivery import Awaits
    from regrow.ipc.verbs import Request

    node = client._node
    pending = node.submit(Awaits.REPLY, to, handler, given.args, given.kwargs)
    return Request(node, pending, None, None).receive_response(timeout_s)


def address(client: Client, name: str, key: str | None) -> str | Address:
    """
    Whom the message is for.

    A group's members take turns only with those who call more than once, so here one is drawn.
    """
    from regrow.ipc.groups import by_key

    if key is not None:
        return by_key(name, read_value(key, "--key"))
    members = client.members(name)
    return choice(members) if members else name


def ask(client: Client, to: str | Address) -> NoReturn:
    """
    Say what can be called there.

    Raises:
        click.UsageError; MessageError: it does not answer.
    """
    names = handlers(client, to)
    raise click.UsageError(f"say which HANDLER: {to} has {', '.join(names) or 'none'}")
