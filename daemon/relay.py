"""
A supervisor between its parent and the supervisors below it: what is for others is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regrow.config import internal
from regrow.daemon.channel_messages import (
    LOST,
    AdmitDown,
    BatchUp,
    Down,
    ForgottenUp,
    LastWordUp,
    MatchedDown,
    NumbersUp,
    ReadyUp,
    ReexecDown,
    ReplyUp,
    RequestDown,
    SnapshotUp,
    SocketDown,
    TellDown,
    Up,
)
from regrow.daemon.core.effects import Code
from regrow.daemon.core.events import ChildReady, PlanChanged, Request
from regrow.daemon.process import Process

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime


_COME_OR_GONE = frozenset({"starting", "exited", "stopped", "start_failed"})


class Relay:
    """
    Messages through one supervisor, and what it must remember of them.

    `inherited` holds the incarnations of names below it from before its own birth.
    """

    def __init__(self, runtime: Runtime, inherited: Mapping[str, int]) -> None:
        self._runtime = runtime
        self._inherited = inherited
        self._incarnations: dict[str, dict[str, int]] = {}

    def carried(self) -> tuple[Mapping[str, int], Mapping[str, Mapping[str, int]]]:
        """The numbers that it knows, to go through an exec: of before its birth, and below each child supervisor."""
        return self._inherited, self._incarnations

    def take_up(self, incarnations: Mapping[str, Mapping[str, int]]) -> None:
        """Go on with what was `carried`."""
        self._incarnations = {name: dict(numbers) for name, numbers in incarnations.items()}

    def from_child(self, process: Process, message: Up) -> None:
        """A message of a nested supervisor: its own readiness and last word end here, the rest goes up."""
        runtime = self._runtime
        if isinstance(message, ReadyUp):
            runtime.feed(ChildReady(process.name, process.incarnation))
        elif isinstance(message, LastWordUp):
            process.last_word = message
        else:
            self._learn(process, message)
            runtime.upward.send(message)

    def _learn(self, process: Process, message: Up) -> None:
        """
        Remember the numbers of incarnations below a supervisor, for when it must be made anew, and their sessions.

        A number is told before there is a child and a report is kept back for a moment: a supervisor that is
        killed in between has used the number all the same.
        """
        numbers = self._incarnations.setdefault(process.name, {})
        match message:
            case BatchUp():
                for report in (each.report for each in message.reports):
                    if report.pid is not None and report.event in _COME_OR_GONE:
                        self._runtime.reaper.below(report.pid, gone=report.event != "starting")
                    if report.event == "starting":
                        numbers[report.child] = report.incarnation
            case NumbersUp():
                numbers.update(message.numbers)
            case ForgottenUp():  # should it come again, the root knows its number and says it
                numbers.pop(message.child, None)
            case SnapshotUp():
                for child in message.children:
                    numbers[child.name] = child.incarnation
                    if child.pid is not None:
                        self._runtime.reaper.below(child.pid, gone=False)

    def forget(self, supervisor: str) -> None:
        """There is no such supervisor below any more."""
        self._incarnations.pop(supervisor, None)

    def incarnations_below(self, supervisor: str) -> Mapping[str, int]:
        """The newest incarnation of each name below a child supervisor, over all its own incarnations."""
        known = dict(self._inherited)
        for name, number in self._incarnations.get(supervisor, {}).items():
            known[name] = max(number, known.get(name, 0))
        return known

    def from_parent(self, message: Down) -> None:
        """A request for this supervisor or for one below it, or what all must know."""
        if isinstance(message, AdmitDown):
            self._runtime.context = replace(self._runtime.context, mailbox=message.mailbox)
            self.to_all(message)
        elif isinstance(message, SocketDown):
            self._take_socket(message)
        elif isinstance(message, TellDown):
            self._runtime.tell_all()
        elif message.route:
            self._pass_on(message)
        elif isinstance(message, ReexecDown):
            self._runtime.renewal.asked(message)
        elif isinstance(message, MatchedDown):
            self._runtime.feed(ChildReady(message.child, message.incarnation))
        else:
            if isinstance(message.event, PlanChanged):
                self._inherited = {**self._inherited, **message.event.incarnations}
            self._runtime.requested(message.event)

    def _take_socket(self, message: SocketDown) -> None:
        """Children that are made from now on get this one; what they have they keep."""
        runtime = self._runtime
        sockets = dict(runtime.context.sockets)
        before = sockets.pop(message.name, -1)
        if message.fd >= 0:
            sockets[message.name] = message.fd
        elif message.fd == LOST:
            runtime.note("fault", "", 0, f"the socket {message.name} was lost: there was no descriptor for it")
        runtime.context = replace(runtime.context, sockets=sockets)
        runtime.standby.renew()
        self.to_all(message)
        if before not in (-1, message.fd):
            os.close(before)

    def to_all(self, message: AdmitDown | SocketDown | TellDown) -> None:
        """Send to every supervisor directly below; regrow's own workers have no use for sockets."""
        for process in self._runtime.processes.values():
            if process.name == internal.SYSTEM and isinstance(message, SocketDown):
                continue
            if process.channel is not None and process.ended is None:
                process.channel.send(message)

    def _pass_on(self, message: RequestDown | MatchedDown | ReexecDown) -> None:
        process = self._runtime.processes.get(message.route[0])
        if process is not None and process.channel is not None and process.ended is None:
            process.channel.send(replace(message, route=message.route[1:]))
        elif (request := _request(message)) is not None:
            text = f"{message.route[0]} is not running"
            self._runtime.upward.send(ReplyUp(request, code=Code.NOPROC, message=text))


def _request(message: RequestDown | MatchedDown | ReexecDown) -> int | None:
    """The number of what is to be answered."""
    if isinstance(message, RequestDown):
        return message.event.request if isinstance(message.event, Request) else None
    return message.request if isinstance(message, ReexecDown) else None
