"""
Which exits call for a restart.

Source: otp-rules S43-S47 and the vocabulary of the conformance scenarios.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace

from regrow.config.exits import SHUTDOWN
from regrow.config.spec import Restart, SupervisorSpec, WorkerSpec
from regrow.daemon.core.events import Exit, ExitReason
from regrow.daemon.core.state import Slot


class ExitClass(StrEnum):
    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    ABNORMAL = "abnormal"


def exit_class(exit: Exit, spec: WorkerSpec | SupervisorSpec) -> ExitClass:
    """
    File a spontaneous end under OTP's three classes.

    An exit code of the child's `normal_exit` is normal; the reserved code is *shutdown*; every other code,
    and a death by any signal that the supervisor did not send, is abnormal.
    """
    if exit.reason is ExitReason.SHUTDOWN:
        return ExitClass.SHUTDOWN
    if exit.reason is not ExitReason.EXIT:
        return ExitClass.ABNORMAL
    normal = spec.normal_exit if isinstance(spec, WorkerSpec) else (0,)
    if exit.code in normal:
        return ExitClass.NORMAL
    return ExitClass.SHUTDOWN if exit.code == SHUTDOWN else ExitClass.ABNORMAL


def wants_restart(restart: Restart, exit: ExitClass) -> bool:
    """OTP's table; asked only about ends that the supervisor did not bring about."""
    match restart:
        case Restart.PERMANENT:
            return True
        case Restart.TRANSIENT:
            return exit is ExitClass.ABNORMAL
        case Restart.TEMPORARY:
            return False


def known_exit(slot: Slot, exit: Exit) -> Exit:
    """The exit under the reason for which the supervisor itself killed the child, with the kernel's code or signal."""
    if slot.forced is None:
        return exit
    text = "; ".join(part for part in (slot.forced.text, exit.text) if part)
    return replace(exit, reason=slot.forced.reason, text=text)
