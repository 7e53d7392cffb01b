"""
The hub's posts, on behalf of its clients: committed in a thread, as a commit may have to wait for others and for disks.

All that have come meanwhile are committed together. The store is opened with the first one.

Source: docs/protocol.md; architecture section 7.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from regrow.ipc import hub_wire as wire
from regrow.ipc.groups import Address
from regrow.ipc.node import Node
from regrow.ipc.post_batch import kept
from regrow.ipc.posting import Posting
from regrow.ipc.transaction import Outgoing
from regrow.workers.system.hub_watch import Watch

Told = Callable[[str | Exception], None]
"""Takes the id of a post that is kept, or why it is not."""

MOST = 1_000
"""Posts in one commit, so that other writers get their turn."""


class Kept:
    """A post on its way into the store."""

    __slots__ = ("is_over", "make", "tell")

    def __init__(self, make: Callable[[], Outgoing], tell: Told) -> None:
        self.make = make
        self.tell = tell
        self.is_over = False

    def cancel(self) -> bool:
        """Nobody is told of it any more; it is kept all the same."""
        was, self.is_over = self.is_over, True
        return not was


class HubPosts:
    """`tell` is called by the watch, never by `post`."""

    def __init__(self, node: Node, watch: Watch) -> None:
        self._posting = Posting(node)
        self._watch = watch
        self._changed = threading.Condition()
        self._waiting: list[Kept] = []
        self._told: list[tuple[Kept, str | Exception]] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        watch.add(self._fd, self._tell)

    def post(self, to: str | Address, request: wire.Post, tell: Told) -> Kept:
        """Keep it, and say so later."""

        def make() -> Outgoing:
            id, expires = request.post or None, request.expires_s or None
            delay, at = request.delay_s or None, datetime.fromtimestamp(request.at, UTC) if request.at else None
            return self._posting.write(to, request.handler, request.args, request.kwargs, id, expires, delay, at)

        entry = Kept(make, tell)
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="regrow-posts", daemon=True)
                self._thread.start()
        return entry

    def close(self) -> None:
        """Keep what was posted, and tell nobody any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._posting.close()
        self._watch.remove(self._fd)
        os.close(self._fd)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            if not batch:
                return
            outcomes = kept(self._posting, [entry.make for entry in batch])
            with self._changed:
                self._told += zip(batch, outcomes, strict=True)
            os.eventfd_write(self._fd, 1)

    def _tell(self) -> None:
        os.eventfd_read(self._fd)
        with self._changed:
            told, self._told = self._told, []
        for entry, outcome in told:
            if not entry.is_over:
                entry.is_over = True
                entry.tell(outcome)
