"""The [hub] table: whether processes of other hosts may come in, where, and with which keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from regrow.config.context import Context
from regrow.config.keys import HUB
from regrow.config.spec import HubSpec
from regrow.config.values import At

SECRET = "keys/hub.key_secret"
"""Below state_dir: the hub's own key. Those of its clients are in `keys/clients/NAME.key`."""


def client_key(name: str) -> str:
    """Return where the key of a client is, below state_dir."""
    return f"keys/clients/{name}.key"


def read_hub(context: Context, at: At, table: Mapping[str, Any], state_dir: str) -> HubSpec:
    """Return what the table asks for; what is wrong with it has been reported."""
    fields: dict[str, Any] = HUB.read(table, at)
    clients: tuple[str, ...] = tuple(dict.fromkeys(fields.get("clients", ())))
    unread = "clients" in table and "clients" not in fields
    if "listen" in table and not clients and not unread:
        said = "nobody could connect: name the `clients` whose keys may"
        at.down("listen").wrong(said, 'clients = ["laptop"]', "bad_combination")
    if clients and "listen" not in table:
        at.down("clients").wrong("they have nowhere to connect to", 'listen = "tcp://0.0.0.0:7300"', "bad_combination")
    if "listen" not in fields or not clients:
        return HubSpec()
    _check_keys(context, at, clients, state_dir)
    host, port = fields["listen"]
    host = context.host(host, at.down("listen"))
    return HubSpec(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}", clients)


def _check_keys(context: Context, at: At, clients: tuple[str, ...], state_dir: str) -> None:
    """Report keys that are not there."""
    if not context.check_system:
        return
    places = [("listen", SECRET), *(("clients", client_key(name)) for name in clients)]
    for key, place in places:
        path = os.path.join(state_dir, place)
        if not os.path.isfile(path):
            at.down(key).wrong(f"there is no key {path}", "`regrow keys` makes it")
