"""
What a runner is given: where it is born, and each command that it is to run.

The first command is there when the runner is forked; each later one comes as one message, with its descriptors.

Source: unix(7), SCM_RIGHTS.
"""

from __future__ import annotations

import os
import socket
import struct

import msgspec
from msgspec import Struct

from regrow.config.spec import Limits
from regrow.ipc import commands_wire as wire
from regrow.workers.system.commands_child import Person

FREE = 64
"""The kind of frame with which a runner tells the worker that nothing of its command is left, and it may have more."""

LONGEST = 1 << 15
"""Bytes of a message; a longer one is for a runner that is forked for it."""


_FD = struct.Struct("i")


class Place(Struct, frozen=True):
    """
    Where commands run: in which namespaces, with which isolations, and how many processes they have room for.

    Of commands in the common place, a runner may run one after the other.
    """

    spaces: int
    isolate: tuple[str, ...]
    most_processes: int | None

    @property
    def is_common(self) -> bool:
        return not self.isolate


class Post(Struct, frozen=True):
    """
    What a runner has as long as it lives. `worker` is a connection that ends with the worker, `worker_ids` its user
    and group, `host_proc` /proc as the worker sees it, which stays writable when the runner's own is not.
    """

    place: Place
    worker: socket.socket
    worker_ids: tuple[int, int]
    host_proc: int
    marker: str


class Job(Struct, frozen=True):
    """
    A command that has been decided upon.

    `limits` are those that hold; `limits_group`: its control group holds that of processes; `counts_processes`: it
    must be held.
    """

    run: int
    request: wire.Request
    executable: str
    person: Person
    may_become: bool
    work_dir: str
    limits: Limits
    limits_group: bool
    counts_processes: bool
    deadline_s: float
    queued_s: float


class Lines:
    """
    The descriptors of a command: the connection to its requester, a pidfd of that, and its control group; -1 where
    there is none.
    """

    __slots__ = ("connection", "group_fd", "requester_fd")

    def __init__(self, connection: socket.socket, requester_fd: int = -1, group_fd: int = -1) -> None:
        self.connection = connection
        self.requester_fd = requester_fd
        self.group_fd = group_fd

    def numbers(self) -> list[int]:
        """Those that there are."""
        return [fd for fd in (self.connection.fileno(), self.requester_fd, self.group_fd) if fd >= 0]

    def close(self) -> None:
        self.connection.close()
        for fd in (self.requester_fd, self.group_fd):
            if fd >= 0:
                os.close(fd)


class _Message(Struct, frozen=True, array_like=True):
    job: Job
    has_requester: bool
    has_group: bool


def hand_over(waiting: socket.socket, job: Job, lines: Lines) -> bool:
    """Give a command to the runner that waits at this connection; False when that cannot be."""
    message = _message(job, lines)
    if not message:
        return False
    try:
        socket.send_fds(waiting, [message], lines.numbers(), socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def can_be_handed_over(job: Job, lines: Lines) -> bool:
    """Otherwise it is for a runner that is forked for it, and has the memory that such a command takes."""
    return bool(_message(job, lines))


def _message(job: Job, lines: Lines) -> bytes:
    """Nothing where it would be too long, or cannot be made."""
    try:
        message = msgspec.msgpack.encode(_Message(job, lines.requester_fd >= 0, lines.group_fd >= 0))
    except UnicodeEncodeError:  # a path that is no text
        return b""
    return message if len(message) <= LONGEST else b""


def take_over(worker: socket.socket) -> tuple[Job, Lines] | None:
    """Tell the worker that we are free, and wait for the next command; None when there will be no more."""
    try:
        worker.send(wire.frame(FREE), socket.MSG_NOSIGNAL)
        # Not recv_fds: it leaves out the flag, and the next program would have these descriptors.
        message, rights, _, _ = worker.recvmsg(LONGEST, socket.CMSG_SPACE(3 * _FD.size), socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None  # it has died, and so do we
    if not message:
        return None
    given = msgspec.msgpack.decode(message, type=_Message)
    left = (fd for _, _, packed in rights for (fd,) in _FD.iter_unpack(packed))
    lines = Lines(
        socket.socket(fileno=next(left)),
        next(left) if given.has_requester else -1,
        next(left) if given.has_group else -1,
    )
    return given.job, lines
