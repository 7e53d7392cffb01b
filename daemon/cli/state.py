"""`regrow state`: what agents keep; a key here and there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import USAGE
from regrow.config.readable import quoted
from regrow.daemon.cli import state_store, state_waiting
from regrow.daemon.cli.options import AgentName, Text, debug_option, format_option
from regrow.daemon.cli.output import dumps, json_list, one_line
from regrow.daemon.cli.replies import as_text
from regrow.daemon.cli.report import Failed, say_if_none
from regrow.daemon.cli.stores import Which, of_store, refuse_living

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register

SHOWN = 60
"""Characters of a value in a line of the list."""


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("look", state)


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def state(ctx: click.Context) -> None:
    """
    Look into what agents keep, change it, back it up.

    Of the daemon that runs; or, with --file or --state-dir, also of one that does not.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


state_store.add_to(state)
state_waiting.add_to(state)


@state.command("list")
@click.argument("name", required=False, type=AgentName())
@click.option("--prefix", metavar="KEY", help="Only keys that begin with this text, or with this list of elements.")
@format_option
@of_store
def list_(which: Which, name: str | None, prefix: str | None, as_json: bool) -> None:
    """List who keeps how much; with NAME, the keys of that agent or group."""
    if name is None:
        if prefix is not None:
            raise click.UsageError("say whose keys: --prefix is for those of one NAME")
        list_owners(which, as_json=as_json)
    else:
        list_keys(which, name, prefix, as_json=as_json)


@state.command()
@click.argument("name", type=AgentName())
@click.argument("key", type=Text())
@format_option
@of_store
def get(which: Which, name: str, key: str, as_json: bool) -> None:
    """Print the value of a key."""
    from regrow.ipc.taggedjson import value_to_json

    row = row_of(name, key)
    with which.reading() as store:
        value = store.read(lambda txn: txn.get(row, db=store.state))
    if value is None:
        raise missing(which, name, key)
    plain = value_to_json(value)
    click.echo(dumps(plain) if as_json or plain is None else as_text(plain))


@state.command("set")
@click.argument("name", type=AgentName())
@click.argument("key", type=Text())
@click.argument("value", metavar="JSON")
@of_store
def set_(which: Which, name: str, key: str, value: str) -> None:
    """
    Give a key another value, while the agent does not run.

    KEY is a number or a list where it reads as one in JSON, and text otherwise. JSON is written as
    `get --format json` shows it.
    """
    from regrow.ipc.taggedjson import BadJson, parse, value_from_json

    row = row_of(name, key)
    try:
        encoded = value_from_json(parse(value))
    except BadJson as error:
        what = f"{quoted(value, 100)} is no JSON of a value ({error})"
        raise click.UsageError(f"{what}; for text write '\"…\"'") from None
    site = which.site()
    check = refuse_living(site, name, "change")

    def put(txn: Any) -> None:
        check(txn)
        if not is_known(txn, store, name):
            why = f"no agent has that name; see `regrow state list{which.options}`"
            raise Failed(f"cannot change the state of {name}: {why}")
        txn.put(row, encoded, db=store.state)

    with site.writing() as store:
        store.write(put)
    click.echo(f"{name}: {key} is set")


@state.command()
@click.argument("name", type=AgentName())
@click.argument("key", type=Text())
@of_store
def delete(which: Which, name: str, key: str) -> None:
    """Forget a key, while the agent does not run."""
    row = row_of(name, key)
    site = which.site()
    check = refuse_living(site, name, "change")

    def forget(txn: Any) -> bool:
        check(txn)
        return bool(txn.delete(row, db=store.state))

    with site.writing() as store:
        found = store.write(forget)
    if not found:
        raise missing(which, name, key)
    click.echo(f"{name}: {key} is deleted")


