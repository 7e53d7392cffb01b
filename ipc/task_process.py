"""
One task's process as its owner sees it: what it has sent, whether it lives, and how to end it.

The kernel is the witness of its death. What it sent before is in our socket by then, so it is read before the death is
told: a reply wins whatever the death's reason is (S246).

Source: unix(7); pidfd_open(2), pidfd_send_signal(2); otp-rules S232, S246.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from regrow.ipc.control import ControlClient
from regrow.ipc.down import NOCONNECTION, Down
from regrow.ipc.errors import CallTimeout, ControlError
from regrow.ipc.task_wire import Frame, TooLong

if TYPE_CHECKING:
    from regrow.ipc.node import Node

PIECE_BYTES = 1 << 16


class Moment:
    """Something that happens once, and can be waited for."""

    __slots__ = ("callback", "done")

    def __init__(self) -> None:
        self.done = False
        self.callback: Callable[[], None] | None = None

    def comes(self) -> None:
        self.done = True
        if self.callback is not None:
            self.callback()


class TaskProcess:
    """
    `outcome` comes with the reply, or else with the death; `death` with the death. `told` is called, with the node's
    lock held, at the death.

    Args:
        quiet: an agent is not told of its death by `on_down`.
    """

    def __init__(self, node: Node, supervisor: str, name: str, pid: int, *, quiet: bool) -> None:
        self.node = node
        self.supervisor = supervisor
        self.name = name
        self.pid = pid
        self.value: bytes | None = None
        self.down: Down | None = None
        self.outcome = Moment()
        self.death = Moment()
        self.told: Callable[[TaskProcess], None] | None = None
        self._quiet = quiet
        self._frame = Frame()
        self._pidfd = -1
        self._connection: socket.socket | None = None

    def died_early(self) -> None:
        """It was dead before it could be given anything."""
        with self.node.locked():
            self._dies()

    def begin(self, connection: socket.socket, pidfd: int, job: bytes, within_s: float) -> None:
        """
        Give it its job, and hear of it from now on; both descriptors are its own now.

        Raises:
            CallTimeout: it does not take its job, and was killed.
        """
        self._connection, self._pidfd = connection, pidfd
        connection.settimeout(within_s)
        try:
            connection.sendall(job, socket.MSG_NOSIGNAL)
        except TimeoutError:
            self.kill()
            self._close()
            raise CallTimeout(self.name, "its job", within_s) from None
        except OSError:
            pass  # it died, as will be heard
        connection.setblocking(False)
        self.node.watch(connection.fileno(), self)
        self.node.watch(pidfd, self)

    # what the node calls

    def heard(self) -> None:
        """Take in what it has sent, and its death."""
        dead = self._pidfd >= 0 and _is_readable(self._pidfd)
        if self._connection is not None:
            self._read(self._connection)
        if dead:
            self._dies()
        elif self.value is not None and not self.outcome.done:
            self.outcome.comes()

    def dropped(self) -> None:
        """Nobody looks any more: it may live, and what it sends is lost (S202)."""
        self._close()
        self._ends(Down(self.name, 1, reason=NOCONNECTION))

    # what its owner calls

    @property
    def is_alive(self) -> bool:
        """As far as has been heard."""
        return self._pidfd >= 0

    def look(self) -> None:
        """Take in what there is now."""
        with self.node.locked():
            self.heard()

    def mute(self) -> None:
        """Let nothing more be told: no late reply, no death, not even one that waits to be looked at (S190, S206)."""
        with self.node.locked():
            self._quiet = True
            self.told = None
            if self.down is not None:
                self.node.heard(self.down)
            if self._connection is not None:
                self._hang_up(self._connection)

    def kill(self) -> bool:
        """Kill it. False when this user may not, and its supervisor has to be asked."""
        with self.node.locked():
            if self._pidfd < 0:
                return True
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it is dead, and reaped
            except PermissionError:
                return False
            return True

    def ask_to_end(self, control: ControlClient) -> int | None:
        """Have its supervisor stop it; the number of the request, None when there is nobody to ask."""
        try:
            return control.submit("terminate_child", supervisor=self.supervisor, child=self.name)
        except ControlError:
            return None

    # the details

    def _read(self, connection: socket.socket) -> None:
        try:
            while piece := connection.recv(PIECE_BYTES):
                if self._frame.feed(piece):
                    self.value = self._frame.payload
                    break
        except BlockingIOError:
            return
        except (OSError, TooLong):
            pass  # it sends nothing that could be used
        self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        self.node.unwatch(connection.fileno())
        connection.close()
        self._connection = None

    def _dies(self) -> None:
        if self._connection is not None:
            self._hang_up(self._connection)
        if self._pidfd >= 0:
            self.node.unwatch(self._pidfd)
        self._close()
        down = Down(self.name, 1, self.node.explain)
        if self.node.spec is not None and not self._quiet:
            self.node.deliver(down)
        self._ends(down)

    def _ends(self, down: Down) -> None:
        self.down = down
        if not self.outcome.done:
            self.outcome.comes()
        self.death.comes()
        if self.told is not None:
            self.told(self)

    def _close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        if self._connection is not None:
            self._connection.close()
        self._pidfd, self._connection = -1, None


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
