"""The [hub] table: whether clients of other hosts may come in, where, and which of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.config.context import Context
from regrow.config.errors import did_you_mean
from regrow.config.keys import HUB
from regrow.config.spec import HubSpec
from regrow.config.values import At


def read_hub(context: Context, at: At, table: Mapping[str, Any]) -> HubSpec:
    """
    Return what the table asks for; what is wrong with it has been reported.

    Keys are not looked for: one that was taken away from a client is no reason to start nothing.
    """
    fields: dict[str, Any] = HUB.read(table, at)
    clients: tuple[str, ...] = tuple(dict.fromkeys(fields.get("clients", ())))
    unread = "clients" in table and "clients" not in fields
    if "listen" in table and not clients and not unread:
        said = "nobody could connect: name the `clients` whose keys may"
        at.down("listen").wrong(said, 'clients = ["laptop"]', "bad_combination")
    if clients and "listen" not in table:
        at.down("clients").wrong("they have nowhere to connect to", 'listen = "tcp://0.0.0.0:7300"', "bad_combination")
    for index, name in enumerate(fields.get("operators", ())):
        if name not in clients and not unread:
            at.down("operators", index).wrong(f"{name} is none of the `clients`", did_you_mean(name, clients))
    if "listen" not in fields:
        return HubSpec()
    host, port = fields["listen"]
    host = context.host(host, at.down("listen"))
    listen = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    return HubSpec(listen, clients, tuple(dict.fromkeys(fields.get("operators", ()))))
