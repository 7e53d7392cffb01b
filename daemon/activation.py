"""
The sockets that a service manager passes: those of its .socket units, and those that an earlier root has left with it.

What this root has bound itself it stores under a name that no .socket unit of ours has, so that the two can be told
apart: where a unit and the file disagree, a person has to decide; what is stored for an address that the file does
not have any more is of no use.

Source: sd_listen_fds(3), systemd.socket(5) FileDescriptorName=, sd_notify(3) FDSTORE=1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from msgspec import Struct

from regrow.config.spec import SocketSpec
from regrow.daemon.errors import ListenError
from regrow.daemon.linux import listening

FIRST_FD = 3
MOST_FDS = 4096
STORED = "regrow."
"""What the names of stored sockets begin with; no name of a socket has a dot."""


class Passed(Struct, frozen=True):
    """A descriptor and its name; `address` is empty for what is no listening stream socket."""

    fd: int
    name: str
    address: str

    @property
    def stored(self) -> bool:
        """Whether an earlier root has left it."""
        return self.name.startswith(STORED)


def passed(environ: Mapping[str, str], pid: int, own_fd: int) -> list[Passed]:
    """
    What was passed to the process `pid`, which is this one; nothing where that is unclear.

    `own_fd` is ours, whatever the environment says.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    try:
        count = int(environ.get("LISTEN_FDS", ""))
    except ValueError:
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(min(max(count, 0), MOST_FDS)):
        fd = FIRST_FD + index
        if fd == own_fd:
            continue
        try:
            os.set_inheritable(fd, False)
        except OSError:
            continue  # not there
        found.append(Passed(fd, names[index] if index < len(names) else "unknown", listening.address_of(fd)))
    return found


def match(wanted: Sequence[SocketSpec], there: Sequence[Passed]) -> dict[str, Passed]:
    """
    Find for each socket of the file what was passed for it: by its name, otherwise by its address.

    Raises:
        ListenError: a unit has the name of a socket, and listens somewhere else.
    """
    names = {spec.name: spec for spec in wanted}
    found: dict[str, Passed] = {}
    for one in there:
        if one.name in names:
            _check(names[one.name], one)
            found.setdefault(one.name, one)
    taken = {one.fd for one in found.values()}
    addresses = {spec.address: spec.name for spec in wanted if spec.name not in found}
    for one in there:
        if one.fd not in taken and one.address in addresses:
            found.setdefault(addresses[one.address], one)
    return found


def _check(spec: SocketSpec, one: Passed) -> None:
    if one.address == spec.address:
        return
    where = f"listens at {one.address}" if one.address else "is no listening stream socket"
    raise ListenError(
        f"cannot use the socket {one.name} that the service manager has passed: it {where}, "
        f"and [socket.{spec.name}] says {spec.address}; make them agree"
    )
