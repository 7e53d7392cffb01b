"""
The news that a process has ended: who, and of what.

The death itself is known at once, from the kernel; its exact reason is known to the supervisor that reaps the
process, so it is asked for when it is first looked at.

Source: otp-rules S200-S204; contract section 2 (`last_exit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Explain = Callable[[str, int], Mapping[str, Any] | None]
"""Asks for the `last_exit` of an incarnation; None when nobody can tell."""

NORMAL, SHUTDOWN, KILLED, NOPROC, NOCONNECTION = "normal", "shutdown", "killed", "noproc", "noconnection"
UNKNOWN = "unknown"
EXCEPTION = "exception"
STACKS_FOLLOW = "; its Python stacks:"
"""How the first line of `text` ends where those of a worker that hung come behind it."""


class Down:
    """
    A process that was monitored or called is dead. `incarnation` is 0 where there never was one.

    `reason` is `normal` (exit 0), `shutdown` (asked to, or status 82), `killed` (SIGKILL), `noproc` (there was nobody),
    `noconnection` (the way to it is lost, it may live), `unknown` (its daemon cannot be asked), and otherwise what
    `last_exit` calls it: `exit`, `signal`, `exception`, `watchdog`, `oom` and so on, with `code`, `signal` and `text`.
    """

    __slots__ = ("_exit", "_explain", "incarnation", "name")

    def __init__(self, name: str, incarnation: int, explain: Explain | None = None, **exit: Any) -> None:
        self.name = name
        self.incarnation = incarnation
        self._explain = explain
        self._exit: Mapping[str, Any] = exit

    @property
    def exit(self) -> Mapping[str, Any]:
        """The whole `last_exit`, with at least `reason`; asks for it once, which may take some milliseconds."""
        if "reason" not in self._exit:
            found = self._explain(self.name, self.incarnation) if self._explain is not None else None
            self._exit = found or {"reason": UNKNOWN}
            self._explain = None
        return self._exit

    @property
    def reason(self) -> str:
        return reason_of(self.exit)

    @property
    def code(self) -> int | None:
        return self.exit.get("code")

    @property
    def signal(self) -> str | None:
        return self.exit.get("signal")

    @property
    def text(self) -> str:
        return str(self.exit.get("text") or "")

    def __str__(self) -> str:
        parts = [self.reason]
        if self.code not in (None, 0):
            parts.append(f"status {self.code}")
        if self.signal and self.reason != KILLED:
            parts.append(self.signal)
        if self.text:
            lines = self.text.strip().splitlines()
            # A traceback ends with what it is about.
            parts.append(lines[-1] if self.reason == EXCEPTION else lines[0].removesuffix(STACKS_FOLLOW))
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"Down({self.name!r}, {self.incarnation}, {self.reason!r})"


def reason_of(exit: Mapping[str, Any]) -> str:
    """OTP's word for a `last_exit`, where OTP has one (S202)."""
    match exit["reason"]:
        case "exit":
            return NORMAL if exit.get("code") == 0 else "exit"
        case "signal":
            return KILLED if exit.get("signal") == "SIGKILL" else "signal"
        case "stopped":
            return KILLED if exit.get("signal") == "SIGKILL" else SHUTDOWN
        case reason:
            return str(reason)
