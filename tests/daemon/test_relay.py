"""What a supervisor passes on, and what it remembers of it."""

from __future__ import annotations

from typing import cast
from unittest.mock import MagicMock

from regrow.config.spec import Kind, SupervisorSpec
from regrow.daemon.channel_messages import BatchUp, ChildNow, ForgottenUp, NumbersUp, ReportUp, SnapshotUp, TellDown
from regrow.daemon.core.effects import Report
from regrow.daemon.core.state import SlotState
from regrow.daemon.process import Process
from regrow.daemon.relay import Relay
from regrow.daemon.runtime import Runtime


def relay(runtime: MagicMock) -> Relay:
    """The relay of a supervisor that was told of one name when it was made."""
    return Relay(cast(Runtime, runtime), {"old": 7})


def test_numbers_are_known_before_they_are_reported() -> None:
    """A supervisor that is killed between making a child and telling of it does not use its number again."""
    runtime = MagicMock()
    made, sup = relay(runtime), Process("sup", 1, SupervisorSpec("sup"), 10)
    made.from_child(sup, BatchUp((ReportUp("sup", 10, 0.0, Report(1, "starting", "a", 2, pid=11)),)))
    made.from_child(sup, NumbersUp((("a", 3), ("b", 1))))
    made.from_child(sup, SnapshotUp("sup", (ChildNow("c", Kind.COMMAND, SlotState.RUNNING, 5, 13, 0),)))
    assert made.incarnations_below("sup") == {"old": 7, "a": 3, "b": 1, "c": 5}
    assert [call.args for call in runtime.reaper.below.call_args_list] == [(11,), (13,)]
    assert runtime.upward.send.call_count == 3


def test_what_has_left_is_forgotten() -> None:
    """Of names that are no longer any child's nothing is kept here, however many there have been."""
    made, sup = relay(MagicMock()), Process("sup", 1, SupervisorSpec("sup"), 10)
    for number in range(100):
        made.from_child(sup, NumbersUp(((f"task-{number}", 1), ("stays", number))))
        made.from_child(sup, ForgottenUp("sup", f"task-{number}"))
    assert made.incarnations_below("sup") == {"old": 7, "stays": 99}
    made.forget("sup")
    assert made.carried() == ({"old": 7}, {})


def test_all_below_are_asked_to_tell() -> None:
    """What was lost above a supervisor may have been said by any below it: each tells, and asks those below."""
    runtime = MagicMock()
    made = relay(runtime)
    made.from_parent(TellDown())
    assert runtime.tell_all.call_count == 1
    living, dead, worker = MagicMock(ended=None), MagicMock(), MagicMock(channel=None)
    runtime.processes = {"living": living, "dead": dead, "worker": worker}
    made.to_all(TellDown())
    living.channel.send.assert_called_once_with(TellDown())
    dead.channel.send.assert_not_called()
