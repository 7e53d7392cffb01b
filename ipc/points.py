"""
Every place at which the end of a process is told apart from the end a moment earlier: where tests kill.

In use, `hit` does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Where a process may be killed; passed once for each transaction, message, timer, step, end or steady point."""

    BEFORE_COMMIT = "before_commit"
    """What is to be committed is known; no transaction is open."""

    INSIDE_COMMIT = "inside_commit"
    """All is in the transaction, bells have been rung, and the writers' lock is held."""

    AFTER_COMMIT = "after_commit"
    """It is in the store; nobody has been answered."""

    POST_BEGUN = "post_begun"
    """A post is about to be handled, and it is on record that it is."""

    POST_HANDLED = "post_handled"
    """The handler of a post has returned; nothing of it is in the store."""

    REPLY_DUE = "reply_due"
    """What a call has changed is in the store; its caller has no reply."""

    LAST_WORD_SAID = "last_word_said"
    """Who has sent something is told what was taken; nothing has left for certain, and nothing is on record."""

    TIMER_DUE = "timer_due"
    """A timer is due and has not become a post."""

    TIMER_FIRED = "timer_fired"
    """It has."""

    STEP_BEGUN = "step_begun"
    """A step of a workflow is about to run."""

    STEP_RETURNED = "step_returned"
    """It has returned, and its result is not in the store."""

    STEP_KEPT = "step_kept"
    """It is."""

    STEADY_BEGUN = "steady_begun"
    """Most of what the first steady point of a keeper needs is on disk; no lock is held."""

    STEADY_LOCKED = "steady_locked"
    """The first one holds the writers' lock."""

    STEADY_PINNED = "steady_pinned"
    """A later one is pinned, and nothing of it need be on disk."""

    STEADY_SYNCED = "steady_synced"
    """What is pinned is on disk, and nobody knows."""

    STEADY_WRITTEN = "steady_written"
    """It is on record; what was pinned before still is."""

    STEADY_MADE = "steady_made"
    """It is the last steady point."""


_hook: Callable[[Point], None] | None = None


def hit(point: Point) -> None:
    """
    Say that this place is reached.

    Where that is often, the member is looked up once, beforehand: before Python 3.12 the look is dearer than the call.
    """
    if _hook is not None:
        _hook(point)


def install(hook: Callable[[Point], None] | None) -> None:
    """Have `hook` called at each of them from now on, in this process and those that it forks."""
    global _hook
    _hook = hook
