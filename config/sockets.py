"""The [socket.X] tables: where the daemon listens for its workers, and who gets that."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from regrow.config.context import Context
from regrow.config.errors import did_you_mean, nearest
from regrow.config.keys import SOCKET
from regrow.config.probes import LONGEST_SOCKET_PATH
from regrow.config.sources import Source, Tables
from regrow.config.spec import Probe, ReadyKind, SocketSpec
from regrow.config.system import User
from regrow.config.values import NAME_PATTERN, At

ADDRESSES = ("tcp", "unix")

MOST_SOCKETS = 128
"""What the unit lets systemd keep: FileDescriptorStoreMax=."""

SYSTEMDS_WORDS = ("connection", "stored", "unknown")
"""How systemd calls descriptors that nobody has named, sd_listen_fds_with_names(3)."""

OURS = ("command.sock", "control.sock", "hub.api", "identity", "lock", "mbox", "names", "store")
"""What the daemon itself has in its run_dir."""

_EVERYWHERE = {"0.0.0.0": 4, "::": 0}
_OF_FILES = ("mode", "user", "group")


def read_sockets(context: Context, tables: Tables) -> tuple[SocketSpec, ...]:
    """Return the sockets of all files in their order; what is wrong with them has been reported."""
    found: list[SocketSpec] = []
    for name, table in tables.sockets.items():
        source = tables.owner["socket", name]
        spec = _read_socket(context, source, name, table)
        if spec is None:
            continue
        for other in found:
            if overlap(spec, other):
                said = f"{spec.address} is where [socket.{other.name}] listens already"
                context.at(source, ("socket", name)).wrong(said, code="duplicate_address")
        found.append(spec)
    if len(tables.sockets) > MOST_SOCKETS:
        last = list(tables.sockets)[MOST_SOCKETS]
        at = context.at(tables.owner["socket", last], ("socket", last))
        at.wrong(f"there are {len(tables.sockets)} sockets, at most {MOST_SOCKETS} are possible", code="invalid_socket")
    return tuple(found)


def _read_socket(context: Context, source: Source, name: str, table: dict[str, Any]) -> SocketSpec | None:
    at = context.at(source, ("socket", name), name=name)
    if not re.search(NAME_PATTERN, name):
        at.wrong("a name has small letters, digits, _ and -, and begins with a letter", code="invalid_name")
    if name in SYSTEMDS_WORDS:
        at.wrong(f"`{name}` is what systemd calls descriptors without a name", "choose another", "invalid_name")
    fields: dict[str, Any] = SOCKET.read(table, at)
    written = [kind for kind in ADDRESSES if kind in table]
    if len(written) != 1:
        said = f"{' and '.join(written)} exclude one another" if written else "says not where to listen"
        at.wrong(said, "exactly one of tcp, unix", "bad_combination" if written else "missing_key")
        return None
    if written[0] not in fields:
        return None
    backlog = {"backlog": fields["backlog"]} if "backlog" in fields else {}
    path = _path(context, at, fields["unix"]) if "unix" in fields else ""
    for key in _OF_FILES:
        if key in table and not path.startswith("/"):
            at.down(key).wrong(f"`{key}` is for sockets that have a file", 'unix = "/…"', "bad_combination")
    if "tcp" in fields:
        host, port = fields["tcp"]
        return SocketSpec(name, host=_numeric(context.host(host, at.down("tcp"))), port=port, **backlog)
    uid, gid = _owner(context, at, fields)
    mode = {"mode": fields["mode"]} if "mode" in fields else {}
    return SocketSpec(name, path=path, uid=uid, gid=gid, **mode, **backlog)


def _numeric(host: str) -> str:
    """Write an address in the one way, so that two can be compared; a name that could not be resolved as it is."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _path(context: Context, at: At, written: str) -> str:
    """Return the absolute path; relative ones begin in the folder of the file."""
    if written.startswith("@"):
        return written
    path = os.path.normpath(os.path.join(at.source.folder, written))
    if len(path.encode()) > LONGEST_SOCKET_PATH >= len(written.encode()):
        at.down("unix").wrong(f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes, {path} has more")
    folder, file = os.path.split(path)
    if file in OURS and folder == context.dirs.get("run_dir"):
        at.down("unix").wrong(f"{path} is the daemon's own", "choose another name")
    return path


def _owner(context: Context, at: At, fields: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the numbers of user and group, None for the daemon's own."""
    user: User | None = context.user(fields["user"], at.down("user")) if "user" in fields else None
    gid: int | None = context.group(fields["as_group"], at.down("group")) if "as_group" in fields else None
    if user is not None and "as_group" not in fields:
        gid = user.gid
    uid = user.uid if user is not None else None
    if os.geteuid() != 0 and context.check_system:
        if uid not in (None, os.geteuid()):
            at.down("user").wrong("only a daemon that runs as root can give a socket to another user")
        elif gid is not None and gid not in (os.getegid(), *os.getgroups()):
            at.down("group").wrong("only a daemon that runs as root can give a socket to a group it is not in")
    return uid, gid


def overlap(one: SocketSpec, other: SocketSpec) -> bool:
    """Say whether only one of them can listen. `::` listens for IPv4 too, and so overlaps with everything."""
    if one.path or other.path:
        return one.path == other.path
    if one.port != other.port:
        return False
    return one.host == other.host or _takes_in(one.host, other.host) or _takes_in(other.host, one.host)


def _takes_in(wide: str, host: str) -> bool:
    family = _EVERYWHERE.get(wide)
    return family is not None and (family == 0 or ":" not in host)


def check_used(context: Context, at: At, names: Sequence[str], open_files: int | None) -> None:
    """Report names in `sockets` of a worker that are none, or are there twice, or for which there is no room."""
    if open_files is not None and 0 <= open_files < 3 + len(names):
        said = f"there is no room for {len(names)} sockets beside the standard streams: open_files is {open_files}"
        at.wrong(said, code="bad_combination")
    for index, name in enumerate(names):
        if name not in context.socket_names:
            hint = did_you_mean(name, context.socket_names) or f"write [socket.{name}]"
            at.down(index).wrong(f"there is no socket `{name}`", hint, "unknown_socket")
        elif name in names[:index]:
            at.down(index).wrong(f"`{name}` is listed twice")


def check_probe(sockets: Iterable[SocketSpec], probe: Probe, at: At) -> None:
    """Report a probe that only connects to what the daemon itself holds: there a connection is always taken."""
    if probe.kind not in (ReadyKind.TCP, ReadyKind.UNIX):
        return
    for spec in sockets:
        if overlap(spec, SocketSpec("", host=_numeric(probe.host), port=probe.port, path=probe.path)):
            said = f"the daemon itself listens there ([socket.{spec.name}]): a connection says nothing of the worker"
            at.wrong(said, "use notify, http or exec", "bad_combination")


def check_unused(context: Context, tables: Tables) -> None:
    """Report sockets that no worker gets, where none can come at run time that does."""
    if any(table.get("strategy") == "dynamic" for table in tables.supervisors.values()):
        return
    lists = [table.get("sockets") for table in tables.workers.values()]
    lists = [[names] if isinstance(names, str) else names for names in lists]
    used = {name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)}
    used |= {nearest(name, tables.sockets) or "" for name in used - tables.sockets.keys()}  # meant by a wrong name
    for name in tables.sockets:
        if name not in used:
            hint = f'write sockets = ["{name}"] in the table of a worker'
            context.at(tables.owner["socket", name], ("socket", name)).wrong("no worker gets it", hint, "unused")
