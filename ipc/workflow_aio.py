"""
The verbs about runs of workflows, for event loops.
"""

from __future__ import annotations

import asyncio
from typing import Any

from regrow.ipc.workflow_verbs import WorkflowVerbs
from regrow.ipc.workflows import RESULT_S


class AsyncWorkflowVerbs:
    """Each in a thread, since a commit may wait for another one's; each is committed for itself."""

    def _runs(self) -> WorkflowVerbs:
        """What does the work."""
        raise NotImplementedError

    async def start_workflow(self, workflow: str, /, *args: Any, id: str | None = None, **kwargs: Any) -> str:
        """Start a run; as `Client.start_workflow`."""
        return await asyncio.to_thread(self._runs().start_workflow, workflow, *args, id=id, **kwargs)

    async def send_to_run(self, id: str, name: str, value: Any = None, *, message_id: str | None = None) -> None:
        """Send what the run takes with `receive(name)`; as `Client.send_to_run`."""
        await asyncio.to_thread(self._runs().send_to_run, id, name, value, message_id=message_id)

    async def cancel_workflow(self, id: str) -> bool:
        """Have a run undo what it has done, and end; as `Client.cancel_workflow`."""
        return await asyncio.to_thread(self._runs().cancel_workflow, id)

    async def retry_workflow(self, id: str) -> None:
        """Have a failed run go on; as `Client.retry_workflow`."""
        await asyncio.to_thread(self._runs().retry_workflow, id)

    async def workflow_result(self, id: str, timeout: float = RESULT_S, *, returns: Any = None) -> Any:
        """What the run has returned, awaiting it; as `Client.workflow_result`."""
        return await asyncio.to_thread(self._runs().workflow_result, id, timeout, returns=returns)

    async def list_workflows(self, workflow: str | None = None) -> list[dict[str, Any]]:
        """All runs, or those of one workflow; as `Client.list_workflows`."""
        return await asyncio.to_thread(self._runs().list_workflows, workflow)

    async def show_workflow(self, id: str) -> dict[str, Any]:
        """A run with its arguments and its steps; as `Client.show_workflow`."""
        return await asyncio.to_thread(self._runs().show_workflow, id)
