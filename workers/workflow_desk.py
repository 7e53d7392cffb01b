"""
Who gives the runs of one workflow their places: a process for each of the first ones that wait, up to the limit.

It keeps nothing: what waits and what runs is in the store, and each start and end of a run is posted to it. So it may
be killed at any time, and looks again when it is started.

Source: architecture section 7.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from regrow.config.spec import RUNS
from regrow.ipc import workflow_rows as rows
from regrow.ipc.control import ControlClient
from regrow.ipc.errors import NoProcess, Refused
from regrow.ipc.store import Txn
from regrow.ipc.workflow_rows import LOOK, Run, Status
from regrow.workers.agent import Agent, handler
from regrow.workers.unit import current

if TYPE_CHECKING:
    from regrow.ipc.down import Down

START_S = 30.0
"""How long a supervisor may take to start a process."""

FORGOTTEN_AT_ONCE = 100

GOING = frozenset({"noproc", "shutdown"})
"""Refusals of a supervisor that ends: this process ends with it, and its successor looks again."""


class Desk(Agent):
    """Its posts are handled however often that has failed: there is nobody else to do it."""

    max_attempts = 0

    def init(self, workflow: str, limit: int, keep_s: float) -> None:
        self.workflow = workflow
        self.limit = limit
        self.keep_s = keep_s
        self.post(self.name, LOOK)

    @handler
    def look(self) -> None:
        """Start what can be started, and forget what has been over for long enough."""
        unit = current("look")
        store = unit.posting.store
        with ControlClient(self._node.run_dir, timeout_s=START_S) as control:
            try:
                children = {child["id"] for child in control.request("which_children", supervisor=self._supervisor)}
                waiting, placed, old = store.read(self._read)
                for id, run in to_start(waiting, placed, children, self.limit):
                    self._start(control, id, run)
            except Refused as error:
                if error.code not in GOING:
                    raise
                return
        if old:
            unit.is_used = True
            unit.transaction.then.append(lambda txn: rows.forget_all(txn, store.messages, store.state, old))
        if len(old) == FORGOTTEN_AT_ONCE:
            self.post(self.name, LOOK)

    def on_down(self, down: Down) -> None:
        """A process has ended in whose place another one is to be started."""
        self.post(self.name, LOOK)

    @property
    def _supervisor(self) -> str:
        return self.workflow + RUNS

    def _read(self, txn: Txn) -> tuple[list[tuple[str, Run]], list[tuple[str, Run]], list[str]]:
        db = current("look").posting.store.messages
        both = rows.queued(txn, db, self.workflow, self.limit), rows.placed(txn, db, self.workflow)
        waiting, placed = ([(id, run) for id in ids if (run := rows.get(txn, db, id)) is not None] for ids in both)
        old = rows.ended_before(txn, db, self.workflow, time.time() - self.keep_s, FORGOTTEN_AT_ONCE)
        return waiting, placed, old

    def _start(self, control: ControlClient, id: str, run: Run) -> None:
        argument = id.replace("{", "{{").replace("}", "}}")  # not a placeholder
        spec: dict[str, Any] = {"id": run.process, "args": {"id": argument}}
        answer = control.request("start_child", supervisor=self._supervisor, spec=spec)
        if answer["pid"] is None and self._is_waiting(id):
            self._start_after(run.process)

    def _is_waiting(self, id: str) -> bool:
        store = current("look").posting.store
        run = store.read(lambda txn: rows.get(txn, store.messages, id))
        return run is not None and run.status is Status.QUEUED

    def _start_after(self, process: str) -> None:
        """The process of an earlier try of the same run is still about to end: look again when it has."""
        try:
            self.monitor(process)
        except NoProcess:
            self.post(self.name, LOOK)


def to_start(
    waiting: Sequence[tuple[str, Run]], placed: Sequence[tuple[str, Run]], children: Collection[str], limit: int
) -> list[tuple[str, Run]]:
    """
    Which runs need a process: those that have a place and lost theirs, and the first that wait, up to the limit. Pure.

    Args:
        children: whose processes are there, or are being restarted.
    """
    lost = [(id, run) for id, run in placed if run.process not in children]
    free = max(limit - len(placed), 0)
    return [*lost, *waiting[:free]]
