"""
A supervisor that is asked to go on in a new program: when it can, and that it says so when it cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.daemon.channel_messages import ReexecDown, ReplyUp
from regrow.daemon.core.effects import Code
from regrow.daemon.core.state import Phase

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime

QUIET_S = 5.0
"""How long a supervisor waits for a moment in which it can; nearly every one will do."""

AGAIN_S = 0.01


class Renewal:
    """Of one supervisor."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def asked(self, message: ReexecDown) -> None:
        """Exec, or answer with what would be carried, as soon as nothing is in the way; spares are in the way."""
        if message.program:
            self._runtime.standby.end_all()
        self._try(message, self._runtime.loop.now() + QUIET_S)

    def _try(self, message: ReexecDown, until_s: float) -> None:

        loop = self._runtime.loop
        reason = self._busy(message)
        if not reason:
            loop.call_soon(lambda: self._do(message))  # when whatever has led here is done with
        elif loop.now() < until_s:
            loop.call_later(AGAIN_S, lambda: self._try(message, until_s))
        else:
            self._refuse(message, Code.BUSY, reason)

    def _do(self, message: ReexecDown) -> None:
        from regrow.daemon.reexec import carried, execute, supervisor

        runtime = self._runtime
        if self._busy(message):
            self.asked(message)
            return
        gathered = supervisor.gather(runtime, message.request)
        try:
            data = carried.encode(gathered)
        except carried.Incompatible as error:
            self._refuse(message, Code.START_FAILED, f"{runtime.spec.name}: {error}")
            return
        if not message.program:
            runtime.upward.send(ReplyUp(message.request, ok=data))
            return
        supervisor.unwatch(runtime)
        failure = execute.become(message.program, data, carried.descriptors(gathered), runtime.loop.unheard)
        supervisor.watch(runtime)
        self._refuse(message, Code.START_FAILED, f"cannot exec {message.program[0]}: {failure.strerror}")

    def _busy(self, message: ReexecDown) -> str:
        from regrow.daemon.reexec import supervisor

        reason = supervisor.busy(self._runtime)
        return reason or ("its spares are being ended" if message.program and self._runtime.standby.remains else "")

    def _refuse(self, message: ReexecDown, code: Code, reason: str) -> None:
        if message.program and self._runtime.state.phase is Phase.RUNNING:
            self._runtime.standby.begin()
        self._runtime.upward.send(ReplyUp(message.request, code=code, message=reason))
