"""
How many spares there are, and whom they become.

They serve what the supervisor starts on its own account. Whoever asks for a start wants what is on disk now: the spares
of the group are ended then and made anew, as after a reload and after a start that failed. They are made when
nobody of their group is being started, one at a time.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from msgspec import Struct

from regrow.config.spec import WorkerSpec
from regrow.daemon import birth
from regrow.daemon import spare as spares
from regrow.daemon.channel_messages import StandbyUp
from regrow.daemon.core.effects import Report, Spawn
from regrow.daemon.core.events import Exit, Spawned
from regrow.daemon.core.state import Batch, Phase, SlotState, StartFor
from regrow.daemon.errors import SpawnError
from regrow.daemon.handover import STANDING
from regrow.daemon.loop import Timer
from regrow.daemon.process import Process
from regrow.daemon.signalling import kill_group
from regrow.daemon.spare import Spare

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime

SETTLE_S = 0.1
"""After a change in a group: its successors have the processors for themselves."""

ANSWER_S = 0.25
"""A spare that has not taken what was handed over by then is stopped, or hangs."""

AGAIN_S = 1.0
AGAIN_MOST_S = 60.0
"""The pause after the first spare that failed, doubled after each further one, and its limit."""

MOST_FAILURES = 8
"""In a row; then there are no more spares until a member of the group becomes ready again."""

STOOD_S = 60.0
"""A spare that has stood by for that long was no failure of those in a row."""

_UP = frozenset({SlotState.STARTING, SlotState.RUNNING, SlotState.WAITING})
_FEWER = frozenset({"stopping", "stopped", "exited", "ignored"})


class Group(Struct):
    """The spares of one group, and how making them goes; `told` is what the root knows of it."""

    spares: list[Process] = []
    failures: int = 0
    not_before_s: float = 0.0
    failure: str = ""
    told: tuple[tuple[int, ...], str] = ((), "")


class Standby:
    """The spares of all children of one supervisor; `serial` is the newest number of one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._groups: dict[str, Group] = {}
        self._handed: dict[str, Process] = {}
        self.serial = 0
        self._on = False
        self._timer: Timer | None = None
        self._due_s = 0.0

    # what others ask for

    def begin(self) -> None:
        """Have as many as the file wants from now on."""
        self._on = True
        self._look_after(SETTLE_S)

    def end_all(self) -> None:
        """End all spares and make no more until `begin`; who has been handed a name keeps it."""
        self._on = False
        for group in self._groups.values():
            self._end(group)

    @property
    def remains(self) -> bool:
        """Whether a spare lives that has no name, or not yet."""
        return bool(self._handed) or any(group.spares for group in self._groups.values())

    def serves(self, effect: Spawn, spec: WorkerSpec) -> bool:
        """Have a spare be this child. False: there is none that could, and it is to be made."""
        group = self._groups.get(spec.group)
        slot = self._runtime.state.slots.get(effect.child)
        if group is None or slot is None:
            return False
        if slot.start_for is not StartFor.RESTART:
            self._end(group)
            return False
        fit = [process for process in group.spares if _fits(process, spec)]
        env = birth.environ(self._runtime.context, spec, effect.incarnation) if fit else {}
        with self._runtime.pipes.several(2):  # whoever hears of a number wakes up, and would be in the way
            for process in fit:
                if spares.hand_over(self._runtime, process, effect, spec, env):
                    group.spares.remove(process)
                    self._await(process, effect)
                    return True
        return False

    def lacks(self, child: str) -> bool:
        """Whether a spare has yet to answer for `child`."""
        return child in self._handed

    def give_up(self, child: str) -> bool:
        """`child` is not to be any more; True when a spare was to be it, whose end will be told."""
        process = self._handed.get(child)
        if process is None or process.spare is None:
            return False
        process.spare.given_up = True
        spares.end(process)
        return True

    def renew(self) -> None:
        """Make all spares anew: what they have imported or inherited is not what holds now."""
        for group in self._groups.values():
            self._renew(group)
        self._look_after(SETTLE_S)

    def noticed(self, report: Report) -> None:
        """Something has changed; perhaps more spares are wanted, or none."""
        state = self._runtime.state
        if state.phase in (Phase.STOPPING, Phase.ENDED):
            self.end_all()
        elif report.event == "reloaded":
            self.renew()
        else:
            slot = state.slots.get(report.child)
            if slot is not None and isinstance(slot.spec, WorkerSpec) and slot.spec.standby:
                self._changed(report.event, slot.spec.group)
            elif self._groups:
                self._look_after(SETTLE_S)  # what was forked shares memory anew: see `spare.rehearse`

    def _changed(self, event: str, name: str) -> None:
        """A member of that group has changed."""
        group = self._groups.get(name)
        if group is not None:
            if event == "start_failed":
                self._renew(group)
            elif event == "ready":
                group.failures = min(group.failures, MOST_FAILURES - 1)
            elif event in _FEWER and not self._wanted(name):
                self._end(group)
        self._look_after(SETTLE_S)

    # keeping as many as there should be

    def _look_after(self, delay_s: float) -> None:
        loop = self._runtime.loop
        due_s = loop.now() + delay_s
        if not self._on or (self._timer is not None and self._due_s <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due_s = loop.call_later(delay_s, self._look), due_s

    def _look(self) -> None:
        self._timer = None
        if not self._on or self._runtime.state.phase is not Phase.RUNNING:
            return
        wanting: dict[str, list[WorkerSpec]] = {}
        for slot in self._runtime.state.slots.values():
            if isinstance(slot.spec, WorkerSpec) and slot.spec.standby:
                wanting.setdefault(slot.spec.group, []).append(slot.spec)
        for name, group in list(self._groups.items()):
            if name not in wanting:
                self._end(group)
                if not group.spares:
                    del self._groups[name]
        for name, specs in wanting.items():
            group = self._groups.setdefault(name, Group())
            self._keep(name, specs, group)
            standing = [process.spare for process in group.spares if process.spare is not None and process.spare.stands]
            if standing:
                spares.rehearse(self._runtime, standing[0], name)

    def _keep(self, name: str, specs: list[WorkerSpec], group: Group) -> None:
        """Make one more, if it is time; whatever speaks against it ends with something that is noticed."""
        slots, loop = self._runtime.state.slots, self._runtime.loop
        kept = [process.spare for process in group.spares if process.spare is not None and not process.spare.ending]
        enough = len(kept) >= specs[0].standby or not all(spare.stands for spare in kept)
        starting = any(slots[spec.name].state is SlotState.STARTING for spec in specs)
        if enough or starting or group.failures >= MOST_FAILURES or not self._wanted(name):
            return
        if (wait_s := group.not_before_s - loop.now()) > 0:
            self._look_after(wait_s)
            return
        try:
            process = spares.make(self._runtime, name, specs, self.next_serial())
        except SpawnError as error:
            self._failed(name, group, str(error))
            return
        group.spares.append(process)
        self._runtime.reaper.born(process)
        self._runtime.hearing.born(process)
        limit_s = specs[0].ready.timeout_s
        assert process.spare is not None
        process.spare.timer = loop.call_later(limit_s, lambda: _too_slow(process, limit_s))

    def _wanted(self, name: str) -> bool:
        """Whether anybody of the group may be started without being asked for."""
        state = self._runtime.state
        scope = state.operation.scope if isinstance(state.operation, Batch) else ()
        put_off = not state.independent and any(slot.state is SlotState.WAITING for slot in state.slots.values())
        return any(
            put_off or slot.state in _UP or child in scope
            for child, slot in state.slots.items()
            if isinstance(slot.spec, WorkerSpec) and slot.spec.group == name
        )

    def next_serial(self) -> int:
        """A number that no spare of this supervisor has had."""
        self.serial += 1
        return self.serial

    def _renew(self, group: Group) -> None:
        """What they have imported may not be what is on disk now."""
        self._end(group)
        group.failures, group.not_before_s = 0, 0.0

    @staticmethod
    def _end(group: Group) -> None:
        for process in group.spares:
            spares.end(process)

    def _failed(self, name: str, group: Group, why: str) -> None:
        """Tell it, and wait longer and longer before the next attempt."""
        group.failures += 1
        pause_s = min(AGAIN_MOST_S, AGAIN_S * 2 ** (group.failures - 1))
        group.not_before_s = self._runtime.loop.now() + pause_s
        group.failure = why.strip().rpartition("\n")[2]
        next_one = f"the next in {pause_s:g} s" if group.failures < MOST_FAILURES else "no more until one is ready"
        members = [child for child, slot in self._runtime.state.slots.items() if _is_of(slot.spec, name)]
        text = f"a spare of {name} failed, {next_one}: {why}"
        self._tell(name, group)
        self._runtime.note("standby_failed", members[0] if members else name, 0, text)
        self._look_after(pause_s)

    # handing over

    def _await(self, process: Process, effect: Spawn) -> None:
        """What was handed over is to be taken soon."""
        spare = process.spare
        assert spare is not None
        self._handed[effect.child] = process
        spare.timer = self._runtime.loop.call_later(ANSWER_S, lambda: self._late(process, spare, effect))

    def heard(self, process: Process, message: bytes) -> bytes:
        """What a spare says on its status pipe; what is left is said by the child that it is now."""
        spare = process.spare
        assert spare is not None
        if message.startswith(STANDING):
            self._stands(process, spare)
        elif not spare.ending:
            self._taken(process, spare)
        return message[1:]

    def _stands(self, process: Process, spare: Spare) -> None:
        name = _group_of(process)
        self._runtime.hearing.drain()  # what its import has said is not said by whoever it will be
        if spare.timer is not None:
            spare.timer.cancel()
        spare.stands, spare.since_s = True, self._runtime.loop.now()
        group = self._groups[name]
        group.failure = ""
        self._tell(name, group)
        self._look_after(SETTLE_S)

    def _taken(self, process: Process, spare: Spare) -> None:
        """It is the child from now on."""
        effect, spec, runtime = spare.effect, process.spec, self._runtime
        assert effect is not None
        assert isinstance(spec, WorkerSpec)
        spare.settle()
        process.spare = None
        del self._handed[effect.child]
        if (group := self._groups.get(spec.group)) is not None:
            group.failures = 0
        runtime.processes[effect.child] = process
        process.env = spare.env
        process.health = runtime.spawner.health(process)
        runtime.feed(Spawned(effect.child, effect.incarnation, process.pid))

    def _late(self, process: Process, spare: Spare, effect: Spawn) -> None:
        """It does not answer: the child is made, at once if the spare cannot have the name, else after its death."""
        self._runtime.hearing.status(process)
        if process.spare is not spare or spare.ending:
            return
        name = _group_of(process)
        if spare.way.take_back():
            self._runtime.reaper.rename(process, *spare.key)
            del self._handed[effect.child]
            spare.effect = None
            self._runtime.spawner.make(effect)
        spares.end(process)
        if (group := self._groups.get(name)) is not None:
            self._failed(name, group, f"it has not taken over within {ANSWER_S:g} s")

    def ended(self, process: Process, exit: Exit) -> None:
        """A spare is dead, and nothing that it left behind lives any more."""
        spare, runtime, effect = process.spare, self._runtime, None
        assert spare is not None
        spare.settle()
        if process.status_fd >= 0:
            runtime.loop.unwatch(process.status_fd)
            os.close(process.status_fd)
            process.status_fd = -1
        if process.group is not None:
            process.group.remove()
        if (effect := spare.effect) is not None:
            del self._handed[effect.child]
            if spare.given_up:
                runtime.not_made(effect.child, effect.incarnation)
            else:
                runtime.spawner.make(effect)
        self._one_less(process, spare, exit)

    def _one_less(self, process: Process, spare: Spare, exit: Exit) -> None:
        name = _group_of(process)
        group = self._groups.get(name)
        if group is None:
            return
        if process in group.spares:
            group.spares.remove(process)
        if spare.stands and self._runtime.loop.now() - spare.since_s >= STOOD_S:
            group.failures = 0
        if not spare.ending:
            self._failed(name, group, spares.why(spare, exit))
        self._tell(name, group)
        self._look_after(SETTLE_S)

    # telling

    def tell_all(self) -> None:
        """Tell the root of all spares anew."""
        for name, group in self._groups.items():
            group.told = ((), "")
            self._tell(name, group)

    def _tell(self, name: str, group: Group) -> None:
        standing = tuple(
            process.pid
            for process in group.spares
            if process.ended is None and process.spare is not None and process.spare.stands
        )
        if group.told != (standing, group.failure):
            group.told = (standing, group.failure)
            self._runtime.upward.send(StandbyUp(self._runtime.spec.name, name, *group.told))


def _fits(process: Process, spec: WorkerSpec) -> bool:
    spare = process.spare
    return spare is not None and spare.stands and not spare.ending and spare.like == spares.likeness(spec)


def _is_of(spec: object, name: str) -> bool:
    return isinstance(spec, WorkerSpec) and spec.group == name


def _group_of(process: Process) -> str:
    assert isinstance(process.spec, WorkerSpec)
    return process.spec.group


def _too_slow(process: Process, limit_s: float) -> None:
    """It is killed, and that is a failure like any other."""
    process.exception = process.exception or f"its import took more than {limit_s:g} s"
    kill_group(process.pid, signal.SIGKILL)
