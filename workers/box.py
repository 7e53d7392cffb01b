"""
The posts to an agent: taken from its box one after the other, each until it has taken effect.

Several in a row are committed together: what they change, and that they are done. A post whose handler has failed is
tried again, later each time, and becomes a dead letter when it has failed too often.

Source: architecture section 7.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from regrow.ipc.bell import SUFFIX, Bell
from regrow.ipc.deadletters import Cause, DeadLetter, bury, told_of
from regrow.ipc.errors import StoreError
from regrow.ipc.points import Point, hit
from regrow.ipc.posting import MAIL, Posting, process
from regrow.ipc.posts import MAX_TEXT, Box, Failure, Post, decode, ordinal_of, unreadable
from regrow.ipc.store import Txn
from regrow.ipc.transaction import Transaction
from regrow.workers.box_attempts import Attempts
from regrow.workers.box_pace import Pace
from regrow.workers.notify import notify

if TYPE_CHECKING:
    from regrow.ipc.node import Node

BATCH_S = 0.005
"""For how long posts are handled before what they have done is committed."""

READ, READ_BYTES = 1024, 4 * 1024 * 1024
"""Posts taken from the store at once."""

BATCH_ROWS = 2_000
"""Changes of state that are committed together at most, unless a single post makes more."""

_POST_BEGUN = Point.POST_BEGUN
_POST_HANDLED = Point.POST_HANDLED

AGAIN_S = 1.0
"""When the store was full or broken, how long until the next try."""


class NotNow(Exception):
    """A post cannot be handled at present, through no fault of its own."""


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
        self._attempts = Attempts(posting, node.run_dir, self.name, incarnation)
        self._pace = Pace()
        self._fetched: deque[tuple[bytes, bytes]] = deque()
        self._key = b""  # of the post in hand
        self._last = b""  # of the last one that was taken out of those that were fetched
        self._done: list[bytes] = []
        self._buried: list[str] = []
        self._forgotten: dict[int, int] = {}
        self._until_s = 0.0
        self._alone = False
        self._pid = process.pid
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
        self.is_due = self._attempts.is_unknown = True
        try:
            self._recover()
        except StoreError as error:
            self.give_up(error)

    def close(self) -> None:
        """Take the bell down; the posts stay."""
        if self._pid != process.pid:
            return  # a process that a handler has forked: all of it is the agent's
        self._node.unwatch(self._bell.fileno())
        self._bell.close()
        self._attempts.close()

    # one post after the other

    def next(self) -> Post | None:
        """
        The next post to be handled, on record as begun; None when there is none, or none yet, or it is time to commit.

        Raises:
            StoreError; RuntimeError: a handler has forked this process.
        """
        process.check(self._pid, self.name)
        fetched, done = self._fetched, self._done
        while True:
            if done:
                if not fetched or time.monotonic() >= self._until_s or len(self.batch.puts) >= BATCH_ROWS:
                    return None  # what is done is in the box until it is committed
            else:
                if not fetched and not self._fetch():
                    return None
                self._until_s = 0.0 if self._alone else time.monotonic() + BATCH_S
            if self._pace.rests_until_s and (rest_s := self._pace.rest_s(time.monotonic())):
                self._later(rest_s)
                return None
            key, value = fetched.popleft()
            try:
                post = decode(value)
            except msgspec.MsgspecError as error:
                self._key = self._last = key
                self.bury(unreadable(), Cause.BAD_REQUEST, f"it is damaged: {error}: {value[:500]!r}")
                continue
            if post.failures and (wait_s := self._pace.ripens_s(key, post, time.monotonic(), time.time())):
                self._later(wait_s)
                return None
            self._key = self._last = key
            if post.expires_at and time.time() > post.expires_at:
                self.bury(post, Cause.EXPIRED)
                continue
            self._attempts.begin(key)
            hit(_POST_BEGUN)
            return post

    def done(self, work: Transaction) -> None:
        """The handler of the post in hand has returned: what it has changed is part of the batch."""
        hit(_POST_HANDLED)
        self.batch.absorb(work)
        self._done.append(self._key)

    def bury(self, post: Post, cause: Cause, text: str = "") -> None:
        """Make a dead letter of the post in hand, with the batch."""
        letter = DeadLetter(self.name, post, cause, time.time(), text[-MAX_TEXT:])
        store, count = self._posting.store, len(self._buried)

        def put_away(txn: Txn) -> None:
            self._forgotten[count] = bury(txn, store.messages, letter)

        self.batch.then.append(put_away)
        self._done.append(self._key)
        self._buried.append(f"a post to {post.handler} is a dead letter now ({cause}): see `regrow dead list`")

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
        parts = (self.batch, work) if work else (self.batch,)

        def change(txn: Txn) -> list[tuple[bytes, bytes]]:
            for each in parts:
                each.check(txn, store)
            for each in parts:
                each.carry_out(txn, store, self._posting.ring)
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

        Without one they were overtaken, and one alone is not as easily. Raises RuntimeError: a handler has forked this.
        """
        process.check(self._pid, self.name)
        self.batch.clear()
        self._done.clear()
        self._buried.clear()
        self._forgotten.clear()
        self._fetched.clear()
        self.is_due = self._alone = True
        self._attempts.decide()
        if error is not None:
            self._complain(f"posts wait: {error}")
            self._later(AGAIN_S)

    def fail(self, post: Post, reason: str, text: str) -> None:
        """
        The handler of the post in hand has raised, which ends the agent: commit what was done before, and the failure.

        Raises:
            StoreError; RuntimeError: a handler has forked this process.
        """
        process.check(self._pid, self.name)
        failure = Failure(self._incarnation, time.time(), reason, text[-MAX_TEXT:])
        self._attempts.ended(time.monotonic())
        self._note(post, failure)
        self._attempts.is_undecided = True  # the next incarnation finds what has become of this one
        self.commit()
        self._attempts.is_undecided = False
        self._attempts.decide()

    def leave_open(self) -> None:
        """What a post has come to is seen from how the process ends: its successor looks."""
        self._attempts.is_undecided = True

    def _note(self, post: Post, failure: Failure) -> None:
        """Put the failure of the post in hand on record, and the post away if it was one too many."""
        failed = msgspec.structs.replace(post, failures=(*post.failures, failure))
        if len(failed.failures) >= self._max_attempts > 0:
            self.bury(failed, Cause.ATTEMPTS, failure.text)
            return
        box, ordinal = Box(self._posting.store.messages, self.name), ordinal_of(self._key)
        self.batch.then.append(lambda txn: box.replace(txn, ordinal, failed))

    def _fetch(self) -> bool:
        """Under the lock of whoever writes: what was rung for is there, or will never be."""
        if self._attempts.is_unknown:
            self._recover()
        store = self._posting.store
        box = Box(store.messages, self.name)
        self.is_due = False
        self._last = b""

        def look(txn: Txn) -> list[tuple[bytes, bytes]]:
            self._attempts.see_page()
            return box.behind(txn, b"", READ, READ_BYTES)

        self._fetched.extend(store.look(look))
        if self._fetched:
            self.is_due = True
        return bool(self._fetched)

    # later

    def _later(self, delay_s: float) -> None:
        self._fetched.clear()
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
        attempts = self._attempts
        if (found := attempts.unfinished()) is not None:
            ordinal, post, failure = found
            self._key = Box(self._posting.store.messages, self.name).key(ordinal)
            self._note(post, failure)
            self.commit()
            self._fetched.clear()
            attempts.ended(time.monotonic())
        attempts.is_unknown = False
        attempts.decide()
        self._pace.rest(attempts.first_end_s(), time.monotonic())
