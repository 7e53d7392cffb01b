"""
How an agent ends by itself or because it was asked to: the reason, and the status that says so to its supervisor.

Source: Erlang/OTP gen_server (`stop`, `exit/1` in a callback); contract section 1 (status 82).
"""

from __future__ import annotations

from typing import NamedTuple

from regrow.config import exits

NORMAL, SHUTDOWN = "normal", "shutdown"


class Ending(NamedTuple):
    """`text` is for the supervisor where the status alone does not say it."""

    reason: str
    status: int
    text: str = ""


ASKED = Ending(SHUTDOWN, exits.DONE)
"""The supervisor, or somebody in its place, has asked for it."""


def of_reason(reason: str) -> Ending:
    """The end that `Agent.stop(reason)` asks for."""
    match reason:
        case "normal":
            return Ending(NORMAL, exits.DONE)
        case "shutdown":
            return Ending(SHUTDOWN, exits.SHUTDOWN)
        case _:
            return Ending(reason, exits.REFUSED, f"stopped by itself: {reason}")


def of_exit(exit: SystemExit) -> Ending:
    """The end that `sys.exit(code)` in a handler asks for: OTP's `exit(Reason)`, with a status for a reason."""
    code = exit.code
    if code is None or code == exits.DONE:
        return Ending(NORMAL, exits.DONE)
    if code == exits.SHUTDOWN:
        return Ending(SHUTDOWN, exits.SHUTDOWN)
    if isinstance(code, int):
        return Ending(f"exit {code}", code & 0xFF or exits.REFUSED)
    return Ending(str(code), exits.REFUSED, f"exited by itself: {code}")
