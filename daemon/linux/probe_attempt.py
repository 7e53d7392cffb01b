"""
One try of a probe, whatever its kind: it ends exactly once, by an outcome, its time limit or `cancel`.

An outcome is a text: empty when the probe passed, otherwise what went wrong, in words for `status` and `why`.
Nothing here blocks, and every way to the end gives back every descriptor.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from regrow.daemon.loop import Loop, Timer

PASSED = ""


class Attempt:
    """
    Tell `on_done` the outcome once, at most `timeout_s` after `begin`, and never from within `begin`.

    A kind of probe fills in `_start`, `_release` and `_late`.
    """

    def __init__(self, loop: Loop, timeout_s: float, on_done: Callable[[str], None]) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._on_done: Callable[[str], None] | None = on_done
        self._deadline: Timer | None = None

    def begin(self) -> None:
        try:
            outcome = self._start()
        except OSError as error:
            outcome = fault(error)
        if outcome is None:
            self._deadline = self._loop.call_at(self._loop.now() + self._timeout_s, self._expire)
            return
        known = outcome
        self._release()
        self._loop.call_soon(lambda: self._finish(known))

    def cancel(self) -> None:
        """End without telling anybody; idempotent, also after the end."""
        self._on_done = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._release()

    def lingers(self) -> bool:
        """Whether something of this attempt is still there after its end, which a next one must not pile upon."""
        return False

    def _start(self) -> str | None:
        """Begin; the outcome if it is known at once, `None` to be told by `_finish`. May raise OSError."""
        raise NotImplementedError

    def _release(self) -> None:
        """Give back everything held; called at least once, on every way out."""
        raise NotImplementedError

    def _late(self) -> str:
        """The outcome when the time is up."""
        raise NotImplementedError

    def _finish(self, outcome: str) -> None:
        on_done = self._on_done
        self.cancel()
        if on_done is not None:
            on_done(outcome)

    def _expire(self) -> None:
        self._finish(self._late())


def fault(error: OSError) -> str:
    """What an error of this process (not of the peer) is called."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "no free descriptors"
    return f"cannot probe: {reason(error)}"


def reason(error: OSError) -> str:
    """The kernel's words for `error`, without number and path."""
    return error.strerror or str(error)


def seconds(value_s: float) -> str:
    """A time limit as people write it."""
    return f"{value_s:g} s"
