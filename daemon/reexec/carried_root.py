"""
What only the root is, besides being a supervisor: the other half of what goes through its exec.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from regrow.config.spec import Plan, SupervisorSpec
from regrow.daemon.books import Written
from regrow.daemon.commons import Members
from regrow.daemon.control import Client
from regrow.daemon.deploying.deployed import Deployed
from regrow.daemon.events import Log
from regrow.daemon.exit_reason import Awaited
from regrow.daemon.listen import Listening
from regrow.daemon.reexec.carried import unreadable, written
from regrow.daemon.streams import Held
from regrow.daemon.system import Wanted
from regrow.daemon.tree import Grown


class Progress(Struct, frozen=True):
    """
    A re-execution under way, whose `program` is an argv: who is `left` to follow the root, and who has done so.

    `fd` is that of the connection on which the answer is awaited (-1: nobody waits), `id` its request; `version` is
    what ran before; `applies` says that the files are to be applied when it is over.
    """

    program: tuple[str, ...]
    version: str
    began_s: float
    left: tuple[str, ...]
    done: tuple[str, ...] = ()
    fd: int = -1
    id: Any = None
    applies: bool = False


class Root(Struct, frozen=True):
    """What only the root knows. `watchdog_s` is how often the service manager at `notify` wants to hear of it."""

    plan: Plan
    lock_fd: int
    members: Members
    wanted: Wanted
    system: SupervisorSpec
    top: SupervisorSpec
    tree: Grown
    log: Log
    written: Written
    streams: Held
    streams_fd: int
    arriving_fd: int
    listener_fd: int
    clients: tuple[Client, ...]
    awaited: tuple[Awaited, ...]
    listening: Listening
    deployed: Deployed
    requests: int
    notify: str
    watchdog_s: float
    progress: Progress


encode = written


def decode(data: bytes) -> Root:
    """
    Read what an old program wrote.

    Raises:
        Incompatible: it is damaged.
    """
    try:
        return msgspec.msgpack.decode(data, type=Root)
    except msgspec.MsgspecError as error:
        raise unreadable(error) from None


def descriptors(root: Root) -> set[int]:
    """All that must stay open through the exec, besides those of the supervisor."""
    found = {root.lock_fd, root.streams_fd, root.arriving_fd, root.listener_fd}
    found |= {stream.fd for stream in root.streams.streams.values()} | {client.fd for client in root.clients}
    found |= {one.fd for one in (*root.listening.held.values(), *root.listening.retired.values())}
    return found - {-1}
