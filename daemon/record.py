"""
The record of a supervisor's steps: enough to take every decision again, elsewhere and later.

One JSON object a line. A `step` holds the event and the time that went into one step, and a digest of what
was decided; a `snapshot` holds the whole state before step `n`. There is one before the first step, after
every 1,000 steps, and after records were lost. `regrow.daemon.replay` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import msgspec

from regrow.daemon.core.effects import Effect
from regrow.daemon.core.events import Event
from regrow.daemon.core.state import SupervisorState

SNAPSHOT_EVERY = 1000
"""Steps after which the whole state is written again, so that a rotated record can still be read."""


class Step(msgspec.Struct, frozen=True, tag_field="record", tag="step"):
    """One step of `supervisor`, its `n`-th: `event` at `now_s` (monotonic seconds), and what came of it."""

    supervisor: str
    n: int
    now_s: float
    event: Event
    effects_digest: int


class Snapshot(msgspec.Struct, frozen=True, tag_field="record", tag="snapshot"):
    """The state of `supervisor` before its `n`-th step."""

    supervisor: str
    n: int
    state: SupervisorState


_encode_line = msgspec.json.Encoder().encode
_encode_effects = msgspec.msgpack.Encoder().encode


def digest(effects: tuple[Effect, ...]) -> int:
    """32 bits that tell two lists of effects apart; 0 for none."""
    return crc32(_encode_effects(effects)) if effects else 0


class Recorder:
    """
    Hand every step of one supervisor to `write`, as whole lines.

    `write` must not block. Whoever leaves out a step says so with `lost`. `steps` is how many there were before.
    """

    def __init__(self, supervisor: str, write: Callable[[bytes], None], steps: int = 0) -> None:
        self._supervisor = supervisor
        self._write = write
        self._n = steps
        self._snapshot_due = True

    @property
    def steps(self) -> int:
        """How many there were so far."""
        return self._n

    def step(
        self, before: SupervisorState, event: Event, now_s: float, after: SupervisorState, effects: tuple[Effect, ...]
    ) -> None:
        """Record that `before` and `event` led to `effects`; `after` needs no record, it follows."""
        self._n += 1
        if self._snapshot_due or self._n % SNAPSHOT_EVERY == 1:
            self._snapshot_due = False
            self._write(_encode_line(Snapshot(self._supervisor, self._n, before)) + b"\n")
        self._write(_encode_line(Step(self._supervisor, self._n, now_s, event, digest(effects))) + b"\n")

    def lost(self) -> None:
        """A step was left out: count it, and begin again with a snapshot at the next."""
        self._n += 1
        self._snapshot_due = True
