"""An agent in the test's own process, without sockets and threads: its box, its posts and its state are real."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from regrow.ipc.points import Point
from regrow.ipc.posting import Posting
from regrow.workers.agent import Agent, handlers_of
from regrow.workers.box import PostBox
from regrow.workers.doorkeeper import Doorkeeper
from regrow.workers.posthandling import PostHandling
from regrow.workers.state_type import declared_state
from regrow.workers.unit import UNIT, Owner, Unit
from regrow.workers.whole import Whole


class Killed(BaseException):
    """What a SIGKILL is to a process; nothing of regrow may catch it for long."""


class Reaper:
    """Kills at the `count`-th time from now that a process passes `point`, or any point when that is None."""

    def __init__(self) -> None:
        self.point: Point | None = None
        self.count = 0
        self.passed: list[Point] = []

    def __call__(self, point: Point) -> None:
        self.passed.append(point)
        if self.count and self.point in (None, point):
            self.count -= 1
            if not self.count:
                raise Killed(point)


class _Record:
    def __init__(self, mailbox: str) -> None:
        self.mailbox = mailbox


class _Names:
    def __init__(self) -> None:
        self.flags: set[bytes] = set()

    def is_stale(self) -> bool:
        return False

    def get(self, name: str) -> _Record:
        return _Record(name)

    def has_flag(self, key: bytes) -> bool:
        return key in self.flags

    def set_flag(self, key: bytes) -> None:
        self.flags.add(key)


class _Inbox:
    callback = None


class MockNode:
    """What of a node posts need."""

    def __init__(self, run_dir: str, name: str = "") -> None:
        self.run_dir = run_dir
        self.name = self.mailbox_file = name
        self.names = _Names()
        self.inbox = _Inbox()
        self._lock = threading.RLock()

    def locked(self) -> threading.RLock:
        return self._lock

    def replicas(self, name: str) -> int:
        return 0

    def watch(self, fd: int, watcher: object) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def wake(self) -> None: ...


class _Keeper:
    task: object = None
    is_parked = False


class MockAgent:
    """One incarnation; `close` is what its end does, whether it was killed or not."""

    def __init__(self, run_dir: str, kind: type[Agent], name: str, incarnation: int = 1) -> None:
        node = cast(Any, MockNode(run_dir, name))
        node.names.flags.add(b"\0mail:" + name.encode())
        self.complaints: list[str] = []
        self.posting = Posting(node, name)
        declared = declared_state(kind)
        owner = Owner(name, "", self.posting, concurrent=False, of=declared.of)
        self.unit = Unit(owner)
        self.box = PostBox(node, self.posting, incarnation, kind.max_attempts, self.complaints.append)
        self.agent = kind.__new__(kind)
        if declared.whole is not None:
            owner.whole = Whole(declared.whole, self.unit.rows)
            owner.whole.load()
        handlers = handlers_of(kind)
        self._handling = PostHandling(self.agent, handlers, self.box, owner, self)
        self.ending: SystemExit | None = None
        self.exit: SystemExit | None = None

    def begin(self) -> None:
        """What a runtime does before it is ready."""
        self.box.begin()

    def work(self) -> None:
        """Hear the bell, and handle some posts, if there are any."""
        self.box.heard()
        if self.box.is_due:
            with self._at_work():
                self._handling.handle_some(self.unit, cast(Doorkeeper, _Keeper()))

    def work_async(self) -> None:
        """The same for handlers that are `async def`."""
        self.box.heard()
        if self.box.is_due:
            asyncio.run(self._handling.handle_some_async())

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        token = UNIT.set(self.unit)
        try:
            yield
        finally:
            UNIT.reset(token)

    def exits(self, error: SystemExit) -> None:
        self.exit = self.ending = error

    def close(self) -> None:
        self.box.close()
        self.posting.close()
