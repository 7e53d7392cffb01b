"""
Where the processes of one daemon find each other: `<run_dir>/names` and `<run_dir>/mbox`.

The root makes them, empty, and writes down who may enter; what is in them is the agents' own. Nobody else may: a
names table is memory that its users share, so whoever can write it can break all who read it.

Source: architecture section 6; acl(5), unix(7) on the permissions of sockets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator

from msgspec import Struct

from regrow.config.spec import AccessSpec, Kind, SupervisorSpec, WorkerSpec
from regrow.ipc import acl

NAMES, MBOX = "names", "mbox"
STORE = "store"
"""What the keeper says of the store, once that can be used: until then nobody is to find it."""

TABLE = ("data.mdb", "lock.mdb")
"""
LMDB's files. They are made here, empty, because one of the users who share them would make them his own.
"""


class Members(Struct, frozen=True):
    """
    Who may use the names and the mailboxes. `agents` are users that agents run as, besides the daemon's own.

    `uids` and `gids` include them, and neither root nor the daemon's own user, who may anyway.
    """

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    agents: frozenset[int] = frozenset()

    def listed(self) -> str:
        """All of them in the words of `REGROW_MAILBOX`: `u0,u1000,g27`."""
        users = sorted({0, os.geteuid()} | self.uids)
        return ",".join([*(f"u{uid}" for uid in users), *(f"g{gid}" for gid in sorted(self.gids))])

    def with_agent(self, spec: WorkerSpec) -> Members:
        """Also the user of an agent that came at run time."""
        users = _users_of([spec])
        return Members(self.uids | users, self.gids, self.agents | users)


def members(access: AccessSpec, workers: Iterable[WorkerSpec]) -> Members:
    """The operators, and the users of the agents among `workers`."""
    agents = _users_of(workers)
    own = {0, os.geteuid()}
    return Members(frozenset({*access.operator_uids} - own) | agents, frozenset(access.operator_gids), agents)


def _users_of(specs: Iterable[WorkerSpec]) -> frozenset[int]:
    found = {spec.credentials.uid for spec in specs if spec.kind is Kind.AGENT and spec.credentials is not None}
    return frozenset(uid for uid in found if uid is not None and uid not in (0, os.geteuid()))


def workers_in(spec: SupervisorSpec) -> Iterator[WorkerSpec]:
    """All workers below `spec`, as the file has them."""
    for child in spec.children:
        if isinstance(child, SupervisorSpec):
            yield from workers_in(child)
        else:
            yield child


def make(run_dir: str, who: Members) -> str:
    """
    Make both places, empty. Returns what the operator should know, empty when all is well.

    Raises:
        OSError: run_dir is unusable.
    """
    names, mbox = os.path.join(run_dir, NAMES), os.path.join(run_dir, MBOX)
    os.mkdir(names, 0o700)
    for name in TABLE:
        os.close(os.open(os.path.join(names, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.mkdir(mbox, 0o700)
    os.chmod(mbox, 0o1700)  # sticky: of several users, none removes the mailbox of another
    return admit(run_dir, who)


def admit(run_dir: str, who: Members) -> str:
    """
    From now on let these in. Returns what the operator should know, empty when all is well.

    The table can be read and written by each of them, its folder only be passed: nobody can put another file in its
    place. In `mbox` only the users of agents make files; each mailbox then says itself who may send to it.
    """
    names, mbox = os.path.join(run_dir, NAMES), os.path.join(run_dir, MBOX)
    try:
        acl.permit(names, 7, dict.fromkeys(who.uids, 1), dict.fromkeys(who.gids, 1))
        for name in TABLE:
            acl.permit(os.path.join(names, name), 6, dict.fromkeys(who.uids, 6), dict.fromkeys(who.gids, 6))
        users = {uid: 7 if uid in who.agents else 1 for uid in who.uids}
        acl.permit(mbox, 7, users, dict.fromkeys(who.gids, 1))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            return f"cannot say who may use {names} and {mbox}: {error.strerror or error}"
        if who.uids or who.gids:
            return (
                f"only the daemon's own user and root can send messages: {run_dir} is on a file system without access "
                "control lists; choose another [daemon] run_dir"
            )
    return ""


def remove(run_dir: str) -> None:
    """Remove both places and all that is in them, whoever made it, and `store`; what is not there is no error."""
    for place in (NAMES, MBOX, STORE):
        path = os.path.join(run_dir, place)
        try:
            for _, folders, files, fd in os.fwalk(path, topdown=False, follow_symlinks=False):
                for name in (*files, *folders):
                    _remove_at(name, fd)
            os.rmdir(path)
        except NotADirectoryError:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _remove_at(name: str, folder_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=folder_fd)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=folder_fd)
    except FileNotFoundError:
        pass
