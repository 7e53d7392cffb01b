"""
The posts to an agent: taken from its box one after the other, each until it has taken effect.

Several in a row are committed together: what they change, and that they are done. A post whose handler has failed is
tried again, later each time, and becomes a dead letter when it has failed too often.

Source: architecture section 7.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from regrow.ipc.bell import SUFFIX, Bell
from regrow.ipc.deadletters import Cause, DeadLetter, bury, told_of
from regrow.ipc.errors import StoreError
from regrow.ipc.explain import cut_short
from regrow.ipc.points import Point, hit
from regrow.ipc.posting import MAIL, Posting, process
from regrow.ipc.posts import MAX_TEXT, Box, Failure, Post, decode, ordinal_of, unreadable
from regrow.ipc.store import Txn
from regrow.ipc.store_faults import fault_of_system
from regrow.ipc.transaction import Transaction
from regrow.workers.begun import Begun, folder_beside
from regrow.workers.notify import notify

if TYPE_CHECKING:
    from regrow.ipc.node import Node

BATCH_S = 0.005
"""For how long posts are handled before what they have done is committed."""

READ, READ_BYTES = 256, 4 * 1024 * 1024
"""Posts taken from the store at once."""

BATCH_ROWS = 2_000
"""Changes of state that are committed together at most, unless a single post makes more."""

AGAIN_S = 1.0
"""When the store was full or broken, how long until the next try."""

PACE_S = 6.0
"""
Posts end an agent at most three times (begun.ENDS) within this time. A supervisor's default `intensity` allows as many
restarts within its `period` of 5 s: whatever is in the box, it does not give up.
"""


class NotNow(Exception):
    """A post cannot be handled at present, through no fault of its own."""


class Entry(Struct, frozen=True):
    """A post in hand, and the key of its row."""

    key: bytes
    post: Post


class PostBox:
    """
    `is_due` says that something may be in it; `due_s` (monotonic) when there is in any case, after a failure.

    Args:
        complain: is told of what nobody else is.
    """

    def __init__(
        self, node: Node, posting: Posting, incarnation: int, max_attempts: int, complain: Callable[[str], None]
    ) -> None:
        self.name = node.name
        self.is_due = False
        self.due_s = float("inf")
        self.batch = Transaction()
        self._node = node
        self._posting = posting
        self._incarnation = incarnation
        self._max_attempts = max_attempts
        self._complain = complain
        self._fetched: deque[tuple[bytes, bytes]] = deque()
        self._last = b""
        self._done: list[bytes] = []
        self._buried: list[str] = []
        self._forgotten: dict[int, int] = {}
        self._until_s = 0.0
        self._alone = False
        self._must_recover = False
        self._rests_until_s = 0.0
        self._unripe = b"", 0.0
        self._undecided = False
        self._pid = process.pid
        self._begun: Begun | None = None
        self._is_page_seen = False
        self._bell = Bell(node.run_dir, node.mailbox_file + SUFFIX)
        node.watch(self._bell.fileno(), self)

    # being told

    def heard(self) -> None:
        """The bell has rung; called under the node's lock by whichever thread has noticed."""
        if self._bell.heard():
            self.is_due = True
            self._node.wake()
            if (callback := self._node.inbox.callback) is not None:
                callback()

    def dropped(self) -> None:
        """The node watches no more."""

    def begin(self) -> None:
        """Look for posts that have come before this incarnation, and for what the last one has left undone."""
        if not self._node.names.has_flag(MAIL + self.name.encode()):
            return
        self.is_due = self._must_recover = True
        try:
            self._recover()
        except StoreError as error:
            self.give_up(error)

    def close(self) -> None:
        """Take the bell down; the posts stay. An end that comes here is the fault of no post, or that is on record."""
        if self._pid != process.pid:
            return  # a process that a handler has forked: all of it is the agent's
        self._node.unwatch(self._bell.fileno())
        self._bell.close()
        if self._begun is not None:
            if not self._undecided and not self._must_recover:
                self._begun.mark(b"")
            self._begun.close()

    # one post after the other

    def next(self) -> Entry | None:
        """
        The next post to be handled, on record as begun; None when there is none, or none yet.

        Raises:
            StoreError.
        """
        fetched = self._fetched
        while True:
            if not fetched and (self._done or not self._fetch()):
                return None  # what is done is in the box until it is committed
            if self._rests_until_s and self._is_resting():
                return None
            key, value = fetched.popleft()
            try:
                post = decode(value)
            except msgspec.MsgspecError as error:
                self._last = key
                self.bury(Entry(key, unreadable()), Cause.BAD_REQUEST, f"it is damaged: {error}: {value[:500]!r}")
                continue
            if post.failures and not self._is_ripe(key, post):
                fetched.clear()
                return None
            self._last = key
            entry = Entry(key, post)
            if not self._done:
                self._until_s = time.monotonic() + BATCH_S
            if post.expires_at and time.time() > post.expires_at:
                self.bury(entry, Cause.EXPIRED)
                continue
            (self._begun or self._page()).mark(key)
            hit(Point.POST_BEGUN)
            return entry

    def done(self, entry: Entry, work: Transaction) -> None:
        """Its handler has returned: what it has changed is part of the batch."""
        hit(Point.POST_HANDLED)
        self.batch.absorb(work)
        self._done.append(entry.key)

    def bury(self, entry: Entry, cause: Cause, text: str = "") -> None:
        """Make a dead letter of it, with the batch."""
        letter = DeadLetter(self.name, entry.post, cause, time.time(), text[-MAX_TEXT:])
        store, count = self._posting.store, len(self._buried)

        def put_away(txn: Txn) -> None:
            self._forgotten[count] = bury(txn, store.messages, letter)

        self.batch.then.append(put_away)
        self._done.append(entry.key)
        self._buried.append(f"a post to {entry.post.handler} is a dead letter now ({cause}): see `regrow dead list`")

    def is_batch_over(self) -> bool:
        """Whether it is time to commit."""
        return self._alone or time.monotonic() >= self._until_s or len(self.batch.puts) >= BATCH_ROWS

    def commit(self, work: Transaction | None = None) -> None:
        """
        Commit the batch, and `work` with it, and look whether there is more.

        Raises:
            StoreError, Overtaken: nothing was changed; `give_up` has it all done again.
        """
        if not self._done and not self.batch and not work:
            return
        process.check(self._pid, self.name)
        store = self._posting.store
        box = Box(store.messages, self.name)

        def change(txn: Txn) -> list[tuple[bytes, bytes]]:
            self.batch.apply(txn, store, self._posting.ring)
            if work:
                work.apply(txn, store, self._posting.ring)
            box.take_all(txn, self._done)
            return [] if self._fetched else box.behind(txn, self._last, READ, READ_BYTES)

        self.is_due = False  # from here on, whoever finds the box empty rings
        self._fetched.extend(store.write(change))
        self.batch.clear()
        self._done.clear()
        self._alone = False
        if self._buried:
            self._tell_of_buried()
        if self._fetched:
            self.is_due = True

    def _tell_of_buried(self) -> None:
        if forgotten := sum(self._forgotten.values()):
            self._buried.insert(0, told_of(forgotten))  # of several events at once only the first is kept
        for text in self._buried:
            self._complain(text)
            notify(f"X_REGROW_EVENT=dead_letter\nX_REGROW_TEXT={text}")
        self._buried.clear()
        self._forgotten.clear()

    def give_up(self, error: Exception | None = None) -> None:
        """
        Forget the batch: its posts are where they were, and are taken again, a while after an error.

        Without one they were overtaken, and one alone is not as easily.
        """
        self.batch.clear()
        self._done.clear()
        self._buried.clear()
        self._forgotten.clear()
        self._fetched.clear()
        self.is_due = self._alone = True
        if self._begun is not None and not self._must_recover:
            self._begun.mark(b"")
        if error is not None:
            self._complain(f"posts wait: {error}")
            self._later(AGAIN_S)

    def fail(self, entry: Entry, reason: str, text: str) -> None:
        """
        The handler of `entry` has raised, which ends the agent: commit what was done before, and the failure.

        Raises:
            StoreError.
        """
        failure = Failure(self._incarnation, time.time(), reason, text[-MAX_TEXT:])
        self._page().add_end(time.monotonic())
        self._note(entry, failure)
        self._undecided = True  # the next incarnation finds what has become of this one
        self.commit()
        self._undecided = False
        self._page().mark(b"")

    def leave_open(self) -> None:
        """What a post has come to is seen from how the process ends: its successor looks."""
        self._undecided = True

    def _note(self, entry: Entry, failure: Failure) -> None:
        """Put the failure on record, and the post away if it was one too many."""
        post = msgspec.structs.replace(entry.post, failures=(*entry.post.failures, failure))
        if len(post.failures) >= self._max_attempts > 0:
            self.bury(Entry(entry.key, post), Cause.ATTEMPTS, failure.text)
            return
        box = Box(self._posting.store.messages, self.name)
        self.batch.then.append(lambda txn: box.replace(txn, ordinal_of(entry.key), post))

    def _fetch(self) -> bool:
        """Under the lock of whoever writes: what was rung for is there, or will never be."""
        if self._must_recover:
            self._recover()
        store = self._posting.store
        box = Box(store.messages, self.name)
        self.is_due = False
        self._last = b""

        def look(txn: Txn) -> list[tuple[bytes, bytes]]:
            self._see_page()
            return box.behind(txn, b"", READ, READ_BYTES)

        self._fetched.extend(store.look(look))
        if self._fetched:
            self.is_due = True
        return bool(self._fetched)

    def _see_page(self) -> None:
        """
        Under the writers' lock, once: the page is still in its place. Whoever forgets pages has had that lock when this
        agent was not announced yet, or sees that its name is taken.
        """
        if not self._is_page_seen and self._begun is not None and self._begun.is_gone():
            self._begun.close()
            self._begun = None
        self._is_page_seen = True

    # failures

    def _is_ripe(self, key: bytes, post: Post) -> bool:
        """Whether enough time has passed since its last failure; those behind it wait for it."""
        now_s = time.monotonic()
        if self._unripe[0] != key:
            delay_s = retry_delay_s(post)
            since_s = time.time() - post.failures[-1].at
            self._unripe = key, now_s + min(delay_s - since_s, delay_s)  # the clock on the wall may have been set
        if (left_s := self._unripe[1] - now_s) <= 0:
            return True
        self._later(left_s)
        return False

    def _is_resting(self) -> bool:
        """Whether posts have ended the agent as often as they may for now."""
        left_s = self._rests_until_s - time.monotonic()
        if left_s <= 0:
            self._rests_until_s = 0.0
            return False
        self._fetched.clear()
        self._later(left_s)
        return True

    def _later(self, delay_s: float) -> None:
        self.is_due = False
        self.due_s = time.monotonic() + delay_s

    def until_due_s(self, timeout_s: float | None) -> float:
        """How long to wait for anything else, at most `timeout_s`; looks again when that is not at all."""
        left_s = self.due_s - time.monotonic()
        if left_s <= 0:
            self.look_again()
            return 0.0
        return left_s if timeout_s is None else min(left_s, timeout_s)

    def look_again(self) -> None:
        """`due_s` has come."""
        self.due_s = float("inf")
        self.is_due = True

    def _recover(self) -> None:
        """
        Count the attempt in whose middle the last incarnation has ended, unless that has done so itself.

        Raises:
            StoreError: it is to be tried again, before any post is handled.
        """
        page = self._page()
        if page.ordinal and self._count(page.ordinal):
            page.add_end(time.monotonic())
        page.mark(b"")
        first_s, now_s = page.ends[0], time.monotonic()
        if 0 < first_s <= now_s:  # the clock begins anew with the machine
            self._rests_until_s = first_s + PACE_S
        self._must_recover = False

    def _count(self, ordinal: int) -> bool:
        store = self._posting.store
        box = Box(store.messages, self.name)
        value = store.read(lambda txn: box.get(txn, ordinal))
        if value is None or (failure := self._how_it_ended()) is None:
            return False
        try:
            post = decode(value)
        except msgspec.MsgspecError:
            return False
        if post.failures and post.failures[-1].incarnation == failure.incarnation:
            return False
        self._note(Entry(box.key(ordinal), post), failure)
        self.commit()
        self._fetched.clear()
        return True

    def _how_it_ended(self) -> Failure | None:
        """None when the post had no part in it: it was stopped, or all of the daemon has ended."""
        end = cut_short(self._node.run_dir, self.name, self._incarnation)
        return None if end is None else Failure(self._incarnation - 1, end.at, end.reason, end.text[-MAX_TEXT:])

    def _page(self) -> Begun:
        if self._begun is None:
            folder = folder_beside(self._posting.store.path)
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                self._begun = Begun(folder, self.name)
            except OSError as error:
                raise fault_of_system(folder, error) from None
        return self._begun


def retry_delay_s(post: Post) -> float:
    """
    How long a post waits after its last failure: 2 s, 4 s, … and at most 5 minutes.

    That is longer than a supervisor's default `period` for as many restarts as its `intensity` allows, so that one bad
    post, or one after the other, does not make it give up. The first end from outside is taken for an accident.
    """
    failures = post.failures
    if len(failures) == 1 and failures[0].reason != "exception":
        return 0.0
    return float(min(2.0 ** min(len(failures), 9), 300.0))

