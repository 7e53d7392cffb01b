"""Timers under any course of clocks, against a dictionary."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from timerworld import DAY, HOUR, World

from regrow.ipc import firing, timers
from regrow.ipc.clocks import Due


class Model(RuleBasedStateMachine):
    """Posts that are put off, on any course of clocks: each comes exactly once, never early, as soon as it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.folder)
        self.waiting: dict[str, Due] = {}
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.world.begin()

    @rule(by=st.integers(0, DAY))
    def delay(self, by: int) -> None:
        self.number += 1
        self.world.delay(str(self.number), by)
        self.waiting[str(self.number)] = Due(self.world.now.elapsed + by, by_elapsed=True)

    @rule(by=st.integers(-HOUR, DAY))
    def at(self, by: int) -> None:
        self.number += 1
        due = Due(self.world.now.wall + by)
        self.world.post(str(self.number), due)
        self.waiting[str(self.number)] = due

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.world.cancel(id)
        del self.waiting[id]

    @rule(by=st.integers(0, DAY))
    def pass_time(self, by: int) -> None:
        self.world.pass_time(by)

    @rule(by=st.integers(-DAY, DAY).filter(lambda by: abs(by) > timers._JITTER))
    def set_clock(self, by: int) -> None:
        """By more than is taken for the two clocks not being read at one moment."""
        self.world.set_clock(by)

    @rule(off_for=st.integers(-HOUR, DAY))
    def reboot(self, off_for: int) -> None:
        offset = self.world.now.offset
        self.waiting = {id: Due(due.wall(offset)) for id, due in self.waiting.items()}
        self.world.reboot(off_for)
        self.world.begin()

    @rule()
    def fire_and_fail(self) -> None:
        """Killed inside the transaction."""
        todo = self.world.plan()

        def change(txn: Any) -> None:
            firing.settle(txn, self.world.db, todo, self.world.now, self.world.told.append)
            raise KeyError

        with pytest.raises(KeyError):
            self.world.store.write(change)

    @rule()
    def fire(self) -> None:
        world, now = self.world, self.world.now
        world.fire()
        due = {id: due.wall(now.offset) for id, due in self.waiting.items() if due.wall(now.offset) <= now.wall}
        came = world.take()
        assert sorted(came) == sorted(due)
        self.waiting = {id: due for id, due in self.waiting.items() if id not in came}

    @invariant()
    def what_is_listed_is_what_waits(self) -> None:
        world = self.world
        listed = world.store.read(lambda txn: [(at, each.id) for at, each in timers.listed(txn, world.db, world.now)])
        assert sorted(listed) == sorted((due.wall(world.now.offset), id) for id, due in self.waiting.items())

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.folder)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=40)
