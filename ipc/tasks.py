"""
Tasks: functions that run once, each in a process of its own below a dynamic supervisor.

A task connects to its owner and gets its job over that connection; the result comes back over it. So the job begins
only when its owner is known to watch (S218, S233), and what was sent before a death is read before the death is told.

Source: otp-rules S230-S246; Elixir's Task.Supervisor.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import threading
from collections.abc import Iterable
from typing import Any

from regrow.ipc.control import ControlClient
from regrow.ipc.errors import BadRequest, NoProcess, Unreachable
from regrow.ipc.node import Node
from regrow.ipc.process import start_time
from regrow.ipc.task import Task
from regrow.ipc.task_meeting import CONNECT_S, meet
from regrow.ipc.task_process import TaskProcess
from regrow.ipc.task_stream import Flow, Stream, StreamOptions
from regrow.ipc.task_wire import abstract, encode_job, framed
from regrow.ipc.unsendable import bad_arguments
from regrow.ipc.verbs import CALL_S, Verbs, Where
from regrow.ipc.wire import UNSENDABLE

START_S = 30.0
"""How long a supervisor may take to start a task."""

MAX_SPEC_BYTES = 1 << 19
"""What of a job a child's spec can hold: the daemon reads requests of up to 1 MiB."""

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_RUN, _RUN_ALONE = "regrow.workers.task:run", "regrow.workers.task:run_alone"


