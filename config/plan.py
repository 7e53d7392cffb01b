"""The tables of all files, together, to one Plan."""

from __future__ import annotations

import os
import re
from typing import Any

from regrow.config.context import Context
from regrow.config.defaults import default_dirs
from regrow.config.errors import did_you_mean
from regrow.config.hub import read_hub
from regrow.config.keys import ACCESS, COMMANDS, DAEMON, DAEMON_NAME_PATTERN
from regrow.config.probes import LONGEST_SOCKET_PATH
from regrow.config.sockets import check_unused, read_sockets
from regrow.config.sources import Source, Tables
from regrow.config.spec import AccessSpec, CommandsSpec, DaemonSpec, Kind, Plan, SupervisorSpec
from regrow.config.tree import Tree
from regrow.config.values import At

DIRS = ("run_dir", "state_dir", "log_dir")
LONGEST_RUN_DIR = LONGEST_SOCKET_PATH - len("/control.sock")


def read_plan(context: Context, tables: Tables, sources: list[Source]) -> Plan | None:
    """Return the plan of `sources`, which are at least one; None when something is wrong, which has been reported."""
    daemon, root = _daemon(context, tables, sources)
    context.dirs = {"run_dir": daemon.run_dir, "state_dir": daemon.state_dir, "log_dir": daemon.log_dir}
    access = _access(context, tables, sources)
    commands = None
    if "commands" in tables.sections:
        fields = COMMANDS.read(tables.sections["commands"], _at(context, tables, sources, "commands"))
        commands = CommandsSpec(**fields)
    hub = None
    if "hub" in tables.sections:
        hub = read_hub(context, _at(context, tables, sources, "hub"), tables.sections["hub"])
    context.sockets, context.socket_names = read_sockets(context, tables), tuple(tables.sockets)
    top = Tree(context, tables).build(root, sources[0])
    check_unused(context, tables)
    if top is not None and context.check_system:
        at = _at(context, tables, sources, "daemon")
        _check_dir(daemon.run_dir, at.down("run_dir"))
        if _has_agents(top):
            _check_dir(daemon.state_dir, at.down("state_dir"))
    if top is None or context.problems:
        return None
    files = tuple(os.path.abspath(source.file) for source in sources)
    return Plan(daemon, top, access, commands, files, hub, context.sockets)


def _at(context: Context, tables: Tables, sources: list[Source], section: str, **placeholders: str) -> At:
    return context.at(tables.source(section) or sources[0], (section,), **placeholders)


def _daemon(context: Context, tables: Tables, sources: list[Source]) -> tuple[DaemonSpec, str | None]:
    """
    Return the daemon, and the name of the root supervisor where it is written.

    `{name}` in [daemon] is the daemon's name, and the later directories may use the earlier ones.
    """
    table = tables.sections.get("daemon", {})
    at = _at(context, tables, sources, "daemon")
    name = _daemon_name(table, at, sources[0])
    dirs = default_dirs(name, os.geteuid(), context.environ)
    unnamed = {key: value for key, value in table.items() if key not in ("name", *DIRS)}
    fields: dict[str, Any] = DAEMON.read(unnamed, at)
    known = {"name": name}
    for key in DIRS:
        at = _at(context, tables, sources, "daemon", **known)
        if key in table:
            written = DAEMON.keys[key].type.read(table[key], at.down(key))
            if isinstance(written, str):
                dirs[key] = os.path.normpath(os.path.join(at.source.folder, written))
        known[key] = dirs[key]
    if len(dirs["run_dir"].encode()) > LONGEST_RUN_DIR:
        said = f"{dirs['run_dir']} is too long: its sockets allow at most {LONGEST_RUN_DIR} bytes"
        at.down("run_dir").wrong(said)
    root = fields.pop("root", None)
    return DaemonSpec(name, dirs["run_dir"], dirs["state_dir"], dirs["log_dir"], **fields), root


def _check_dir(path: str, at: At) -> None:
    """
    Report what is certain to keep it from being made. Who may write there is not: the daemon may run as another user.
    """
    place = path
    while not os.path.lexists(place) and place != "/":
        place = os.path.dirname(place)
    if not os.path.isdir(place) and not os.path.islink(place):
        of = f"{place} is" if place == path else f"{path} cannot be made: {place} is"
        at.wrong(f"{of} not a directory", "move it away, or choose another one")


def _has_agents(top: SupervisorSpec) -> bool:
    return any(
        _has_agents(child) if isinstance(child, SupervisorSpec) else child.kind is Kind.AGENT for child in top.children
    )


def _daemon_name(table: dict[str, Any], at: At, first: Source) -> str:
    if "name" in table:
        name = DAEMON.keys["name"].type.read(table["name"], at.down("name"))
        return name if isinstance(name, str) else "daemon"
    stem = os.path.basename(first.file).removesuffix(".toml")
    if re.search(DAEMON_NAME_PATTERN, stem):
        return stem
    at.wrong(f'the name of the file, "{stem}", cannot be the name of the daemon', "write [daemon] name", "invalid_name")
    return "daemon"


def _access(context: Context, tables: Tables, sources: list[Source]) -> AccessSpec:
    at = _at(context, tables, sources, "access")
    fields = ACCESS.read(tables.sections.get("access", {}), at)
    ids: dict[str, list[int]] = {"operator_uids": [], "operator_gids": [], "viewer_uids": [], "viewer_gids": []}
    for role, principals in fields.items():
        for index, principal in enumerate(principals):
            found = _principal(context, principal, at.down(f"{role}s", index))
            if found is not None:
                ids[f"{role}_{found[0]}"].append(found[1])
    return AccessSpec(**{key: tuple(dict.fromkeys(numbers)) for key, numbers in ids.items()})


def _principal(context: Context, who: str | int, at: At) -> tuple[str, int] | None:
    """Return ("uids" or "gids", number) for `"user:NAME"`, `"group:NAME"` or a user id; None after a problem."""
    if isinstance(who, int):
        return "uids", who
    kind, colon, name = who.partition(":")
    if kind not in ("user", "group") or not name:
        near = did_you_mean(kind, ("user", "group")) if colon else f'did you mean "user:{who}" or "group:{who}"?'
        at.wrong(f'must be "user:NAME", "group:NAME" or a user id, not "{who}"', near)
        return None
    named: str | int = int(name) if re.fullmatch("[0-9]{1,9}", name) else name
    if kind == "group":
        number = context.group(named, at)
        return None if number is None else ("gids", int(number))
    user = context.user(named, at)
    return None if user is None else ("uids", int(user.uid))