def list_owners(which: Which, *, as_json: bool) -> None:
    """Everybody who keeps something."""
    from regrow.ipc.owners import owners

    with which.reading() as store:
        found = store.read(lambda txn: list(owners(txn, store.state)))
    if as_json:
        click.echo(json_list({"name": one.name, "keys": one.keys, "bytes": one.bytes} for one in found))
        return
    say_if_none(found, "no agent keeps anything yet")
    for one in found:
        click.echo(f"{one.name:<16}  {one.keys:>9} keys  {one.bytes:>12} bytes")


def list_keys(which: Which, name: str, prefix: str | None, *, as_json: bool) -> None:
    """The keys of one, in their order."""
    from regrow.ipc.owners import rows
    from regrow.ipc.statekeys import FIRST
    from regrow.ipc.taggedjson import key_to_json, value_to_json

    first, end = (FIRST, b"") if prefix is None else range_of(prefix)
    with which.reading() as store:
        found = store.read(lambda txn: list(rows(txn, store.state, name, first, end)))
        if not found and prefix is None and not store.read(lambda txn: any(rows(txn, store.state, name))):
            raise Failed(f"cannot list the state of {name}: it keeps nothing; see `regrow state list{which.options}`")
    if as_json:
        click.echo(json_list({"key": key_to_json(row), "bytes": len(value)} for row, value in found))
        return
    say_if_none(found, f"{name} keeps no key that begins so")
    for row, value in found:
        shown = one_line(dumps(value_to_json(value)))
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        click.echo(f"{typed(key_to_json(row)):<24}  {len(value):>9} bytes  {shown}")


def row_of(name: str, key: str) -> bytes:
    """
    The row of a key as it is typed.

    Raises:
        click.UsageError: it is none.
    """
    from regrow.ipc.statekeys import limit_of
    from regrow.ipc.taggedjson import BadJson, key_from_json

    try:
        row = key_from_json(read_key(key))
    except BadJson as error:
        raise click.UsageError(f"{key!r:.100} is no key: {error}") from None
    if len(row) > limit_of(name) or not name or "\0" in name:
        raise click.UsageError(f"{key!r:.100} is no key of {name!r:.100}: both are too long, or there is no name")
    return name.encode() + b"\0" + row


def read_key(text: str) -> Any:
    """A number, a list and a tagged element as JSON has them; all else is text."""
    from regrow.ipc.taggedjson import BadJson, parse

    try:
        value = parse(text)
    except BadJson:
        return text
    is_key = isinstance(value, str | list | dict) or (isinstance(value, int) and not isinstance(value, bool))
    return value if is_key else text


def typed(key: Any) -> str:
    """A key as it can be typed."""
    return key if isinstance(key, str) and read_key(key) == key and one_line(key) == key and key else dumps(key)


def range_of(prefix: str) -> tuple[bytes, bytes]:
    """
    The rows below a prefix as it is typed.

    Raises:
        click.UsageError.
    """
    from regrow.ipc.errors import BadState
    from regrow.ipc.statekeys import encode, end_behind, prefix_range

    found = read_key(prefix)
    try:
        if isinstance(found, int):
            return encode(found), end_behind(found)
        return prefix_range(tuple(found) if isinstance(found, list) else found)
    except (BadState, TypeError) as error:
        raise click.UsageError(f"{prefix!r:.100} is no prefix of keys: {error}") from None


def is_known(txn: Any, store: Any, name: str) -> bool:
    """Whether the file has such an agent or group, or there ever was one that kept something or had posts."""
    from regrow.ipc.levels import get_meta
    from regrow.ipc.owners import has_any
    from regrow.ipc.posts import BOX

    if has_any(txn, store.state, name) or txn.get(BOX + name.encode() + b"\0", db=store.messages) is not None:
        return True
    agents = get_meta(txn, store.meta, "agents") or {}
    group, _, number = name.rpartition(".")
    return name in agents or (number.isdigit() and int(number) < agents.get(group, 0))


def missing(which: Which, name: str, key: str) -> Failed:
    """There is no such key."""
    return Failed(f"cannot find {key!r:.100} in the state of {name}; see `regrow state list {name}{which.options}`")