class TaskSupervisor:
    """
    Starts tasks under the dynamic supervisor `supervisor` of the daemon that `who` talks to.

    Functions are named as in the file, `module:function`; arguments and results are values that messages can carry.
    May be used by several threads at once.

    Args:
        who: a Client, or an agent: the owner of the tasks.
        shutdown: how long a task that is asked to end may take, in seconds (S230), or `"brutal_kill"`.
    """

    def __init__(self, who: Verbs | Node, supervisor: str, *, shutdown: float | str = 5.0) -> None:
        self._control: ControlClient | None = None
        self._node = who if isinstance(who, Node) else who._node
        self._supervisor = supervisor
        self._shutdown = f"{shutdown}s" if isinstance(shutdown, int | float) else shutdown
        self._lock = threading.Lock()
        self._control_pid = 0

    def async_(self, function: str, /, *args: Any, **kwargs: Any) -> Task:
        """
        Start a linked task: it is killed when this process dies, and its failure is raised where it is waited for.

        Raises:
            Refused (`max_children`, `noproc`, `start_failed`, …), BadRequest, ValueError, Unreachable, ControlTimeout.
        """
        return Task(self._started(function, args, kwargs, linked=True), function, linked=True)

    def async_nolink(self, function: str, /, *args: Any, **kwargs: Any) -> Task:
        """Start a task that goes on when this process dies. Raises as `async_` does."""
        return Task(self._started(function, args, kwargs, linked=False), function, linked=False)

    def start_child(self, function: str, /, *args: Any, restart: str = "temporary", **kwargs: Any) -> Where:
        """
        Start a task that nobody waits for; with another `restart` it is done again as the supervisor decides.

        Its arguments travel with the child's spec and may have half a mebibyte.

        Raises:
            As `async_` does.
        """
        job = _job(function, args, kwargs)
        if len(job) > MAX_SPEC_BYTES:
            raise BadRequest(function, f"the arguments have {len(job)} bytes, {MAX_SPEC_BYTES} are the limit of a spec")
        name = _name(function)
        answer = self._ask(name, _RUN_ALONE, {"job": base64.b64encode(job).decode()}, restart)
        return Where(name, 1, answer["pid"])

    def async_stream(
        self,
        function: str,
        inputs: Iterable[Any],
        /,
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float = CALL_S,
        on_timeout: str = "exit",
        zip_input_on_exit: bool = False,
        returns: Any = None,
    ) -> Stream:
        """
        Call the function with each element, in a linked task for each, and give the results as they come.

        Args:
            max_concurrency: how many tasks run at once; default: the number of cores.
            ordered: results in the order of the elements; otherwise as the tasks end.
            timeout: of each task, in seconds from its start; what is late is killed.
            on_timeout: `exit` raises CallTimeout then, `kill_task` gives an Exit and goes on.
            zip_input_on_exit: put the element into each Exit.
            returns: the type to make of each result.
        Raises:
            TypeError, ValueError, at once. While it runs: CallTimeout, ProcessDown (a task failed), and as `async_`.
        """
        options = (max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit, True, returns)
        return self._stream(function, inputs, options)

    def async_stream_nolink(
        self,
        function: str,
        inputs: Iterable[Any],
        /,
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float = CALL_S,
        on_timeout: str = "exit",
        zip_input_on_exit: bool = False,
        returns: Any = None,
    ) -> Stream:
        """The same with tasks that are not linked: one that fails gives an Exit, and the stream goes on."""
        options = (max_concurrency, ordered, timeout, on_timeout, zip_input_on_exit, False, returns)
        return self._stream(function, inputs, options)

    def close(self) -> None:
        """Close the connection to the daemon; tasks go on, and may still be waited for."""
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None

    def __del__(self) -> None:
        if self._control is not None:
            self._control.close()

    def _stream(self, function: str, inputs: Iterable[Any], options: tuple[Any, ...]) -> Stream:
        checked = StreamOptions(*options)
        checked.check()
        _check_target(function)

        def start(input: Any) -> TaskProcess:
            return self._started(function, (input,), {}, linked=checked.linked, quiet=True)

        return Stream(Flow(self._node, function, inputs, start, checked))

    def _started(self, function: str, args: Any, kwargs: Any, *, linked: bool, quiet: bool = False) -> TaskProcess:
        """A task that has its job."""
        job = _job(function, args, kwargs)
        if self._node.closed:
            raise NoProcess(self._supervisor, "this side was closed")
        name = _name(function)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind("")  # the kernel finds a free address
            listener.listen()
            pid = os.getpid()
            owner = abstract(listener.getsockname().decode())
            fields = {"owner": owner, "pid": pid, "began": start_time(pid), "linked": linked}
            answer = self._ask(name, _RUN, fields, "temporary")
            met = meet(listener, answer["pid"])
        process = TaskProcess(self._node, self._supervisor, name, answer["pid"], quiet=quiet)
        if met is None:
            process.died_early()
        else:
            process.begin(*met, framed(job), CONNECT_S)
        return process

    def _ask(self, name: str, function: str, args: dict[str, Any], restart: str) -> Any:
        spec = {"id": name, "function": function, "args": args, "restart": restart, "shutdown": self._shutdown}
        with self._lock:
            known = self._control is not None and self._control_pid == os.getpid()
            for again in (known, False):
                if self._control is None or self._control_pid != os.getpid():
                    self._control = ControlClient(self._node.run_dir)
                    self._control_pid = os.getpid()
                try:
                    return self._control.request(
                        "start_child", within_s=START_S, supervisor=self._supervisor, spec=spec
                    )
                except Unreachable:
                    self._control.close()
                    self._control = None
                    if not again:  # the daemon may have been started anew since; the name is used once, so no doubles
                        raise
        raise AssertionError("internal error: neither an answer nor an error")


def _check_target(function: object) -> None:
    if not isinstance(function, str) or not _TARGET.fullmatch(function):
        raise ValueError(f"a task's function is named as `module:function`, not {function!r}")


def _job(function: str, args: Any, kwargs: Any) -> bytes:
    _check_target(function)
    try:
        return encode_job(function, args, kwargs)
    except UNSENDABLE as error:
        raise bad_arguments(function, function, args, kwargs, error) from None


def _name(function: str) -> str:
    """A name that is never used again: the reference of a task. It begins with its function's."""
    word = re.sub(r"[^a-z0-9_]", "-", function.rpartition(":")[2].lower())[:32]
    return f"{word if word[:1].isalpha() else f'task{word}'}-{os.urandom(8).hex()}"
