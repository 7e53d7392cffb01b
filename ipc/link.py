"""
A lasting connection to a fixed place: whoever listens there, now or after its next start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regrow.ipc.node import Node


class Link:
    """
    `heard` is called with each frame that comes, `came_up` each time that the connection is there (anew); both
    under the node's lock, and must not block. `send` queues while nobody listens.
    """

    def __init__(self, node: Node, file: str, heard: Callable[[bytes], None], came_up: Callable[[], None]) -> None:
        self._node = node
        self.file = file
        self.heard = heard
        self.came_up = came_up
        self.alias = node.transport.connect(file)

    def send(self, frame: bytes) -> None:
        """
        Hand a frame over.

        Raises:
            Full: too many wait already; Gone: it was closed.
        """
        with self._node.locked():
            try:
                self._node.transport.send(self.alias, frame)
            finally:
                self._node.touched()

    def close(self) -> None:
        """End the connection."""
        with self._node.locked():
            if self._node.links.pop(self.alias, None) is not None:
                self._node.transport.disconnect(self.file)
