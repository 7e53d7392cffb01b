"""
What the service manager is told so that it knows whether supervision works, and lets a long start or stop go on.

A watchdog that only ticks would say that the root's loop turns. Here every supervisor of the tree is asked for
something small, by the way that all requests go, and WATCHDOG=1 is said when all have answered. One that does not is
killed, so that its own supervisor repairs its subtree; only when that does not help, the manager ends the daemon.

Source: sd_notify(3) WATCHDOG=1 and EXTEND_TIMEOUT_USEC=, sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from regrow.config.spec import Kind
from regrow.daemon.channel_messages import ReplyUp
from regrow.daemon.core.events import CountChildren
from regrow.daemon.linux import identity, kernel
from regrow.daemon.loop import Timer
from regrow.daemon.tell import complain

if TYPE_CHECKING:
    from regrow.daemon.root import Root

TICKS = 4
"""Rounds within the manager's time. Somebody is deaf at the second tick after the question, so half of it is left."""

DEAF_TICKS = 2
"""Not one: after a pause of the whole machine the root may run before those that it has asked."""

EXTEND_EVERY_S, EXTENSION_S = 10.0, 30.0


class Alive:
    """
    Of one root; `begin` in its first moment, `ending` when it begins to stop.

    `within_s` is how often the manager wants to hear, 0 for never.
    """

    def __init__(self, root: Root, tell: Callable[[str], None], within_s: float) -> None:
        self._root = root
        self._tell = tell
        self._tick_s = within_s / TICKS
        self._unheard: set[str] = set()
        self._age = 0
        self._status = ""
        self._extending: Timer | None = None

    def begin(self) -> None:
        """From now on until the end of the process."""
        self._extend()
        if self._tick_s:
            self._tick()

    def ending(self) -> None:
        """The stop takes as long as the `shutdown` times in the file let it."""
        if self._extending is not None:
            self._extending.cancel()  # of the start, which may have been over for a while
        self._extend()

    def _extend(self) -> None:
        if self._root.state != "running":
            self._tell(f"EXTEND_TIMEOUT_USEC={int(EXTENSION_S * 1e6)}")
            self._extending = self._root.loop.call_later(EXTEND_EVERY_S, self._extend)

    def _tick(self) -> None:
        self._root.loop.call_later(self._tick_s, self._tick)
        self._age += 1
        if not self._unheard:
            self._ask()
        elif self._age >= DEAF_TICKS:
            self._end_deaf()

    def _ask(self) -> None:
        """All supervisors that have been ready: one that still imports what it is to preload cannot answer yet."""
        asked = [
            node.name
            for node in self._root.tree.nodes.values()
            if node.kind is Kind.SUPERVISOR and node.ready and self._root.state == "running"
        ]
        self._unheard, self._age = set(asked), 0
        for name in asked:
            self._root.asking.ask(name, CountChildren, partial(self._heard, name))
        if not asked:
            self._feed()

    def _heard(self, name: str, _reply: ReplyUp) -> None:
        """It has answered, or ended: then whoever is above it does what is to be done."""
        self._unheard.discard(name)
        if not self._unheard:
            self._feed()

    def _feed(self) -> None:
        status = self._root.books.status_line() if self._root.state == "running" else ""
        changed, self._status = status not in ("", self._status), status
        self._tell(f"WATCHDOG=1\n{status}" if changed else "WATCHDOG=1")

    def _end_deaf(self) -> None:
        """Kill those that do not answer, but none below another that does not: that may have passed nothing on."""
        nodes = self._root.tree.nodes
        for name in sorted(self._unheard):
            node = nodes.get(name)
            if node is None or node.pid is None:
                self._unheard.discard(name)  # it has left the tree, and the question with it
            elif node.parent not in self._unheard and self._kill(node.pid, name, node.incarnation):
                text = f"supervisor {name} (pid {node.pid}) has not answered for {self._age * self._tick_s:g} s: killed"
                complain(text)
                self._root.books.daemon_event("fault", text)

    def _kill(self, pid: int, name: str, incarnation: int) -> bool:
        """Whether exactly that supervisor was still there; the pid of one that has just ended is somebody else's."""
        try:
            pidfd = kernel.pidfd_open(pid)
        except OSError:
            return False
        try:
            marker = identity.read_marker(pid)
            ours = marker is not None and marker.token == self._root.runtime.context.token
            if marker is None or not ours or marker.name not in ("", name) or marker.incarnation != incarnation:
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(pidfd)
        return True

