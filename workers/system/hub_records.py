"""
The subscribers that outlive their connections, and the hub: processes of this host that have recorded themselves.
"""

from __future__ import annotations

from regrow.ipc import subscriptions
from regrow.ipc.names import Names
from regrow.ipc.subscriptions import Recorded
from regrow.workers.system.hub_board import Board, Subscriber
from regrow.workers.system.hub_watch import Death, Watch


class RecordedSubscribers:
    """All of them, by token. Each stays until its process says that it wants no more, or is dead."""

    def __init__(self, names: Names, board: Board, watch: Watch) -> None:
        self._names = names
        self._board = board
        self._watch = watch
        self._known: dict[str, tuple[Subscriber, Recorded, Death]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def load(self) -> None:
        """What a new hub begins with. Records of the dead are removed; those of whom nothing is known stay."""
        for token, recorded in list(subscriptions.read_all(self._names.env)):
            try:
                if recorded is None or self._adopt(token, recorded) is None:
                    subscriptions.remove(self._names.env, token)
            except OSError:
                pass  # too many open files: it is adopted when it connects

    def claim(self, token: str, pid: int) -> Subscriber | None:
        """The subscriber of that token, if it is that process's, as far as can be told."""
        known = self._known.get(token)
        if known is not None:
            return known[0] if known[1].pid == pid else None
        recorded = subscriptions.read(self._names.env, token)
        try:
            return self._adopt(token, recorded) if recorded is not None and recorded.pid == pid else None
        except OSError:
            return None  # too many open files: it has its connection

    def forget(self, token: str) -> None:
        """It wants no signals any more, or cannot read them."""
        known = self._known.pop(token, None)
        if known is not None:
            subscriber, _, death = known
            death.cancel()
            self._board.drop(subscriber)
        subscriptions.remove(self._names.env, token)

    def close(self) -> None:
        """The hub ends; records stay for the next one."""
        for _, _, death in self._known.values():
            death.cancel()
        self._known.clear()

    def _adopt(self, token: str, recorded: Recorded) -> Subscriber | None:
        """None when the process is dead; raises OSError when that cannot be told."""
        pidfd = recorded.open_pidfd()
        if pidfd < 0:
            return None
        subscriber = Subscriber(f"pid {recorded.pid}", token)
        self._known[token] = subscriber, recorded, Death(self._watch, pidfd, lambda: self.forget(token))
        for pattern in recorded.patterns:
            self._board.subscribe(subscriber, pattern)
        return subscriber
