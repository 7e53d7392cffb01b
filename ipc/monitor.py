"""
Being told of a death, once.

Source: otp-rules S200-S211.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from regrow.ipc.down import Down
from regrow.ipc.verbs import deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from regrow.ipc.peers import Peer
    from regrow.ipc.seeker import Seeker


class Monitor:
    """
    One monitor of one incarnation of one process; leaving its `with` block is `demonitor(flush=True)`.

    `done` is True once `down` is there or the monitor was removed; `down` says of what the process died.
    """

    __slots__ = ("_node", "callback", "done", "down", "incarnation", "name", "peer", "pid")

    def __init__(self, node: Seeker, name: str, peer: Peer | None) -> None:
        self._node = node
        self.name = name
        self.peer = peer
        self.incarnation = peer.record.incarnation if peer is not None else 0
        self.pid = peer.record.pid if peer is not None else 0
        self.down: Down | None = None
        self.done = False
        self.callback: Callable[[], None] | None = None

    def wait(self, timeout: float = 60.0) -> Down | None:
        """
        Wait for the death; None after `timeout` seconds without it, or once the monitor is removed.

        Raises:
            ValueError: the timeout is negative, or no number.
        """
        self._node.wait(self, deadline(timeout))
        if self.down is not None:
            self._node.heard(self.down)
        return self.down

    def demonitor(self, flush: bool = True) -> bool:
        """
        Be told no more; harmless when repeated.

        Returns:
            Whether a monitor was removed: False when the death was told already, or it was removed before (S208).
            `flush` also takes back a Down that nobody has looked at yet (S206, S207).
        """
        return self._node.demonitor(self, flush)

    def settle(self, down: Down | None) -> None:
        """Only the node calls this."""
        self.down = down
        self.done = True
        self.peer = None
        if self.callback is not None:
            self.callback()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.demonitor()
