"""
The attempt at hand, on record where the next incarnation finds it, and what has become of the last one's.

Source: architecture section 7.
"""

from __future__ import annotations

import os

import msgspec

from regrow.ipc.explain import cut_short
from regrow.ipc.posting import Posting
from regrow.ipc.posts import MAX_TEXT, Box, Failure, Post, decode
from regrow.ipc.store_faults import fault_of_system
from regrow.workers.begun import Begun, folder_beside


class Attempts:
    """
    Of the agent `name` in that incarnation.

    `is_undecided`: what has become of the post at hand is for the next incarnation to find out; `is_unknown`: what has
    become of the last one's has not been looked at yet.
    """

    def __init__(self, posting: Posting, run_dir: str, name: str, incarnation: int) -> None:
        self.is_undecided = self.is_unknown = False
        self._posting = posting  # opens the store with the first post, and no sooner
        self._run_dir = run_dir
        self._name = name
        self._incarnation = incarnation
        self._begun: Begun | None = None
        self._is_page_seen = False

    def begin(self, key: bytes) -> None:
        """The post with this key is in hand. Raises StoreError."""
        (self._begun or self._page()).mark(key)

    def decide(self) -> None:
        """None is in hand any more, and whatever was is in the store; unless there is still something to find out."""
        if self._begun is not None and not self.is_unknown and not self.is_undecided:
            self._begun.mark(b"")

    def ended(self, now_s: float) -> None:
        """A post ends the agent, or has ended its last incarnation. Raises StoreError."""
        self._page().add_end(now_s)

    def first_end_s(self) -> float:
        """When posts have ended the agent for the last time but two; 0: not as often. Raises StoreError."""
        return self._page().ends[0]

    def see_page(self) -> None:
        """
        Under the writers' lock, once: the page is still in its place. Whoever forgets pages has had that lock when this
        agent was not announced yet, or sees that its name is taken.
        """
        if not self._is_page_seen and self._begun is not None and self._begun.is_gone():
            self._begun.close()
            self._begun = None
        self._is_page_seen = True

    def unfinished(self) -> tuple[int, Post, Failure] | None:
        """
        The ordinal of the post in whose middle the last incarnation has ended, the post, and how that was.

        None when there is none, it is on record already, or the post had no part in it: the agent was stopped, or all
        of the daemon has ended. Raises StoreError.
        """
        ordinal = self._page().ordinal
        box = Box(self._posting.store.messages, self._name)
        value = self._posting.store.read(lambda txn: box.get(txn, ordinal)) if ordinal else None
        if value is None:
            return None
        end = cut_short(self._run_dir, self._name, self._incarnation)
        if end is None:
            return None
        try:
            post = decode(value)
        except msgspec.MsgspecError:
            return None
        failure = Failure(self._incarnation - 1, end.at, end.reason, end.text[-MAX_TEXT:])
        is_on_record = bool(post.failures) and post.failures[-1].incarnation == failure.incarnation
        return None if is_on_record else (ordinal, post, failure)

    def close(self) -> None:
        """An end that comes here is the fault of no post, or that is on record, or still to be found out."""
        self.decide()
        if self._begun is not None:
            self._begun.close()

    def _page(self) -> Begun:
        if self._begun is None:
            folder = folder_beside(self._posting.store.path)
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                self._begun = Begun(folder, self._name)
            except OSError as error:
                raise fault_of_system(folder, error) from None
        return self._begun
