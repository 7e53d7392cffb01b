"""`regrow post`: a message that takes effect exactly once."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from regrow.daemon.cli.options import Duration, Text
from regrow.daemon.cli.output import dumps
from regrow.daemon.cli.talk import Message, message

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register

    MomentParam = click.ParamType[datetime]
else:  # generic from click 8.2 on only
    MomentParam = click.ParamType


class Moment(MomentParam):
    """A time by the clock, in ISO 8601; of this machine's zone where it names none."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """With its zone. Fails on anything else."""
        try:
            found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r:.100} is no time; write it as 2026-11-21T18:30, or with a zone: 2026-11-21T18:30Z")


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("talk", post)


@click.command()
@message(
    click.option("--at", metavar="TIME", type=Moment(), help="When it is due: 2026-11-21T18:30, by the clock here."),
    click.option("--delay", "delay_s", metavar="TIME", type=Duration(), help="After what time it is due."),
    click.option(
        "--expires", "expires_s", metavar="TIME", type=Duration(),
        help="What is not handled so long after it is due becomes a dead letter; default: never.",
    ),
    click.option(
        "--id", metavar="ID", type=Text(), help="Posts to one agent with the same ID are one post; default: made up."
    ),
)  # fmt: skip
def post(
    message: Message,
    id: str | None,
    expires_s: float | None,
    delay_s: float | None,
    at: datetime | None,
    as_json: bool,
) -> None:
    """
    Post a message that takes effect exactly once, and print its id.

    Done when it is kept, whoever is killed when; the agent need not run yet. The arguments are written as for `call`.
    Arguments that do not fit make it a dead letter: see `regrow dead`.
    """
    from regrow.ipc.transaction import Transaction

    given = message.given
    if at is not None and delay_s is not None:
        raise click.UsageError("--delay and --at are two ways to say the same: give one")
    with message.sender("post") as (client, to, handler):
        out = client._posting.write(to, handler, given.args, given.kwargs, id, expires_s, delay_s, at)
        alone = Transaction()
        alone.posts.append(out)
        client._posting.commit(alone)
    click.echo(dumps({"name": out.to, "id": out.id}) if as_json else out.id)
