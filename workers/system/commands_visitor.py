"""
One who has connected to have a command run: who it is, as the kernel says, and what it asks for.
"""

from __future__ import annotations

import os
import shlex
import socket
import time

import msgspec

from regrow.ipc import commands_wire as wire
from regrow.ipc.process import parent_of
from regrow.workers.system import commands_calls as calls
from regrow.workers.system.commands_child import Person

ASKING_S = 5.0
"""How long a request may take to arrive."""

SHOWN = 300
"""How much of a command line events show."""

_DEPTH = 10_000


class Visitor:
    """
    A connection. `arrived_s` is when its request was complete, in monotonic seconds; the worker sets `is_operator`.

    Raises:
        OSError: it has gone already.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)
        self.pid, self.uid, self.gid = calls.peer_of(connection)
        self.groups = calls.peer_groups(connection)
        self.pidfd = calls.peer_pidfd(connection, self.pid)
        self.request: wire.Request | None = None
        self.is_operator = False
        self.arrived_s = time.monotonic()
        self.due_s = self.arrived_s + ASKING_S
        self._frames = wire.Frames()

    def receive(self) -> bool:
        """
        Take in what has come of the request, and nothing behind it. Returns whether it is complete.

        Raises:
            OSError, Malformed: it never will be.
        """
        while self.request is None:
            try:
                piece = self.connection.recv(min(self._frames.lacks, 1 << 18))
            except BlockingIOError:
                return False
            if not piece:
                raise ConnectionResetError
            for kind, payload in self._frames.feed(piece):
                self._take(kind, payload)
        return True

    def _take(self, kind: int, payload: bytes) -> None:
        if kind != wire.RUN:
            raise wire.Malformed(f"a frame of kind {kind} before a request")
        try:
            self.request = msgspec.msgpack.decode(payload, type=wire.Request)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise wire.Malformed(str(error)) from None
        self.arrived_s = time.monotonic()
        self.due_s = self.arrived_s + self.request.timeout_s

    def is_below(self, root: int) -> bool:
        """Whether it is a process of the tree of `root`; when that cannot be told, it is taken for one."""
        pid = self.pid
        for _ in range(_DEPTH):
            if pid == root:
                return True
            if pid <= 1:
                return False
            try:
                pid = parent_of(pid)
            except OSError:
                return True
        return True

    @property
    def person(self) -> Person:
        """Whose rights its commands have: its own, unless the daemon can give none but those that it has itself."""
        if os.geteuid() != 0:
            return Person(os.geteuid(), os.getegid(), ())
        return Person(self.uid, self.gid, self.groups, is_change=self.uid != os.geteuid())

    @property
    def who(self) -> str:
        """For events."""
        name = plain(self.request.by) if self.request is not None and self.request.by else "a process"
        return f"{name[:100]} (pid {self.pid}, uid {self.uid})"

    def refuse(self, code: str, text: str, length: int = 0, limit: int = 0) -> None:
        """Say no, as far as it listens, and let it go."""
        self.answer(wire.pack(wire.REFUSED, wire.Refusal(code, text, length, limit)))

    def answer(self, said: bytes) -> None:
        """Say the last that there is to say, and let it go."""
        try:
            self.connection.send(said, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has gone
        self.close()

    def close(self) -> None:
        self.connection.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def shown(request: wire.Request) -> str:
    """A command line as one line of text that a shell would read."""
    texts = (argument[:SHOWN].decode(errors="backslashreplace") for argument in request.argv[:SHOWN])
    line = " ".join(shlex.quote(plain(text)) for text in texts)
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def plain(text: str) -> str:
    """Text without what would end a line or steer a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
