"""
When a post that has failed, or whose agent has been ended by posts again and again, is to be tried.

Decides and does nothing; `now_s` is of a clock that goes on (monotonic), `wall_s` of the one on the wall.
"""

from __future__ import annotations

from regrow.ipc.posts import Post

PACE_S = 6.0
"""
Posts end an agent at most three times (begun.ENDS) within this time. A supervisor's default `intensity` allows as many
restarts within its `period` of 5 s: whatever is in the box, it does not give up.
"""

LONGEST_S = 300.0


class Pace:
    """Of one box; `rests_until_s`: no post at all is to be handled before, 0 when any may be."""

    def __init__(self) -> None:
        self.rests_until_s = 0.0
        self._unripe = b"", 0.0

    def rest(self, first_end_s: float, now_s: float) -> None:
        """Posts have ended the agent as often as they may since then; 0: they have not."""
        if 0 < first_end_s <= now_s:  # the clock begins anew with the machine
            self.rests_until_s = first_end_s + PACE_S

    def rest_s(self, now_s: float) -> float:
        """How long that still is."""
        left_s = self.rests_until_s - now_s
        if left_s <= 0:
            self.rests_until_s = 0.0
        return max(0.0, left_s)

    def ripens_s(self, key: bytes, post: Post, now_s: float, wall_s: float) -> float:
        """How long that post, which has failed before, is to wait; those behind it wait with it."""
        if self._unripe[0] != key:
            delay_s = retry_delay_s(post)
            since_s = wall_s - post.failures[-1].at
            self._unripe = key, now_s + min(delay_s - since_s, delay_s)  # the clock on the wall may have been set
        return max(0.0, self._unripe[1] - now_s)


def retry_delay_s(post: Post) -> float:
    """
    How long a post waits after its last failure: 2 s, 4 s, … and at most 5 minutes.

    That is longer than a supervisor's default `period` for as many restarts as its `intensity` allows, so that one bad
    post, or one after the other, does not make it give up. The first end from outside is taken for an accident.
    """
    failures = post.failures
    if len(failures) == 1 and failures[0].reason != "exception":
        return 0.0
    return float(min(2.0 ** min(len(failures), 9), LONGEST_S))
