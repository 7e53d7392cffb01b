"""
What a supervisor is, in full: the value that goes through an exec, and the format that it has.

A program takes up what has its own `FORMAT`, and refuses everything else before anything has changed: the new program
makes the check, on the real values, while the old one still runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from regrow.config.spec import ChildSpec, Plan, SupervisorSpec
from regrow.config.version import VERSION
from regrow.daemon.books import Written
from regrow.daemon.channel import LastWordUp, Link
from regrow.daemon.commons import Members
from regrow.daemon.context import Context
from regrow.daemon.control import Client
from regrow.daemon.core.state import SupervisorState
from regrow.daemon.events import Log
from regrow.daemon.exit_reason import Awaited
from regrow.daemon.linux.identity import Marker
from regrow.daemon.streams import Held
from regrow.daemon.system import Wanted
from regrow.daemon.timers import Armed
from regrow.daemon.tree import Grown

FORMAT = 1
"""To be raised with every change of a type below, of the messages between supervisors, or of the core's state."""


class Child(Struct, frozen=True):
    """A living child process; for the fields see `Process`. Descriptors are -1 where there is none."""

    name: str
    incarnation: int
    spec: ChildSpec
    pid: int
    status_fd: int
    running: bool
    told_to_stop: bool
    exception: str
    failure: tuple[str, int, str] | None
    last_word: LastWordUp | None
    group: str
    oom_kills: int
    stacks_fd: int
    env: Mapping[str, str]
    link: Link | None


class Supervisor(Struct, frozen=True):
    """
    One supervisor. `up` is its end towards its parent, None for the root. `inherited` and `incarnations` are the
    numbers that its relay knows; `strangers` and `below` what its search for leftovers knows. `answers` is the request
    that is to be answered after the exec, 0 for none.
    """

    context: Context
    path: str
    own: Marker
    group: str
    state: SupervisorState
    children: tuple[Child, ...]
    timers: tuple[Armed, ...]
    notify_fd: int
    inherited: Mapping[str, int]
    incarnations: Mapping[str, Mapping[str, int]]
    strangers: tuple[int, ...]
    below: tuple[int, ...]
    up: Link | None = None
    answers: int = 0


class Progress(Struct, frozen=True):
    """
    A re-execution under way, whose `program` is an argv: who is `left` to follow the root, and who has done so.

    `fd` is that of the connection on which the answer is awaited (-1: nobody waits), `id` its request; `version` is
    what ran before.
    """

    program: tuple[str, ...]
    version: str
    began_s: float
    left: tuple[str, ...]
    done: tuple[str, ...] = ()
    fd: int = -1
    id: Any = None


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
    requests: int
    notify: str
    watchdog_s: float
    progress: Progress


class Carried(Struct, frozen=True):
    """All that goes through one exec."""

    format: int
    version: str
    supervisor: Supervisor
    root: Root | None = None


class Incompatible(Exception):
    """What another program wrote cannot be taken up by this one."""


class _Head(Struct, frozen=True):
    format: int
    version: str


def encode(supervisor: Supervisor, root: Root | None = None) -> bytes:
    """What `decode` reads."""
    return msgspec.msgpack.encode(Carried(FORMAT, VERSION, supervisor, root))


def decode(data: bytes) -> Carried:
    """
    Read what an old program wrote.

    Raises:
        Incompatible: it has another format, or is damaged.
    """
    try:
        head = msgspec.msgpack.decode(data, type=_Head)
        if head.format != FORMAT:
            raise Incompatible(
                f"regrow {VERSION} takes up state of format {FORMAT}, and that of regrow {head.version} is of format "
                f"{head.format}: stop the daemon and start it again"
            )
        return msgspec.msgpack.decode(data, type=Carried)
    except msgspec.MsgspecError as error:
        raise Incompatible(f"regrow {VERSION} cannot read the state of the running daemon: {error}") from None


def descriptors(supervisor: Supervisor, root: Root | None = None) -> set[int]:
    """All that must stay open through the exec."""
    context = supervisor.context
    found = {*context.devnull, context.logger_fd, context.outputs_fd, supervisor.notify_fd}
    for child in supervisor.children:
        found |= {child.status_fd, child.stacks_fd, child.link.fd if child.link is not None else -1}
    if supervisor.up is not None:
        found.add(supervisor.up.fd)
    if root is not None:
        found |= {root.lock_fd, root.streams_fd, root.arriving_fd, root.listener_fd}
        found |= {stream.fd for stream in root.streams.streams.values()} | {client.fd for client in root.clients}
    return found - {-1}
