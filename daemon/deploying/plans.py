"""
The plan that runs, and what other files would make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from regrow.config.diff import PlanDiff, diff, places
from regrow.config.spec import Plan
from regrow.daemon import errand
from regrow.daemon.control import ControlError
from regrow.daemon.deploying import records
from regrow.daemon.deploying.answers import Done, Refuse, told, unreadable
from regrow.daemon.deploying.deployed import Deployed

if TYPE_CHECKING:
    from regrow.daemon.root import Root

MAX_FILES = 100
SHOWN = 8
"""More names than this are no help on one line."""


class Loaded(Struct):
    """What an errand brings: a plan, the newest number of an apply, and the apply that the plan is from."""

    plan: Plan
    newest: int = 0
    back_to: int | None = None


Take = Callable[[Loaded], None]
Compared = Callable[[Loaded, PlanDiff], None]


class Plans:
    """Of one root; `held` is what holds between two applies."""

    def __init__(self, root: Root, held: Deployed) -> None:
        self._root = root
        self.held = held

    def runs(self) -> Plan:
        """The plan that the processes were made by: another, where some were started after a reload."""
        return self.held.runs(self._root.tree)

    def load(self, files: Sequence[str], loaded: Take, refuse: Refuse) -> None:
        """Read files, the daemon's own where there are none."""
        chosen, state_dir = tuple(files) or self._root.plan.files, self._root.plan.daemon.state_dir
        self._read(lambda: load(chosen, state_dir), loaded, refuse)

    def load_earlier(self, id: int | None, loaded: Take, refuse: Refuse) -> None:
        """Read the plan of an earlier apply: that one, or the newest that is another than the present one."""
        present = self.held.base
        self._read(lambda: load_earlier(id, present), loaded, refuse)

    def _read(self, work: Callable[[], bytes], loaded: Take, refuse: Refuse) -> None:
        def read(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                refuse(unreadable(result))
            else:
                loaded(msgspec.msgpack.decode(result, type=Loaded))

        self._root.errands.run(work, read)

    def tell(self, files: Sequence[str], done: Done, refuse: Refuse) -> None:
        """Say what an apply of these files, of the daemon's own where there are none, would do."""

        def compared(found: Loaded, difference: PlanDiff) -> None:
            done(self.told(difference, found.plan))

        self.load(files, self.comparing(compared, refuse), refuse)

    def comparing(self, compared: Compared, refuse: Refuse) -> Take:
        """What takes a plan, and goes on with what is other in it, if the daemon can go there."""

        def loaded(found: Loaded) -> None:
            difference = diff(self.runs(), found.plan)
            if fault := self._fault(difference, found.plan):
                refuse(ControlError("bad_request", fault))
            else:
                compared(found, difference)

        return loaded

    def _fault(self, difference: PlanDiff, plan: Plan) -> str:
        """Why the daemon cannot go there; empty when it can."""
        if difference.refused:
            return difference.refused
        known = places(self.runs().root)
        for name in places(plan.root):
            node = self._root.tree.nodes.get(name)
            if node is not None and node.added and name not in known:
                return (
                    f"{name} runs as a child that start_child has added to {node.parent}: "
                    "end it with terminate_child and delete_child, or give the one in the file another name"
                )
        return ""

    def lose(self, id: int, lost: Sequence[str]) -> None:
        """An apply has failed, and left these behind; each says so until it is started."""
        self.held = self.held.losing(id, lost)
        for name in lost:
            self._root.tree.nodes[name].detail = f"left so by apply {id}, which failed; see `regrow why {name}`"

    def told(self, difference: PlanDiff, plan: Plan) -> dict[str, Any]:
        """A difference as it is answered, with what else is to be known."""
        return {**told(difference, plan), "notes": self._notes(difference, plan)}

    def _notes(self, difference: PlanDiff, plan: Plan) -> list[str]:
        held, nodes = self.held, self._root.tree.nodes
        lost = [name for name in held.lost if name in nodes and nodes[name].state in ("stopped", "failed")]
        notes = [left_down(held.failed, lost)] if lost else []
        if held.back_to is not None and plan.files == held.base.files and difference:
            runs = f"the daemon runs apply {held.present}, which brought apply {held.back_to} back"
            notes.append(f"{runs}; started again it would run what its files say now")
        return notes


def left_down(id: int | None, lost: Sequence[str]) -> str:
    """What to know of an apply that has failed, as long as some do not run for it."""
    more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    told = f"apply {id} failed and left {', '.join(lost[:SHOWN])}{more} down; an apply starts nobody who is down"
    return f"{told}: put right what `regrow why {lost[0]}` tells, then `regrow start {' '.join(lost[:SHOWN])}`"


def load(files: Sequence[str], state_dir: str) -> bytes:
    """
    The plan of these files.

    Raises:
        regrow.config.errors.ConfigErrors
    """
    from regrow.config import load as loading

    return msgspec.msgpack.encode(Loaded(loading.load(files), records.newest_id(state_dir)))


def load_earlier(id: int | None, present: Plan) -> bytes:
    """
    The plan of an earlier apply.

    Raises:
        regrow.daemon.deploying.records.NoApply
    """
    state_dir = present.daemon.state_dir
    record = records.earlier(state_dir, id, present)
    return msgspec.msgpack.encode(Loaded(record.plan, records.newest_id(state_dir), record.id))
