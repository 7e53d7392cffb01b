"""
What is different between the tables of two plans that are about no child: `[access]`, `[commands]`, `[hub]`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.described import NOT_SET, Change, words
from regrow.config.spec import AccessSpec, CommandRule, CommandsSpec, HubSpec, Plan

SETTINGS = ("access", "commands", "hub")
"""Tables of the file, and fields of the plan."""

_PRESENT = "in the file"


class SettingsDifference(Struct, frozen=True):
    """One table that is not as it was; `why` holds the keys that differ, as in the file."""

    table: str
    why: tuple[Change, ...]


def settings_diff(before: Plan, after: Plan) -> tuple[SettingsDifference, ...]:
    """In the order of `SETTINGS`."""
    found = []
    for table in SETTINGS:
        was, now = getattr(before, table), getattr(after, table)
        if was != now:
            found.append(SettingsDifference(table, tuple(_keys(was, now))))
    return tuple(found)


def _keys(was: AccessSpec | CommandsSpec | HubSpec | None, now: object) -> Iterator[Change]:
    if was is None or now is None:
        old, new = (NOT_SET if spec is None else _PRESENT for spec in (was, now))
        yield Change("table", old, new)
    elif isinstance(was, AccessSpec) and isinstance(now, AccessSpec):
        for key in ("operators", "viewers"):
            if (old := _who(was, key)) != (new := _who(now, key)):
                yield Change(key, old, new)
    else:
        for field in was.__struct_fields__:
            old, new = (_words(field, getattr(spec, field)) for spec in (was, now))
            if old != new:
                yield Change(field.removesuffix("_s"), old, new)


def _words(field: str, value: object) -> str:
    """A value as the file writes it; of the programs that may be run, those by themselves that have no conditions."""
    if field == "allow" and isinstance(value, tuple):
        plain = CommandRule("", env=("*",))
        return words(field, [rule.program if rule == replace(plain, program=rule.program) else rule for rule in value])
    return words(field, value)


def _who(access: AccessSpec, key: str) -> str:
    """Users and groups by their numbers: names are looked up once, when the file is read."""
    role = key.removesuffix("s")
    uids, gids = getattr(access, f"{role}_uids"), getattr(access, f"{role}_gids")
    return ", ".join((*(f"user:{uid}" for uid in uids), *(f"group:{gid}" for gid in gids)))
