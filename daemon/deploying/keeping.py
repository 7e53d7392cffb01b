"""
The records of applies, as the root has them written and read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.daemon import errand
from regrow.daemon.control import ControlError
from regrow.daemon.deploying import records
from regrow.daemon.deploying.answers import Done, Refuse
from regrow.daemon.deploying.records import Record
from regrow.daemon.tell import complain

if TYPE_CHECKING:
    from regrow.daemon.root import Root


class Keeping:
    """Of one root. Written one after the other: the last word about an apply must be the last."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._last: dict[int, dict[str, Any]] = {}
        """How it is with each that this daemon has begun, also where the disk has not been told, or could not be."""
        self._unwritten: deque[tuple[Record, Callable[[str], None]]] = deque()
        self._writing = False

    def keep(self, record: Record, kept: Callable[[str], None] = lambda _fault: None) -> None:
        """Write it down. `kept` gets the reason why it is not, empty when it is."""
        self._last[record.id] = {key: getattr(record, key) for key in ("outcome", "reason", "failures", "seconds")}
        if len(self._last) > records.KEPT:
            del self._last[next(iter(self._last))]
        self._unwritten.append((record, kept))
        if not self._writing:
            self._write()

    def _write(self) -> None:
        self._writing = bool(self._unwritten)
        if not self._writing:
            return
        record, kept = self._unwritten.popleft()
        state_dir = record.plan.daemon.state_dir

        def work() -> bytes:
            records.write(state_dir, record)
            return b""

        def written(result: bytes | errand.Failed) -> None:
            fault = f"apply {record.id} cannot be kept: {result}" if isinstance(result, errand.Failed) else ""
            if fault:
                self._root.books.daemon_event("fault", fault)
            kept(fault)
            self._write()

        self._root.errands.run(work, written)

    def look_back(self, started_at: float) -> None:
        """Tell of an apply that an earlier daemon has not brought to its end."""
        plan = self._root.plan

        def looked(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                self._root.books.daemon_event("fault", f"cannot look for an apply that has no end: {result}")
            elif text := result.decode():
                complain(text)
                self._root.books.daemon_event("apply_interrupted", text)

        self._root.errands.run(lambda: records.end_unfinished(plan, started_at).encode(), looked)

    def list(self, present: Callable[[], int | None], done: Done, refuse: Refuse) -> None:
        """All that are kept, the oldest first. `present`: the number of the plan that runs."""
        state_dir = self._root.plan.daemon.state_dir

        def read(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                refuse(ControlError("internal", str(result)))
                return
            found: list[dict[str, Any]] = msgspec.msgpack.decode(result)
            for record in found:
                record["present"] = record["id"] == present()
                if record["outcome"] == records.UNDER_WAY:
                    record |= self._last.get(record["id"], records.ENDED_MEANWHILE)
            done(found)

        self._root.errands.run(lambda: msgspec.msgpack.encode(records.listed(state_dir)), read)
