"""The JSON Schema of the file, for editors: generated from the same keys that reading uses."""

from __future__ import annotations

from typing import Any

from regrow.config.keys import ACCESS, COMMANDS, DAEMON, HUB, SOCKET, SUPERVISOR, WORKER, WORKFLOW
from regrow.config.sockets import ADDRESSES
from regrow.config.values import NAME_PATTERN
from regrow.config.worker import KINDS

_ONE_ADDRESS = [{"required": [kind]} for kind in ADDRESSES]


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12). Whatever it refuses, loading refuses too; loading refuses more."""
    worker = {**WORKER.schema(), "oneOf": [{"required": [kind]} for kind in KINDS]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "regrow",
        "description": "A supervision tree for Linux processes",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "daemon": {"description": "The daemon itself", **DAEMON.schema()},
            "access": {"description": "Who may operate or look, besides root and the daemon's user", **ACCESS.schema()},
            "commands": {"description": "System commands that agents may run", **COMMANDS.schema()},
            "hub": {"description": "The hub, and its clients on other hosts", **HUB.schema()},
            "supervisor": _named("The supervisors, by name", SUPERVISOR.schema()),
            "worker": _named("The workers, by name", worker),
            "socket": _named("The listening sockets, by name", {**SOCKET.schema(), "oneOf": _ONE_ADDRESS}),
            "workflow": _named("The workflows, by name", {**WORKFLOW.schema(), "required": ["workflow"]}),
        },
    }


def _named(description: str, table: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "patternProperties": {NAME_PATTERN: table},
        "additionalProperties": False,
    }
