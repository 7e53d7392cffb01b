"""
A client of a daemon's agents, for scripts, notebooks and thread pools.

Source: contract section 4.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

from regrow.ipc.control import ControlClient
from regrow.ipc.node import Node
from regrow.ipc.verbs import Verbs


class Client(Verbs):
    """
    Talks to the daemon whose run_dir this is; `$REGROW_RUN_DIR`, or the only one running, when it is not said.

    May be used by several threads at once. A forked process may go on using it: it then has its own connections, and
    none of its parent's open messages, monitors and subscriptions.

    Raises:
        Unreachable: no daemon runs there, or this user may not talk to it; Ambiguous: several run.
    """

    def __init__(self, run_dir: str | os.PathLike[str] | None = None) -> None:
        self._control: ControlClient | None = None
        self._node = Node(find(run_dir))

    @property
    def run_dir(self) -> str:
        return self._node.run_dir

    @property
    def control(self) -> Control:
        """The management verbs (`which_children`, `restart_child`, `status`, …) as methods."""
        if self._control is None:
            self._control = ControlClient(self._node.run_dir)
        return Control(self._control)

    def close(self) -> None:
        """End the connections; what still waits ends as NoProcess. A closed client stays closed."""
        if self._control is not None:
            self._control.close()
        self._node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Control:
    """
    The control verbs as methods: `control.which_children("app")`, `control.restart_child("app", "web")`.

    Of the arguments without a name, the first is the supervisor and the second the child (`start_child`: the spec).
    Any other verb takes its fields by name. All raise Refused, ControlTimeout and Unreachable.
    """

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def request(self, verb: str, **fields: Any) -> Any:
        return self._client.request(verb, **fields)

    def start_child(self, supervisor: str, spec: dict[str, Any]) -> Any:
        return self.request("start_child", supervisor=supervisor, spec=spec)

    def restart_child(self, supervisor: str, child: str) -> Any:
        return self.request("restart_child", supervisor=supervisor, child=child)

    def terminate_child(self, supervisor: str, child: str) -> Any:
        return self.request("terminate_child", supervisor=supervisor, child=child)

    def delete_child(self, supervisor: str, child: str) -> Any:
        return self.request("delete_child", supervisor=supervisor, child=child)

    def which_children(self, supervisor: str) -> Any:
        return self.request("which_children", supervisor=supervisor)

    def count_children(self, supervisor: str) -> Any:
        return self.request("count_children", supervisor=supervisor)

    def get_childspec(self, supervisor: str, child: str) -> Any:
        return self.request("get_childspec", supervisor=supervisor, child=child)

    def status(self, **fields: Any) -> Any:
        return self.request("status", **fields)

    def events(self, **fields: Any) -> Any:
        return self.request("events", **fields)

    def why(self, name: str) -> Any:
        return self.request("why", name=name)


def find(run_dir: str | os.PathLike[str] | None) -> str:
    """
    The run_dir that is meant.

    Raises:
        Unreachable, Ambiguous.
    """
    if run_dir is not None:
        return os.fspath(run_dir)
    from regrow.ipc.daemons import connect

    with connect() as control:
        return control.run_dir
