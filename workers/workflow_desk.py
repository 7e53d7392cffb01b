"""
Who gives the runs of one workflow their places: a process for each of the first ones that wait, up to the limit.

It keeps nothing: what waits and what runs is in the store. Each start and each end of a run is posted to it, which
tells it no more than to look; so all posts that are there are taken at once, and it may be killed at any time.

Source: architecture section 7.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from regrow.config.spec import RUN_TARGET, RUNS
from regrow.ipc import workflow_rows as rows
from regrow.ipc.control import ControlClient
from regrow.ipc.down import Down
from regrow.ipc.errors import ControlError, NoProcess, Refused, StoreError
from regrow.ipc.posts import Box
from regrow.ipc.store import Txn
from regrow.ipc.workflow_rows import Run, Status
from regrow.workers.agent import Agent
from regrow.workers.workflow_runtime import OwnRuntime

START_S = 30.0
"""How long a supervisor may take to start a process."""

AGAIN_S = 1.0
"""When something could not be started, how long until the next try."""

FORGOTTEN_AT_ONCE = 100

SOON_S, LATER_S = 0.1, 5.0
GOING = frozenset({"noproc", "shutdown"})
"""
Refusals where the runs have no supervisor: it is stopped, and this process will be with it; or it was started just now,
and root has not heard of it yet. So it is asked again soon, and nobody is told; or an operator has stopped it alone,
and may start it again: so it is asked less and less often.
"""

Named = tuple[str, Run]


class DeskRuntime(OwnRuntime):
    """What runs a Desk."""

    agent: Desk

    def serve(self) -> None:
        """Look whenever something has come, and in the beginning."""
        pause_s = SOON_S
        while self.ending is None:
            self.posts.is_due = False
            try:
                is_done = self._look()
                pause_s = SOON_S
            except (ControlError, StoreError) as error:
                if isinstance(error, Refused) and error.code in GOING:
                    self._await_more(pause_s)
                    pause_s = min(2 * pause_s, LATER_S)
                else:
                    self.complaints.make(f"runs of {self.agent.workflow} wait: {error}", to_supervisor=True)
                    self._await_more(AGAIN_S)
                continue
            while is_done and not self.posts.is_due and self.ending is None:
                if self._await_more(None):
                    break  # a process has ended in whose place another one is to be started

    def _await_more(self, timeout_s: float | None) -> bool:
        """Take what comes next; whether it is the end of a process."""
        item = self.node.receive(timeout_s)
        if item is None or isinstance(item, Down):
            return item is not None
        self.handle(item)
        return False

    def _look(self) -> bool:
        """Start what can be started, and forget what has been over for long enough; whether that was all."""
        desk = self.agent
        with ControlClient(self.node.run_dir, timeout_s=START_S) as control:
            children = {child["id"] for child in control.request("which_children", supervisor=desk.workflow + RUNS)}
            waiting, placed, is_tidy = self.posting.store.write(self._take)
            chosen = to_start(waiting, placed, children, desk.limit)
            requests = [(id, run, self._request(control, id, run)) for id, run in chosen]
            for id, run, request in requests:
                if control.answer(request)["pid"] is None and self._is_waiting(id):
                    self._start_after(run.process)
        return is_tidy

    def _take(self, txn: Txn) -> tuple[list[Named], list[Named], bool]:
        """The first runs that wait, those that have a place, and whether nothing is left to be taken or forgotten."""
        store, desk = self.posting.store, self.agent
        db, box = store.messages, Box(store.messages, self.name)
        for ordinal, _ in box.after(txn, -1, 10_000, 1 << 24):
            box.take(txn, ordinal)
        both = rows.queued(txn, db, desk.workflow, desk.limit), rows.placed(txn, db, desk.workflow)
        waiting, placed = ([(id, run) for id in ids if (run := rows.get(txn, db, id)) is not None] for ids in both)
        old = rows.ended_before(txn, db, desk.workflow, time.time() - desk.keep_s, FORGOTTEN_AT_ONCE)
        rows.forget_all(txn, db, store.state, old)
        is_all = box.length(txn) == 0 and len(old) < FORGOTTEN_AT_ONCE
        return waiting, placed, is_all

    def _request(self, control: ControlClient, id: str, run: Run) -> int:
        """Ask for a process. All arguments are said, so that what was checked for one run is good for all."""
        desk = self.agent
        args = {"workflow": desk.workflow, "target": desk.target, "folder": desk.folder, "id": id}
        literal = {key: value.replace("{", "{{").replace("}", "}}") for key, value in args.items()}  # no placeholders
        spec: dict[str, Any] = {"id": run.process, "agent": RUN_TARGET, "args": literal}
        return control.submit("start_child", supervisor=desk.workflow + RUNS, spec=spec)

    def _is_waiting(self, id: str) -> bool:
        store = self.posting.store
        run = store.read(lambda txn: rows.get(txn, store.messages, id))
        return run is not None and run.status is Status.QUEUED

    def _start_after(self, process: str) -> None:
        """The process of an earlier try of the same run is still about to end: look again when it has."""
        try:
            self.agent.monitor(process)
        except NoProcess:
            self.posts.is_due = True


class Desk(Agent):
    """
    The desk of `workflow`, whose class is `target` in `folder`: `limit` runs at once; those that are over are kept for
    `keep_s` seconds.
    """

    _runtime = DeskRuntime

    def init(self, workflow: str, target: str, folder: str, limit: int, keep_s: float) -> None:
        self.workflow = workflow
        self.target = target
        self.folder = folder
        self.limit = limit
        self.keep_s = keep_s


def to_start(
    waiting: Sequence[Named], placed: Sequence[Named], children: Collection[str], limit: int
) -> list[Named]:
    """
    Which runs need a process: those that have a place and lost theirs, and the first that wait, up to the limit. Pure.

    Args:
        children: whose processes are there, or are being restarted; as it was before the others were looked at.
    """
    lost = [(id, run) for id, run in placed if run.process not in children]
    free = max(limit - len(placed), 0)
    return [*lost, *waiting[:free]]
