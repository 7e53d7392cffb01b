"""
The processes that this one has to do with: found by name, witnessed by the kernel, each with its ledger.

Source: architecture section 6 (names, monitors); pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from regrow.ipc.delivery import Ledger

if TYPE_CHECKING:
    from regrow.ipc.monitor import Monitor
    from regrow.ipc.names import Record


LATELY_S = 0.001
"""
How long a peer that has lived is taken to live. Between the kill of an agent and its successor's name were 3.6 ms at
least with a spare, of 160, and 11 without: who finds the dead one within this time would mostly find nobody else, and
is told `ProcessDown` instead of `NoProcess`.
"""


class Peer:
    """
    One incarnation of one process. `alias` is the connection to its mailbox, empty when none was needed.

    `dying_since` is set (monotonic seconds) from the moment when the kernel reports its death until all that it sent
    has been taken in.
    """

    __slots__ = ("_known_until_s", "_poll", "alias", "dying_since", "ledger", "monitors", "pidfd", "record")

    def __init__(self, record: Record, pidfd: int, limit: int) -> None:
        self.record = record
        self.pidfd = pidfd
        self.alias = b""
        self.ledger = Ledger(limit)
        self.monitors: list[Monitor] = []
        self.dying_since: float | None = None
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        self._poll = poll.poll
        self._known_until_s = 0.0

    def is_dead(self) -> bool:
        """What the kernel says now, whatever has been heard so far."""
        return bool(self._poll(0))

    def lived_lately(self) -> bool:
        """
        Whether it lives, or did so `LATELY_S` ago: asking the kernel takes a tenth of what sending takes.

        Who dies in between is told of as one who dies right after the message was sent.
        """
        now_s = time.monotonic()
        if now_s < self._known_until_s:
            return True
        if self._poll(0):
            return False
        self._known_until_s = now_s + LATELY_S
        return True

    @property
    def key(self) -> tuple[int, int]:
        return self.record.pid, self.record.started


class Peers:
    """All peers: by process, by name, by connection, by descriptor. A peer is in all of them or in none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.by_process: dict[tuple[int, int], Peer] = {}
        self.by_name: dict[str, Peer] = {}
        self.by_alias: dict[bytes, Peer] = {}
        self.by_pidfd: dict[int, Peer] = {}
        self.dying: list[Peer] = []
        self.pidfds: set[int] = set()
        """All that are open, of the dying as well; refers to nobody."""

    def meet(self, record: Record) -> Peer | None:
        """The peer of this record; None when its process is dead."""
        known = self.by_process.get((record.pid, record.started))
        if known is not None:
            if not known.record.mailbox:
                known.record = record  # it was met when it had none yet
            return None if known.is_dead() else known
        pidfd = record.open_pidfd()
        if pidfd < 0:
            return None
        peer = Peer(record, pidfd, self._limit)
        if peer.is_dead():  # a zombie
            os.close(pidfd)
            return None
        self.pidfds.add(pidfd)
        self.by_process[peer.key] = peer
        self.by_pidfd[pidfd] = peer
        return peer

    def connected(self, peer: Peer, alias: bytes) -> None:
        """From now on it is reached by this connection; what comes by an earlier one is nobody's."""
        self.by_alias.pop(peer.alias, None)
        peer.alias = alias
        self.by_alias[alias] = peer

    def dies(self, pidfd: int, now_s: float) -> None:
        """The kernel says that this one is dead; it is no longer found by its name."""
        peer = self.by_pidfd.pop(pidfd, None)
        if peer is not None:
            peer.dying_since = now_s
            self.unname(peer)
            self.dying.append(peer)

    def unname(self, peer: Peer) -> None:
        """It is no longer found by its name."""
        self.by_name = {name: other for name, other in self.by_name.items() if other is not peer}

    def forget(self, peer: Peer) -> None:
        """Nothing more is expected of it."""
        self.by_process.pop(peer.key, None)
        self.by_alias.pop(peer.alias, None)
        self.by_pidfd.pop(peer.pidfd, None)
        self.unname(peer)
        if peer in self.dying:
            self.dying.remove(peer)
        self.pidfds.discard(peer.pidfd)
        os.close(peer.pidfd)

    def clear(self) -> list[Peer]:
        """Forget all; returns them, for what they still owe."""
        peers = list(self.by_process.values())
        for peer in peers:
            self.forget(peer)
        return peers
