"""
Deaths and signals that an agent hears of: each goes to its hook.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.ipc.down import Down
from regrow.workers.agent import Agent
from regrow.workers.handlers import Signature
from regrow.workers.mismatch import mismatch

if TYPE_CHECKING:
    from regrow.ipc.mailbox import Signal
    from regrow.ipc.signals import Signals
    from regrow.workers.answers import Complaints


class News:
    """What reaches the hooks of one agent."""

    def __init__(self, agent: Agent, signals: Signals, complaints: Complaints) -> None:
        self._agent = agent
        self._signals = signals
        self._complaints = complaints
        self._type = _signal_type(type(agent))

    def hook(self, item: Down | Signal) -> Callable[[], Any] | None:
        """
        What is to be called. None for a signal that is not what the hook takes: its publisher's fault, and dropped.
        """
        if isinstance(item, Down):
            return partial(self._agent.on_down, item)
        self._signals.handled()
        if item.lost:
            lost = f"{item.lost} before one of {item.topic}"
            self._complaints.make(f"signals are lost, {lost}: it does not keep up with them")
        message = item.message
        if self._type is not None:
            try:
                message = msgspec.convert(message, self._type)
            except msgspec.ValidationError as error:
                self._complaints.make("a signal of {} is dropped: {}: {}".format(item.topic, *mismatch(error)))
                return None
        return partial(self._agent.on_signal, item.topic, message)


def _signal_type(agent: type[Agent]) -> Any:
    """What the class wants `message` to be; None: as it comes."""
    if agent.on_signal is Agent.on_signal:
        return None
    hints = Signature(agent.on_signal, f"{agent.__name__}.on_signal").hints
    return hints[1] if len(hints) > 1 and hints[1] is not Any else None
