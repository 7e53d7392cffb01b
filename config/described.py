"""
A spec in the words of the file, key by key: what a comparison of two of them shows.

Values of environment variables are secrets: of each only is said that it is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from regrow.config.spec import (
    Backoff,
    ChildSpec,
    Credentials,
    Limits,
    Liveness,
    LogRotation,
    Output,
    OutputKind,
    Probe,
    Ready,
    ReadyKind,
    Shutdown,
    ShutdownKind,
    SupervisorSpec,
    Update,
    WorkerSpec,
    signal_name,
)
from regrow.config.units import duration_text, size_text

LONGEST = 300
"""Characters of a value; of a longer one, its beginning."""

NOT_SET = ""

_PLACE = ("name", "group", "index", "kind", "children")
"""Fields that are no keys: what a child is called, and what is said of it elsewhere."""

_KEYS = {
    "args_json": "args",
    "credentials": "user",
    "watchdog_s": "watchdog",
    "period_s": "period",
    "base_dir": "folder",
}
"""Fields whose key has another name."""


class Change(Struct, frozen=True):
    """One key that is not as it was; "" where it is not set. `field` is that of the spec, `key` as in the file."""

    key: str
    before: str
    after: str
    field: str = ""


def changes(before: ChildSpec, after: ChildSpec) -> tuple[Change, ...]:
    """Every key in which two specs differ, in the order of the fields; the children of a supervisor by themselves."""
    if isinstance(before, WorkerSpec) and isinstance(after, WorkerSpec):
        return tuple(_between(before, after))
    if isinstance(before, SupervisorSpec) and isinstance(after, SupervisorSpec):
        order = tuple(_order(before, after))
        return (*_between(before, after), *order)
    return (Change("kind", str(before.kind), str(after.kind), "kind"),)


def _between(before: WorkerSpec | SupervisorSpec, after: WorkerSpec | SupervisorSpec) -> Iterator[Change]:
    if before.kind is not after.kind:
        yield Change("kind", str(before.kind), str(after.kind), "kind")
    for field in before.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if field in _PLACE or old == new:
            continue
        if field in ("env", "limits"):
            yield from _each(field, old, new)
        elif field == "target":
            key = str(after.kind)
            yield Change(key, _shown(old), _shown(new), field)
        else:
            yield Change(_KEYS.get(field, field), words(field, old), words(field, new), field)


def _order(before: SupervisorSpec, after: SupervisorSpec) -> Iterator[Change]:
    """The list, where those that stay come in another order."""
    old, new = ([child.name for child in spec.children] for spec in (before, after))
    if [name for name in old if name in new] != [name for name in new if name in old]:
        yield Change("children", _shown(old), _shown(new), "children")


def _each(field: str, old: Any, new: Any) -> Iterator[Change]:
    """A table whose keys are compared one by one."""
    if field == "env":
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                after = NOT_SET if name not in new else "another value" if name in old else "a value"
                yield Change(f"env.{name}", "a value" if name in old else NOT_SET, after, field)
        return
    for part in old.__struct_fields__:
        was, now = getattr(old, part), getattr(new, part)
        if was != now:
            yield Change(f"{field}.{_plain(part)}", _part(part, was), _part(part, now), field)


def words(field: str, value: Any) -> str:
    """A value as the file writes it; empty when it is not set."""
    match value:
        case None:
            return NOT_SET
        case Shutdown():
            return duration_text(value.timeout_s) if value.kind is ShutdownKind.TIMEOUT else str(value.kind)
        case Ready():
            return f"{_probe(value.probe)} within {duration_text(value.timeout_s)}"
        case Liveness():
            every, each = duration_text(value.every_s), duration_text(value.timeout_s)
            return f"{_probe(value.probe)} every {every} within {each}, {value.failures} failures"
        case Output():
            return value.path if value.kind is OutputKind.PATH else str(value.kind)
        case Credentials():
            return _user(value)
        case Limits() | LogRotation() | Backoff() | Update():
            parts = ((_plain(part), _part(part, getattr(value, part))) for part in value.__struct_fields__)
            return ", ".join(f"{part} = {text}" for part, text in parts if text)
    if field == "stop_signal":
        return signal_name(value)
    if field == "umask":
        return f"{value:03o}"
    if field in ("args_json", "template"):
        return _cut(value)
    return duration_text(value) if field.endswith("_s") else _shown(value)


def _part(field: str, value: Any) -> str:
    if value is None:
        return NOT_SET
    if value == -1:
        return "unlimited"
    if field.endswith("_bytes"):
        return size_text(value)
    return duration_text(value) if field.endswith("_s") else _shown(value)


def _plain(field: str) -> str:
    """A field without the unit that ends its name."""
    return field.removesuffix("_s").removesuffix("_bytes")


def _probe(probe: Probe) -> str:
    match probe.kind:
        case ReadyKind.TCP:
            return f"tcp {probe.host}:{probe.port}"
        case ReadyKind.HTTP:
            return f"http {probe.http_host or probe.host}:{probe.port}{probe.path}"
        case ReadyKind.UNIX | ReadyKind.FILE:
            return f"{probe.kind} {probe.path}"
        case ReadyKind.LINE:
            return f"line {probe.pattern}"
        case ReadyKind.EXEC:
            return f"exec {_shown(probe.argv)}"
        case _:
            return str(probe.kind)


def _user(user: Credentials) -> str:
    name = user.user or (str(user.uid) if user.uid is not None else "")
    group = "" if user.gid is None else f"group {user.gid}"
    return ", ".join(part for part in (name, group) if part)


def _shown(value: Any) -> str:
    """Anything else, as JSON; text as it is."""
    if isinstance(value, str):
        return _cut(value)
    return _cut(msgspec.json.encode(dict(value) if isinstance(value, Mapping) else value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
