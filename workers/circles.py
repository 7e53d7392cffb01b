"""
Agents that wait for each other: found where the circle closes, so that a time-out can name it.

Each call carries the names of those who wait for its answer. One that reaches an agent which is among them, while
that agent's handler runs, will not be answered before its caller is.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from regrow.ipc.mailbox import Envelope

if TYPE_CHECKING:
    from regrow.ipc.node import Node


class Circles:
    """Looks at what waits in the mailbox. Used by the doorkeeper's thread, while a handler takes long."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seen = 0

    def look(self) -> None:
        """Look through what has been accepted since the last look."""
        mailbox = self._node.mailbox
        if mailbox.accepted == self._seen:
            return
        with self._node.locked():
            new, self._seen = mailbox.accepted - self._seen, mailbox.accepted
            for item in islice(reversed(mailbox.waiting), new):
                if isinstance(item, Envelope) and self._node.name in item.chain:
                    self._close(item)

    def _close(self, item: Envelope) -> None:
        """Let both time-outs name the circle: that of its last call, and that of our own call, which began it."""
        node = self._node
        node.waiting(item)
        circle = (*item.chain[item.chain.index(node.name) :], node.name)
        for peer in node.peers.by_process.values():
            if peer.record.name == circle[1]:
                for pending in peer.ledger.open.values():
                    pending.cycle = circle
