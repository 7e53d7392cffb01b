"""
What can go wrong between a client and the daemon, by who must act.

    ControlError              every error of this package; its text is one line: what, where, what to do
    ├── Refused               the daemon understood and said no; `code` is from a closed list
    ├── Unreachable           no daemon answered: none runs there, or this user may not talk to it
    ├── Ambiguous             several daemons run and the caller did not say which
    └── ControlTimeout        the daemon is there and its answer did not come in time
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

CODES = frozenset(
    {
        "not_found",
        "running",
        "restarting",
        "already_started",
        "already_present",
        "max_children",
        "noproc",
        "shutdown",
        "start_failed",
        "bad_request",
        "forbidden",
        "timeout",
        "internal",
    }
)
"""OTP's refusals, and those that a socket adds (contract, section 3)."""


class ControlError(Exception):
    """Anything that kept a request from being answered with `ok`."""


class Refused(ControlError):
    """
    The daemon refused: nothing was done, or `message` says what was.

    `details` holds whatever else the answer carried, such as the `pid` of `already_started`.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class Unreachable(ControlError):
    """
    There was nobody to ask, or the connection broke before the answer.

    `absent`: no daemon is there at all, as opposed to one that cannot be talked to.
    """

    def __init__(self, what: str, why: str, remedy: str, *, absent: bool = False) -> None:
        super().__init__(f"{what}: {why}; {remedy}")
        self.absent = absent
        self.what = what
        self.why = why
        self.remedy = remedy


class Ambiguous(ControlError):
    """Several daemons run; `run_dirs` are theirs."""

    def __init__(self, listed: str, run_dirs: Sequence[str]) -> None:
        super().__init__(
            f"cannot tell which daemon is meant: {len(run_dirs)} run ({listed}); say --name NAME or --run-dir DIR"
        )
        self.run_dirs = tuple(run_dirs)


class ControlTimeout(ControlError):
    """
    The answer did not come within `within_s` seconds.

    The request may have been carried out, or still be: this says nothing about it.
    """

    def __init__(self, what: str, within_s: float, remedy: str) -> None:
        super().__init__(f"{what}: no answer within {within_s:g} s; {remedy}")
        self.within_s = within_s
