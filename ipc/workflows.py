"""
What processes do with runs of workflows: start them, send to them, wait for them, cancel them, look at them.

Source: architecture section 7.
"""

from __future__ import annotations

import os
import select
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from regrow.config.spec import DESK
from regrow.ipc import workflow_rows as rows
from regrow.ipc.bell import SUFFIX, Bell
from regrow.ipc.errors import BadRequest, NoProcess, NoRun, RunCancelled, RunFailed, RunTimeout, WorkflowError
from regrow.ipc.posting import Posting
from regrow.ipc.posts import check_id, written
from regrow.ipc.store import Store, Txn
from regrow.ipc.transaction import Outgoing, Transaction
from regrow.ipc.unsendable import bad_arguments
from regrow.ipc.wire import UNSENDABLE
from regrow.ipc.workflow_history import again
from regrow.ipc.workflow_rows import LOOK, OVER, Run, Status, process_of

RESULT_S = 60.0
"""How long `workflow_result` waits unless it is told otherwise."""

LOOK_AGAIN_S = 2.0
"""A daemon that was started anew has another folder of bells: who waits hangs up a new one there."""

_encode = msgspec.msgpack.Encoder().encode


class Workflows:
    """
    The runs that can be reached through `posting`.

    What changes something is added to a transaction, which takes effect when it is committed.
    """

    def __init__(self, posting: Posting) -> None:
        self._posting = posting

    @property
    def _store(self) -> Store:
        return self._posting.store

    def start(self, work: Transaction, workflow: str, args: Any, kwargs: Any, id: str | None) -> str:
        """
        Add a run, unless there is one of that id; returns the id.

        Raises:
            WorkflowError: there is no such workflow, or the id is that of a run of another one; BadRequest: the
            arguments cannot be encoded, or the id is none; StoreError.
        """
        own = uuid.uuid4().hex if id is None else check_id(workflow, id)
        call = self._desk_call(workflow)
        run = Run(workflow, process_of(workflow, own), *_encoded(workflow, args, kwargs), created_at=time.time())
        known = self.find(own) if id is not None else None
        if known is not None and known.workflow != workflow:
            raise WorkflowError(f"cannot start {own} of {workflow}: that is the id of a run of {known.workflow}")
        if known is None:
            store = self._store

            def add(txn: Txn) -> None:
                rows.add(txn, store.messages, own, run)

            work.then.append(add)
            work.posts.append(call)
        return own

    def send(self, work: Transaction, id: str, name: str, value: Any, message_id: str | None) -> None:
        """
        Add a message for a run, which it takes with `receive(name)`; those with the same `message_id` are one.

        Raises:
            NoRun; WorkflowError: it is over; BadRequest; Backpressure; StoreError.
        """
        run = self.get(id)
        if run.status in OVER:
            raise WorkflowError(f"cannot send to run {id}: it is {run.status}")
        if type(name) is not str or not name:
            raise BadRequest(id, f"what is sent to a run has a name, not {name!r:.100}")
        now = time.time()
        own = uuid.uuid4().hex if message_id is None else check_id(id, message_id)
        post = written(run.process, name, (value,), {}, "", own, now, 0.0)
        work.posts.append(Outgoing(run.process, post, own, message_id is not None, now))

    def cancel(self, work: Transaction, id: str) -> bool:
        """
        Have a run undo what it has done and end; one that was not begun ends at once.

        Returns:
            False when it was over already. One that finishes at this moment is not cancelled either.
        Raises:
            NoRun; StoreError.
        """
        run = self.get(id)
        if run.status in OVER:
            return False
        store, ring = self._store, self._posting.ring

        def ask(txn: Txn) -> None:
            run = rows.get(txn, store.messages, id)
            if run is None or run.status in OVER:
                return
            if run.status is Status.QUEUED and not run.began_at:
                ended = replace(run, status=Status.CANCELLED, is_cancelled=True)
                for bell in rows.end(txn, store.messages, id, ended, time.time()):
                    store.ring(bell)
                return
            rows.put(txn, store.messages, id, replace(run, is_cancelled=True))
            ring(run.process)

        work.then.append(ask)
        work.posts.append(self._desk_call(run.workflow))  # its process may have been stopped
        return True

    def retry(self, work: Transaction, id: str) -> None:
        """
        Have a run that has failed go on: with what could not be undone, else from the step that has failed.

        Raises:
            NoRun; WorkflowError: it has not failed; StoreError.
        """
        run = self.get(id)
        db = self._store.messages
        if again(run, *self._store.read(lambda txn: rows.steps(txn, db, id))) is None:
            raise WorkflowError(f"cannot retry run {id}: it is {run.status}")

        def reopen(txn: Txn) -> None:
            run = rows.get(txn, db, id)
            anew = again(run, *rows.steps(txn, db, id)) if run is not None and run.status in OVER else None
            if anew is None:
                return
            for number, step in anew.steps.items():
                rows.put_step(txn, db, id, number, step)
            for number, undoing in anew.undone.items():
                if undoing is None:
                    rows.drop_step(txn, db, id, number, undo=True)
                else:
                    rows.put_step(txn, db, id, number, undoing, undo=True)
            rows.reopen(txn, db, id, anew.run)

        work.then.append(reopen)
        work.posts.append(self._desk_call(run.workflow))

    # looking

    def find(self, id: str) -> Run | None:
        """The run, as it is; None when there is none."""
        db = self._store.messages
        return self._store.read(lambda txn: rows.get(txn, db, id))

    def get(self, id: str) -> Run:
        """
        The run, as it is.

        Raises:
            NoRun; BadRequest: it is no id; StoreError.
        """
        run = self.find(check_id("a workflow", id))
        if run is None:
            raise NoRun(id)
        return run

    def listed(self, workflow: str | None = None) -> list[dict[str, Any]]:
        """
        All runs, or those of a workflow, the oldest first; as `shown`, without the steps.

        Raises:
            WorkflowError: there is no such workflow, nor was there a run of it; StoreError.
        """
        db = self._store.messages
        found = self._store.read(lambda txn: list(rows.listed(txn, db)))
        chosen = [(id, run) for id, run in found if workflow in (None, run.workflow)]
        if workflow is not None and not chosen:
            self._desk_call(workflow)  # it is known
        return [_shown(id, run) for id, run in sorted(chosen, key=lambda pair: pair[1].created_at)]

    def shown(self, id: str) -> dict[str, Any]:
        """
        A run with its steps, in what JSON and msgpack have.

        Raises:
            NoRun; StoreError.
        """
        db = self._store.messages
        run = self.get(id)
        done, undone = self._store.read(lambda txn: rows.steps(txn, db, id))
        steps = [_shown_step(number, step, undone.get(number)) for number, step in sorted(done.items())]
        decode = msgspec.msgpack.decode
        return {**_shown(id, run), "args": decode(run.args), "kwargs": decode(run.kwargs), "steps": steps}

    def result(self, id: str, timeout: float, returns: Any) -> Any:
        """
        What the run has returned, waiting for it.

        Raises:
            RunFailed, RunCancelled, RunTimeout, NoRun; msgspec.ValidationError: it is not of the type `returns`;
            StoreError.
        """
        run = self._await_end(id, timeout)
        if run.status is Status.CANCELLED:
            raise RunCancelled(id)
        if run.fault is not None:
            raise RunFailed(id, run.fault.step, run.fault.type, run.fault.text)
        return msgspec.msgpack.decode(run.value, type=Any if returns is None else returns)

    def _await_end(self, id: str, timeout: float) -> Run:
        run = self.get(id)
        end_s = time.monotonic() + timeout
        while run.status not in OVER:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise RunTimeout(id, timeout)
            run = self._listen(id, min(left_s, LOOK_AGAIN_S))
        return run

    def _listen(self, id: str, timeout_s: float) -> Run:
        """The run as it is when its bell has rung, or in any case after `timeout_s`."""
        store = self._store
        db, file = store.messages, f"run-{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"

        def look(change: Callable[[Txn, Any, str, str], None], txn: Txn) -> Run | None:
            run = rows.get(txn, db, id)
            if run is not None and run.status not in OVER:
                change(txn, db, id, file)
            return run

        bell = Bell(store.run_dir, file)
        try:
            run = store.write(partial(look, rows.await_end))
            if run is not None and run.status not in OVER:
                poll = select.poll()
                poll.register(bell.fileno(), select.POLLIN)
                poll.poll(timeout_s * 1000)
                run = store.write(partial(look, rows.await_no_more))
        finally:
            bell.close()
        if run is None:
            raise NoRun(id)
        return run

    def _desk_call(self, workflow: str) -> Outgoing:
        try:
            return self._posting.write(workflow + DESK, LOOK, (), {})
        except NoProcess:
            raise WorkflowError(f"there is no workflow {workflow}: write [workflow.{workflow}] into the file") from None


