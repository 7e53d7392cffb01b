"""
What a supervisor is, in full: the value that goes through an exec, and the format that it has.

A program takes up what has its own `FORMAT`, and refuses everything else before anything has changed: the new program
makes the check, on the real values, while the old one still runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from regrow.config.spec import ChildSpec
from regrow.config.version import VERSION
from regrow.daemon.channel import Link
from regrow.daemon.channel_messages import LastWordUp
from regrow.daemon.context import Context
from regrow.daemon.core.state import SupervisorState
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.leftovers import Known
from regrow.daemon.recording import Kept
from regrow.daemon.timers import Armed

FORMAT = 5
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
    stacks: str
    link: Link | None


class Supervisor(Struct, frozen=True):
    """
    One supervisor. `up` is its end towards its parent, None for the root. `inherited` and `incarnations` are the
    numbers that its relay knows; `known` what its search for leftovers knows. `left_s` is when it let go, `answers` the
    request that is to be answered after the exec, 0 for none. `spares` is how many spares it has made, `aliases` what
    those were called that are children by now.
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
    known: Known
    record: Kept
    left_s: float
    spares: int = 0
    aliases: tuple[tuple[tuple[str, int], tuple[str, int]], ...] = ()
    up: Link | None = None
    answers: int = 0


class Carried(Struct, frozen=True):
    """All that goes through one exec; `root` is what `carried_root.decode` reads, empty for every other supervisor."""

    format: int
    version: str
    supervisor: Supervisor
    root: bytes = b""


class Incompatible(Exception):
    """What another program wrote cannot be taken up by this one."""


class _Head(Struct, frozen=True):
    format: int
    version: str


def encode(supervisor: Supervisor, root: bytes = b"") -> bytes:
    """
    What `decode` reads.

    Raises:
        Incompatible: it cannot be written down.
    """
    return written(Carried(FORMAT, VERSION, supervisor, root))


def written(value: Struct) -> bytes:
    """
    A value as it goes through an exec.

    Raises:
        Incompatible: there is something in it that has no such form, as a text that is no UTF-8.
    """
    try:
        return msgspec.msgpack.encode(value)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Incompatible(f"cannot write down the state: {error}") from None


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
        raise unreadable(error) from None


def unreadable(error: msgspec.MsgspecError) -> Incompatible:
    """What was written has the right format, and yet cannot be read."""
    return Incompatible(f"regrow {VERSION} cannot read the state of the running daemon: {error}")


def descriptors(supervisor: Supervisor) -> set[int]:
    """All that must stay open through the exec."""
    context = supervisor.context
    found = {*context.devnull, context.logger_fd, context.outputs_fd, supervisor.notify_fd, supervisor.record.fd}
    found |= set(context.sockets.values())
    for child in supervisor.children:
        found |= {child.status_fd, child.stacks_fd, child.link.fd if child.link is not None else -1}
        found |= set(child.link.fds if child.link is not None else ())
    if supervisor.up is not None:
        found.add(supervisor.up.fd)
    return found - {-1}
