"""
What only the root of the daemon knows of a process: of what it died, and which process a command has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from regrow.ipc.control import ControlClient
from regrow.ipc.down import UNKNOWN
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


class CutShort(Struct, frozen=True):
    """How the incarnation ended that was in the middle of something; `at` in seconds since the epoch."""

    reason: str
    text: str
    at: float
    signal: str = ""


def cut_short(run_dir: str, name: str, incarnation: int) -> CutShort | None:
    """
    How the one before this incarnation ended, which has left something half done; None: that was nobody's fault.

    An end that the root cannot explain counts like any other: the process is gone in the middle of it, and what ends
    its process each time, on a machine that is too busy to say how, would be tried for ever.
    """
    if incarnation <= 1:  # all of the daemon has ended
        return None
    found = last_exit(run_dir, name, incarnation - 1)
    if found is None:
        return CutShort(UNKNOWN, "the daemon cannot say how the process ended", time.time())
    if found["reason"] in FORGIVEN:
        return None
    code = found.get("code")
    parts = (found.get("signal"), None if code is None else f"exit status {code}", found.get("text"))
    how = " ".join(str(part) for part in parts if part is not None)
    return CutShort(found["reason"], how, found.get("at") or time.time(), str(found.get("signal") or ""))


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
