"""
A forest that runs, and everything that has to hold of it once nothing is on its way any more.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from wire import CallError, Event

from storm import gauges
from storm.forest import DYNAMIC, DYNAMIC_CHILDREN, Forest
from storm.gauges import Size
from storm.ledger import Ledger
from storm.lives import Lives
from storm.violation import Violation
from storm.witness import Expected, Witness, look_at

SETTLE_S = 60.0
"""How long the tree may take until it is whole again; a loaded machine has needed a tenth of it."""

LOOK_AGAIN_S = 0.05
STEADY_S = 10.0
"""How long descriptors and logs may take after that."""

NEVER = frozenset({"gave_up", "fault", "escalated", "auto_shutdown", "unhealthy"})
"""Events that no death in such a tree leads to."""

IMAGE = "memfd:regrow-shim"
"""A supervisor has none of these after an exec, until it makes its next command."""

Entries = dict[str, dict[str, Any]]


class Garden:
    """The tree, its daemon and its witnesses. `events` counts kinds; `counts` what was done to the tree."""

    def __init__(self, directory: Path, run: str, *, forest: Forest | None = None) -> None:
        self.forest = forest if forest is not None else Forest(directory)
        self.lives = Lives(directory, run)
        self.witness = Witness(run)
        self.ledger = Ledger(directory)
        self.violations = directory / "violations"
        self.events: Counter[str] = Counter()
        self.recent: deque[Event] = deque(maxlen=150)
        self.told: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self._descriptors: dict[tuple[int, int], int] = {}
        self._dynamic: tuple[tuple[int, int], frozenset[str]] | None = None

    def plant(self) -> None:
        """Write everything and start for the first time; returns when all of it is there."""
        self.forest.write()
        self.lives.start(SETTLE_S)
        self.settle()

    def rise(self) -> None:
        """Start again after the death of the root, and wait until it says that it is ready."""
        self.lives.launch()
        self.lives.until_ready(SETTLE_S)
        self.rose()

    def rose(self) -> None:
        """Take note that a new root is ready."""
        self.lives.reap()
        own = self.witness.look().get(self.lives.pid)
        if own is None or own.identity is None:
            raise Violation(f"the root {self.lives.pid} shows no identity: {own}")
        self.ledger.new_root(own.identity.token)

    # what holds all the time

    def watch(self) -> None:
        """Check what has to hold at every moment, and take note of events. Raises Violation."""
        self.checks["looks at all processes"] += 1
        wrong = self.witness.doubles(self.witness.look())
        if self.violations.exists():
            wrong += self.violations.read_text().splitlines()
        wrong += self.ledger.wrong
        if wrong:
            raise Violation("\n".join(wrong))

    def take_events(self, timeout_s: float) -> list[Event]:
        """
        Take and count what has come, waiting for the first.

        Raises:
            Violation: there is an event that must not be, or the root has ended by itself.
        """
        try:
            taken = self.lives.follower.take(timeout_s)
        except EOFError:
            raise self._gone() from None
        self.events.update(str(event["event"]) for event in taken)
        self.recent.extend(taken)
        self.told.update(str(event["pid"]) for event in taken if event.get("pid"))
        if wrong := [str(event) for event in taken if event["event"] in NEVER and not _put_off(event)]:
            raise Violation("\n".join(wrong))
        return taken

    # what holds when nothing is on its way

    def settle(self) -> float:
        """
        Wait until the tree is whole, then check all of it; returns how many seconds that took from now.

        Raises:
            Violation: it does not become whole, or something is not as it should be.
        """
        begun_s = time.monotonic()
        entries = self._whole()
        took_s = time.monotonic() - begun_s
        if self._top_up(entries):
            entries = self._whole()
        self._within(STEADY_S, self._open_too_many)
        self._within(STEADY_S, self.ledger.missing)
        self.watch()
        self.checks["quiescent points"] += 1
        return took_s

    def _whole(self) -> Entries:
        """Exactly the configured tree, once it is there: in the daemon's books and in the kernel's."""
        self._within(SETTLE_S, lambda: self._unsettled(self.entries()), watch=True)
        self._within(STEADY_S, lambda: self._unsettled(self.entries()) + self._strange(self.entries()))
        return self.entries()

    def _within(self, timeout_s: float, wrong: Callable[[], list[str]], *, watch: bool = False) -> None:
        """Look again at every event, and now and then without one, until nothing is wrong."""
        end_s = time.monotonic() + timeout_s
        while found := wrong():
            if time.monotonic() > end_s:
                raise Violation("\n".join([f"still so after {timeout_s:g} s:", *found]))
            self.take_events(LOOK_AGAIN_S)
            self.lives.reap()
            if watch:
                self.watch()

    def entries(self) -> Entries:
        """Status by name. Raises Violation when nobody answers."""
        try:
            return {str(entry["name"]): entry for entry in self.lives.status()}
        except (EOFError, OSError) as error:
            raise self._gone() from error

    def _gone(self) -> Violation:
        return Violation(f"the root has ended by itself:\n{self.lives.said()}")

    def _unsettled(self, entries: Entries) -> list[str]:
        wrong = [f"{name} is not in the tree" for name in self.forest.parents.keys() - entries.keys()]
        for name, entry in entries.items():
            if entry["state"] != "running" or not entry["ready"]:
                wrong.append(f"{name} is {entry['state']}, ready: {entry['ready']}, {entry['detail']}")
            elif (seen := look_at(entry["pid"])) is None or seen.dead or seen.state == "T":
                wrong.append(f"{name} runs, it says, but is {seen}")
        return wrong

    def _strange(self, entries: Entries) -> list[str]:
        """What the kernel shows besides, or in another place of the tree."""
        wrong = []
        expected = {}
        for name, entry in entries.items():
            supervisor = self.forest.parents.get(name, DYNAMIC)
            if entry["supervisor"] != supervisor:
                wrong.append(f"{name} is below {entry['supervisor']}, not {supervisor}")
            parent = entries.get(entry["supervisor"])
            above = parent["pid"] if parent is not None else self.lives.pid
            expected[name] = Expected(entry["pid"], above or 0, entry["incarnation"], self.forest.escapees(name))
        return wrong + self.witness.unexpected(self.lives.pid, expected)

    def _top_up(self, entries: Entries) -> bool:
        """Dynamic children live as long as their supervisor; after that they are brought anew. Says if any were."""
        present = frozenset(entries.keys() - self.forest.parents.keys())
        supervisor = (self.lives.count, entries[DYNAMIC]["incarnation"])
        should = self._dynamic[1] if self._dynamic is not None and self._dynamic[0] == supervisor else frozenset()
        if present != should:
            raise Violation(f"{DYNAMIC} should have {sorted(should)} and has {sorted(present)}")
        missing = [f"dyn-{number}" for number in range(DYNAMIC_CHILDREN) if f"dyn-{number}" not in present]
        for name in missing:
            try:
                self.lives.control.call("start_child", supervisor=DYNAMIC, spec={"id": name}, timeout_s=SETTLE_S)
            except CallError as error:
                raise Violation(f"start_child of {name}: {error}") from None
        self._dynamic = (supervisor, present.union(missing))
        return bool(missing)

    # how large things are

    def sizes(self, entries: Entries | None = None) -> dict[str, Size]:
        """The root (as `regrow`) and every supervisor."""
        entries = entries if entries is not None else self.entries()
        return {name: gauges.size(pid) for name, pid in self._supervisors(entries)}

    def _supervisors(self, entries: Entries) -> Iterable[tuple[str, int]]:
        yield "regrow", self.lives.pid
        for name in sorted(self.forest.supervisors):
            yield name, int(entries[name]["pid"])

    def _open_too_many(self) -> list[str]:
        """Which supervisors have more descriptors than when they were first seen whole."""
        wrong = []
        for name, pid in self._supervisors(self.entries()):
            seen = look_at(pid)
            found: Mapping[str, str] = gauges.descriptors(pid) if seen is not None and not seen.dead else {}
            found = {fd: what for fd, what in found.items() if IMAGE not in what}
            if seen is not None and len(found) > self._descriptors.setdefault((pid, seen.start), len(found)):
                wrong.append(f"{name} had {self._descriptors[pid, seen.start]} descriptors: {found}")
        return wrong

    def down(self) -> None:
        """Stop in order; nothing may be left, and every line has to be in the logs."""
        status = self.lives.down(SETTLE_S)
        self.lives.await_orphans()
        left = [str(seen) for seen in self.witness.look().values()]
        left += [said for said in (*self.lives.outputs, self.lives.said()) if said]
        self.ledger.finish(self.told)
        wrong = left + self.ledger.missing() + self.ledger.wrong
        if status or wrong:
            raise Violation("\n".join([f"after down, which ended with {status}:", *wrong]))


def _put_off(event: Event) -> bool:
    """A re-execution that was refused, or not followed by all, because of what was being done to them."""
    text = str(event.get("text"))
    return event["event"] == "fault" and ("cannot re-execute now" in text or "has not followed" in text)
