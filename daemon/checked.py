"""
Specs of start_child that need no look at the disk, because one like it was checked before.

Checking takes a process of its own and some 20 ms. The tasks under one supervisor differ in their names and in the
values of their arguments, and in nothing else that a check could find fault with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from regrow.config.spec import SupervisorSpec, WorkerSpec

KEPT = 64
"""Different specs; the oldest is forgotten first."""

_OWN = "regrow."
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Checked:
    """
    What was checked, each under a key of `key_of`. Only what is regrow's own is in it: it does not change.
    """

    def __init__(self) -> None:
        self._specs: dict[bytes, WorkerSpec] = {}

    def like(self, key: bytes | None, raw: Mapping[str, Any]) -> WorkerSpec | None:
        """What `raw` stands for, if its like is known."""
        known = self._specs.get(key) if key is not None else None
        if known is None:
            return None
        name = raw["id"]
        return replace(known, name=name, group=name, args_json=msgspec.json.encode(raw["args"]).decode())

    def keep(self, key: bytes | None, spec: WorkerSpec) -> None:
        """The like of this one need not be checked again."""
        if key is not None:
            if len(self._specs) >= KEPT:
                del self._specs[next(iter(self._specs))]
            self._specs[key] = spec


def key_of(raw: Mapping[str, Any], supervisor: SupervisorSpec) -> bytes | None:
    """All that a check depends on; None where it depends on the name, on values of arguments, or on other files."""
    name, target, args = raw.get("id"), raw.get("function", raw.get("agent")), raw.get("args")
    if not (isinstance(name, str) and _NAME.fullmatch(name) and isinstance(target, str) and isinstance(args, dict)):
        return None
    plain = all(isinstance(value, str | int) for value in args.values())
    placeholders = any(brace in msgspec.json.encode(list(args.values())) for brace in (b"{", b"}"))
    if not target.startswith(_OWN) or not plain or placeholders:
        return None
    others = {key: value for key, value in raw.items() if key not in ("id", "args")}
    rest = msgspec.json.encode([supervisor.name, supervisor.template, others, sorted(args)], order="sorted").decode()
    if '"env_file' in rest or "{name}" in rest:
        return None
    return msgspec.msgpack.encode([rest, supervisor])
