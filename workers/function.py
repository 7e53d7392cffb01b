"""
Running `function = "module:callable"` in a process that was forked for it and never exec'd.

The process is a `multiprocessing` one in all that user code can see (its name, `parent_process()`, its
children, its exit handlers); only the fork itself is the supervisor's.

Source: Python's multiprocessing.process and multiprocessing.popen_fork.
"""

from __future__ import annotations

import regrow.workers.forkhooks  # isort: skip  # before anything loads threading
import gc
import importlib
import multiprocessing.context
import multiprocessing.process
import multiprocessing.util  # multiprocessing itself would load it in every child
import os
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any, TypeAlias

import msgspec

from regrow.workers.errors import Ignore
from regrow.workers.notify import notify

MAX_TRACEBACK = 16 * 1024


_STDIN = "_close_stdin"
_close_stdin: Callable[[], None] = vars(multiprocessing.util)[_STDIN]


def _leave_stdin() -> None:
    """Descriptor 0 is /dev/null since the fork: opening that once more would cost some 40 page faults, 0.2 ms."""


class FunctionProcess(multiprocessing.context.ForkProcess):
    """A multiprocessing process whose fork has already happened: `bootstrap` is called in the child."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        super().__init__(name=name)
        self._body = body

    def run(self) -> None:
        vars(multiprocessing.util)[_STDIN] = _close_stdin  # for the processes that the body makes
        self._body()

    def bootstrap(self) -> int:
        """Run the body as multiprocessing would; returns the exit status."""
        self._parent_pid = os.getppid()  # this object was made after the fork
        parent_fd = os.pidfd_open(self._parent_pid)  # readable at the parent's death, as multiprocessing expects
        vars(multiprocessing.util)[_STDIN] = _leave_stdin
        return int(self._bootstrap(parent_sentinel=parent_fd))  # type: ignore[attr-defined]


Named: TypeAlias = Callable[[], tuple[str, str]]
"""Waits until a process is given a name: that name, and the arguments as JSON."""


def run(
    name: str,
    target: str,
    args_json: str,
    import_path: str,
    started: Callable[[], None],
    kwargs: dict[str, Any],
    named: Named | None = None,
) -> int:
    """
    Import `target`, say `started()`, call it with the arguments, and return the exit status.

    `kwargs` are added to those of `args_json`. `named`, where given, is waited for when the target is imported. An
    exception is reported to the supervisor with its traceback, printed, and ends the process with status 1; `Ignore`
    says that the worker is not needed.
    """

    def body() -> None:
        try:
            function = load(target, import_path)
            _, arguments = (name, args_json) if named is None else take_name(named)
            started()
            function(**msgspec.json.decode(arguments), **kwargs)
        except Ignore:
            notify("X_REGROW_IGNORE=1")
        except SystemExit:
            raise
        except BaseException:
            report_exception()
            raise

    regrow.workers.forkhooks.restore()
    gc.enable()
    return FunctionProcess(name, body).bootstrap()


def take_name(named: Named) -> tuple[str, str]:
    """Wait for a name, and be called by it; returns it with the arguments."""
    gc.collect()  # what the import has left behind is nobody's business later
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # to where the output goes until then
    name, args_json = named()
    multiprocessing.process.current_process().name = name
    return name, args_json


def load(target: str, import_path: str) -> Callable[..., object]:
    """The callable that `module:attribute.path` names; `import_path` is looked in first."""
    if import_path and import_path not in sys.path:
        sys.path.insert(0, import_path)
    module_name, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"cannot run {target}: it is not callable")
    return found  # type: ignore[no-any-return]


def look_in(import_path: str) -> None:
    """Look into the folder that modules are imported from, so that the forks of this process find them at once."""
    if import_path:
        if import_path not in sys.path:
            sys.path.insert(0, import_path)
        PathFinder.find_spec("", [import_path])  # its finder notes what is in it


def report_exception() -> None:
    """Tell the supervisor which exception ends this process, while it is being handled."""
    text = traceback.format_exc().strip()
    if len(text) > MAX_TRACEBACK:
        text = f"{text[: MAX_TRACEBACK // 2]}\n…\n{text[-MAX_TRACEBACK // 2 :]}"
    notify("X_REGROW_EXCEPTION=" + text.replace("\n", "\x1f"))
