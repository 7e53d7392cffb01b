"""The channel between supervisors: what is kept back, what is dropped, and what arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regrow.daemon import channel
from regrow.daemon.channel import MAX_PUT, BatchUp, Channel, LastWordUp, ReportUp, Up
from regrow.daemon.core.effects import Outcome, Report
from regrow.daemon.loop import Loop


class Ends:
    """Both ends of a channel in one loop, and what has arrived at the parent's."""

    def __init__(self) -> None:
        self.loop = Loop()
        parent, child = channel.pair()
        self.arrived: list[Up] = []
        self.parent = Channel(self.loop, parent, Up, self.arrived.append, lambda: None)
        self.child = Channel(self.loop, child, channel.Down, lambda _message: None, lambda: None)

    def reports(self) -> list[int]:
        """The numbers of the reports that have arrived, batch by batch."""
        self.parent.drain()
        return [len(message.reports) for message in self.arrived if isinstance(message, BatchUp)]

    def close(self) -> None:
        self.parent.close()
        self.child.close()
        self.loop.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends, closed afterwards."""
    made = Ends()
    yield made
    made.close()


def report(number: int) -> ReportUp:
    """Some report."""
    return ReportUp("sup", 1, 0.0, Report(number, "ready", "a"))


def test_what_was_dropped_is_counted_and_told_once(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads for long: reports are dropped, and as soon as the rest has gone, whoever made them is told."""
    monkeypatch.setattr(channel, "QUEUE_LIMIT", 10)
    recovered: list[int] = []
    ends.child.on_recovered = recovered.append
    sent = 0
    while not ends.child.queued:
        ends.child.send(BatchUp((report(sent),) * 100))
        sent += 1
    for number in range(15):
        ends.child.send(BatchUp((report(number),) * 100))
    ends.child.send(LastWordUp(Outcome.STOPPED, ""))
    while ends.child.queued:
        ends.parent.drain()
        ends.child.flush_blocking(1.0)
    assert recovered == [6]
    assert len(ends.reports()) == sent + 9
    assert isinstance(ends.arrived[-1], LastWordUp)


def test_many_reports_are_not_kept_back(ends: Ends) -> None:
    """Whoever reads them has work to do while more are made; a few wait for the flush."""
    for number in range(2 * MAX_PUT + 1):
        ends.child.put(report(number))
    assert ends.reports() == [MAX_PUT, MAX_PUT]
    ends.child.flush()
    assert ends.reports() == [MAX_PUT, MAX_PUT, 1]
