"""
The process of one run of a workflow: an agent without handlers, which does one thing and ends.

Source: architecture section 7.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from regrow.config.spec import DESK
from regrow.ipc import workflow_rows as rows
from regrow.ipc.explain import cut_short
from regrow.ipc.posting import MAIL
from regrow.ipc.store import Txn
from regrow.ipc.workflow_history import interrupted
from regrow.ipc.workflow_rows import OVER, Fault, Run, Status, Step
from regrow.workers.agent import Agent
from regrow.workers.ending import of_reason
from regrow.workers.errors import Ignore
from regrow.workers.function import load
from regrow.workers.unit import UNIT
from regrow.workers.workflow import Workflow, undoing_of
from regrow.workers.workflow_course import RunCourse, Stopped
from regrow.workers.workflow_runtime import OwnRuntime


class RunRuntime(OwnRuntime):
    """What runs a RunAgent."""

    agent: RunAgent

    @property
    def desk(self) -> str:
        """Who starts what waits for a place."""
        return self.agent.workflow + DESK

    def begin(self, args_json: str) -> None:
        """Take a place, unless there is nothing to be done, or not here."""
        super().begin(args_json)
        store, id = self.posting.store, self.agent.run_id

        def take(txn: Txn) -> Run:
            run = rows.get(txn, store.messages, id)
            if run is None or run.status in OVER or run.process != self.name:
                raise Ignore
            return rows.begin(txn, store.messages, id, run, time.time()) if run.status is Status.QUEUED else run

        self.agent.run = store.write(take)

    def serve(self) -> None:
        """The run. Its class is loaded only now: a module that cannot be is tried again, and later each time."""
        UNIT.set(None)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        workflow = load_workflow(self.agent.target, self.agent.folder)
        course = RunCourse(self, self.agent.run_id, workflow)
        self._settle_interrupted(course, workflow)
        try:
            course.go(self.agent.run)
        except Stopped:
            return
        self._forget_mail()
        if self.ending is None:
            self.ending = of_reason("normal")

    def work(self, task: object) -> None:
        """A step begins, or (None) is over: meanwhile the doorkeeper accepts what comes."""
        self.keeper.task = task
        if task is not None and self.keeper.is_parked:
            self.keeper.unpark()

    def _settle_interrupted(self, course: RunCourse, workflow: type[Workflow]) -> None:
        """Count the attempt in whose middle the last incarnation has ended."""
        for undo, steps in ((False, course.done), (True, course.undone)):
            for number, step in steps.items():
                spec = workflow.steps.get(course.done[number].name)
                if step.is_begun and spec is not None:
                    policy = (undoing_of(workflow, spec) if undo else spec).policy
                    end, is_late = self._how_it_ended()
                    steps[number] = interrupted(step, end, policy, time.time(), is_late=is_late)
                    self._keep(number, steps[number], undo=undo)

    def _keep(self, number: int, step: Step, *, undo: bool) -> None:
        store, id = self.posting.store, self.agent.run_id
        store.write(lambda txn: rows.put_step(txn, store.messages, id, number, step, undo=undo))

    def _how_it_ended(self) -> tuple[Fault | None, bool]:
        """How, None when that was nobody's fault; and whether it was the time limit of the step."""
        end = cut_short(self.node.run_dir, self.name, self.incarnation)
        if end is None:
            return None, False
        if end.signal == "SIGALRM":
            return Fault("TimeoutError", "it took longer than its timeout"), True
        return Fault("ProcessEnded", f"the process of the run has ended ({end.reason}): {end.text}"), False

    def _forget_mail(self) -> None:
        """Nobody takes this name any more: what says that it has had posts may go."""
        import lmdb

        try:
            with self.node.names.borrowed() as env, env.begin(write=True) as txn:
                txn.delete(MAIL + self.name.encode())
        except lmdb.Error:
            pass  # the daemon is gone, and its names with it


class RunAgent(Agent):
    """One run: `target` is `module:Class`, `folder` where the module is, "" where Python finds it by itself."""

    _runtime = RunRuntime
    run: Run

    def init(self, workflow: str, target: str, folder: str, id: str) -> None:
        self.workflow = workflow
        self.target = target
        self.folder = folder
        self.run_id = id


def load_workflow(target: str, folder: str) -> type[Workflow]:
    """
    The class that `module:Class` names.

    Raises:
        TypeError: it is no workflow; and whatever its import raises.
    """
    found: Any = load(target, folder)
    if not (isinstance(found, type) and issubclass(found, Workflow) and hasattr(found, "run")):
        raise TypeError(f"cannot run {target}: it is not a class derived from regrow.workers.Workflow with a `run`")
    return found
