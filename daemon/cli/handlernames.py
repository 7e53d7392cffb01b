"""Which handlers an agent has: it says so to whoever calls one that it has not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from regrow.daemon.cli.options import COMPLETION_S, Plain
from regrow.ipc.daemons import connect
from regrow.ipc.errors import BadRequest, ControlError, MessageError

if TYPE_CHECKING:
    from regrow.ipc.client import Client
    from regrow.ipc.groups import Address

NONE = "?"
"""No method can have this name."""

_LISTED = re.compile(r"no handler \?; \w+ has (?P<names>.+)")


class HandlerName(Plain):
    """The name of a handler, completed by asking the agent that is named before it."""

    name = "handler"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Handlers that begin with `incomplete`; none when the agent does not answer at once."""
        from regrow.ipc.client import Client

        to: Any = ctx.params.get("name")
        try:
            daemon = connect(
                run_dir=ctx.params.get("run_dir"), name=ctx.params.get("daemon"), timeout_s=COMPLETION_S
            )
            with daemon, Client(daemon.run_dir) as client:
                return [CompletionItem(name) for name in handlers(client, to) if name.startswith(incomplete)]
        except (ControlError, MessageError):
            return []


def handlers(client: Client, to: str | Address) -> list[str]:
    """
    The names of its handlers, sorted.

    Raises:
        MessageError: it does not answer in time.
    """
    try:
        client.call(to, NONE, timeout=COMPLETION_S)
    except BadRequest as error:
        found = _LISTED.fullmatch(error.text)
        return [name for name in found["names"].split(", ") if name != "none"] if found is not None else []
    return []
