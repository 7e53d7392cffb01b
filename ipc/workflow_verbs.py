"""
The verbs about runs of workflows, for clients and agents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from regrow.ipc.posting import Posting
from regrow.ipc.transaction import Transaction
from regrow.ipc.workflows import RESULT_S, Workflows

T = TypeVar("T")


class WorkflowVerbs:
    """What clients and agents have in common. In a handler and in `transaction()`, changes take effect with it."""

    def _workflows(self) -> Workflows:
        """The runs that this one can reach."""
        raise NotImplementedError

    def _change(self, change: Callable[[Transaction], T]) -> T:
        """Do it with the transaction that is open, or with one that is committed then."""
        raise NotImplementedError

    def start_workflow(self, workflow: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> str:
        """
        Start a run of a workflow of the file, as soon as it has a place; returns its id.

        Args:
            id: of several starts with the same id, the first one counts; made up if it is not said.
        Raises:
            WorkflowError: there is no such workflow, or the id is another's; BadRequest; StoreError: nothing was kept.
        """
        runs = self._workflows()
        return self._change(lambda work: runs.start(work, workflow, args, kwargs, id))

    def send_to_run(self, id: str, name: str, value: Any = None, *, message_id: str | None = None) -> None:
        """
        Send what the run takes with `receive(name)`: exactly once, whoever is killed when.

        Args:
            message_id: messages to one run with the same id are one.
        Raises:
            NoRun; WorkflowError: it is over; BadRequest; Backpressure; StoreError: it was not kept.
        """
        runs = self._workflows()
        self._change(lambda work: runs.send(work, id, name, value, message_id))

    def cancel_workflow(self, id: str) -> bool:
        """
        Have a run undo what it has done, and end. It does so before its next step; False when it was over already.

        Raises:
            NoRun; StoreError: nothing was changed.
        """
        runs = self._workflows()
        return self._change(lambda work: runs.cancel(work, id))

    def retry_workflow(self, id: str) -> None:
        """
        Have a failed run go on from the step that has failed, or from the first one that was undone.

        Raises:
            NoRun; WorkflowError: it has not failed; StoreError: nothing was changed.
        """
        runs = self._workflows()
        self._change(lambda work: runs.retry(work, id))

    def workflow_result(self, id: str, timeout: float = RESULT_S, *, returns: Any = None) -> Any:
        """
        What the run has returned, waiting up to `timeout` seconds for its end. `returns`: the type to make of it.

        Raises:
            RunFailed, RunCancelled, RunTimeout, NoRun; StoreError.
        """
        return self._workflows().result(id, timeout, returns)

    def list_workflows(self, workflow: str | None = None) -> list[dict[str, Any]]:
        """All runs, or those of one workflow, the oldest first. Raises StoreError."""
        return self._workflows().listed(workflow)

    def show_workflow(self, id: str) -> dict[str, Any]:
        """A run with its arguments and its steps. Raises NoRun, StoreError."""
        return self._workflows().shown(id)


class Direct(WorkflowVerbs):
    """The verbs, each committed for itself."""

    def __init__(self, posting: Posting) -> None:
        self._posting = posting

    def _workflows(self) -> Workflows:
        return Workflows(self._posting)

    def _change(self, change: Callable[[Transaction], T]) -> T:
        work = Transaction()
        result = change(work)
        if work:
            self._posting.commit(work)
        return result
