"""
What only the root of the daemon knows of a process: of what it died, and which process a command has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.ipc.control import ControlClient
from regrow.ipc.errors import ControlError
from regrow.ipc.names import Record
from regrow.ipc.process import is_shortage, start_time

EXPLAIN_S = 2.0
"""How long the root may take: it waits for the supervisor that reaps the process."""

FORGIVEN = frozenset({"stopped", "shutdown", "normal"})
"""Ends that are nobody's fault: an attempt that was cut short by one does not count."""


def last_exit(run_dir: str, name: str, incarnation: int) -> Mapping[str, Any] | None:
    """The `last_exit` of exactly that incarnation; None when the root cannot say."""
    try:
        found = _ask(run_dir, "exit_reason", name=name, incarnation=incarnation, within_s=EXPLAIN_S)
    except OSError:
        return None
    return found if isinstance(found, dict) and "reason" in found else None


def process_of(run_dir: str, name: str) -> Record | None:
    """
    The process of a command or a function, which has no record of its own; None when none lives.

    Blocks for up to 3 s when the root does not answer.

    Raises:
        OSError: it cannot be told: too many open files.
    """
    rows = _ask(run_dir, "status", names=[name])
    for row in rows if isinstance(rows, list) else ():
        if row["name"] == name and row["pid"] is not None:
            return Record(name, row["incarnation"], row["pid"], start_time(row["pid"]), "")
    return None


def _ask(run_dir: str, verb: str, **fields: Any) -> Any:
    try:
        with ControlClient(run_dir, timeout_s=EXPLAIN_S + 1.0) as control:
            return control.request(verb, **fields)
    except ControlError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and is_shortage(cause):
            raise cause from None
        return None