def _encoded(workflow: str, args: Any, kwargs: Any) -> tuple[Raw, Raw]:
    try:
        return Raw(_encode(args)), Raw(_encode(kwargs))
    except UNSENDABLE as error:
        raise bad_arguments(workflow, workflow, args, kwargs, error) from None


def _shown(id: str, run: Run) -> dict[str, Any]:
    return {
        "id": id,
        "workflow": run.workflow,
        "status": str(run.status),
        "process": run.process,
        "created": run.created_at,
        "began": run.began_at or None,
        "ended": run.ended_at or None,
        "cancelled": run.is_cancelled,
        "result": msgspec.msgpack.decode(run.value) if run.status is Status.FINISHED else None,
        "error": _shown_fault(run.fault),
        "not_undone": _shown_fault(run.unfault),
    }


def _shown_step(number: int, step: rows.Step, undoing: rows.Step | None) -> dict[str, Any]:
    return {
        "number": number,
        "name": step.name,
        "state": str(step.state),
        "attempts": step.attempts + step.crashes + (step.state is rows.StepState.DONE),
        "began": step.began_at or None,
        "ended": step.ended_at or None,
        "due": step.due_at or None,
        "result": msgspec.msgpack.decode(step.value),
        "error": _shown_fault(step.fault) if step.state is not rows.StepState.DONE else None,
        "undone": None if undoing is None else str(undoing.state),
    }


def _shown_fault(fault: rows.Fault | None) -> dict[str, Any] | None:
    if fault is None:
        return None
    return {"type": fault.type, "text": fault.text, "step": fault.step or None, "traceback": fault.trace}
