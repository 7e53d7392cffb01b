"""
What the kernel shows of one run: read from /proc, without asking regrow and without its code.

Every process of a run inherits CHAOS_RUN from the root, so /proc tells that it is of the run, and REGROW_CHILD
(token:name:incarnation) tells of which incarnation of which child it is, main process and escapee alike.

Source: proc_pid_stat(5), proc_pid_environ(5).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct

RUN = "CHAOS_RUN"
ROOT = "regrow.root"


class Identity(NamedTuple):
    """One incarnation of one name in one run of a root."""

    token: str
    name: str
    incarnation: str


class Seen(Struct, frozen=True):
    """One process, at the moment it was looked at. `start` tells it from a later one with its pid."""

    pid: int
    start: int
    ppid: int
    state: str
    command: str
    identity: Identity | None = None

    @property
    def dead(self) -> bool:
        return self.state in "ZX"

    def __str__(self) -> str:
        who = ":".join(self.identity) if self.identity else "no identity"
        return f"{self.pid} ({self.command}, {self.state}, child of {self.ppid}, {who})"


class Expected(Struct, frozen=True):
    """What a name's processes have to be: its main process, whose child that is, and how many escapees."""

    pid: int
    parent_pid: int
    incarnation: int
    escapees: int


class Witness:
    """Looks for the processes of one run."""

    def __init__(self, run: str) -> None:
        self._assignment = f"{RUN}={run}".encode()
        self._strangers: set[tuple[int, int]] = set()

    def look(self) -> dict[int, Seen]:
        """All processes of the run, dead ones whose parent is of the run among them."""
        every = list(self._all())
        ours = {seen.pid: told for seen in every if (told := self._of_run(seen)) is not None}
        for seen in every:
            if seen.pid not in ours and seen.ppid in ours:
                ours[seen.pid] = seen
        return ours

    def doubles(self, ours: Mapping[int, Seen]) -> list[str]:
        """
        Names of which two incarnations live at the same time.

        That the first was seen before the second proves nothing, since the first may have ended in between:
        so after both were seen, both have to be there still.
        """
        lives: dict[str, dict[Identity, list[Seen]]] = defaultdict(lambda: defaultdict(list))
        for seen in ours.values():
            if seen.identity is not None and not seen.dead:
                lives[seen.identity.name][seen.identity].append(seen)
        found = []
        for name, incarnations in lives.items():
            still = {key: [one for one in group if self._lives(one)] for key, group in incarnations.items()}
            alive = [one for group in still.values() for one in group]
            if sum(map(bool, still.values())) > 1:
                found.append(f"two incarnations of {name} at once: {'; '.join(map(str, alive))}")
        return found

    def unexpected(self, root: int, expected: Mapping[str, Expected]) -> list[str]:
        """How the processes of the run differ from exactly these; nothing when they do not."""
        ours = self.look()
        wrong = self.doubles(ours)
        count: dict[str, int] = defaultdict(int)
        for seen in ours.values():
            wrong += self._wrong(seen, ours, root, expected)
            if seen.identity is not None and not seen.dead:
                count[seen.identity.name] += 1
        for name, wanted in expected.items():
            if wanted.pid not in ours:
                wrong.append(f"{name} has no process {wanted.pid}")
            if count[name] != 1 + wanted.escapees:
                wrong.append(f"{name} has {count[name]} processes, not {1 + wanted.escapees}")
        return wrong

    def _wrong(
        self, seen: Seen, ours: Mapping[int, Seen], root: int, expected: Mapping[str, Expected]
    ) -> Iterator[str]:
        if seen.dead:
            yield f"zombie {seen}"
        elif seen.identity is None:
            yield f"unknown process {seen}"
        elif seen.pid == root or seen.identity.name == ROOT:
            if seen.pid != root or seen.identity.name != ROOT:
                yield f"{seen} although the root is {root}"
        else:
            wanted = expected.get(seen.identity.name)
            token = ours[root].identity if root in ours else None
            if wanted is None or str(wanted.incarnation) != seen.identity.incarnation:
                yield f"orphan {seen}"
            elif token is None or token.token != seen.identity.token:
                yield f"{seen} is of another root's run"
            elif seen.pid == wanted.pid and seen.ppid != wanted.parent_pid:
                yield f"{seen} is not a child of its supervisor, {wanted.parent_pid}"

    def _all(self) -> Iterator[Seen]:
        for name in os.listdir("/proc"):
            if name.isdigit() and (seen := look_at(int(name))) is not None:
                yield seen

    def _of_run(self, seen: Seen) -> Seen | None:
        key = (seen.pid, seen.start)
        if key in self._strangers or seen.dead:
            return None
        environ = _environ(seen.pid)
        if self._assignment not in environ:
            if environ:
                self._strangers.add(key)
            return None
        return Seen(seen.pid, seen.start, seen.ppid, seen.state, seen.command, _identity(environ))

    def _lives(self, seen: Seen) -> bool:
        """Whether the same process still lives and still is who it was."""
        now = look_at(seen.pid)
        if now is None or now.dead or now.start != seen.start:
            return False
        again = self._of_run(now)
        return again is not None and again.identity == seen.identity


def look_at(pid: int) -> Seen | None:
    """One process, without its environment; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    fields = after.split()
    return Seen(pid, int(fields[19]), int(fields[1]), fields[0], before.partition("(")[2])


def _environ(pid: int) -> list[bytes]:
    """The environment of a process; more than one look, because in the middle of an exec it shows none."""
    for _ in range(20):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read()
        except OSError:
            return []
        if environ:
            return environ.split(b"\0")
        os.sched_yield()
    return []


def _identity(environ: list[bytes]) -> Identity | None:
    for assignment in environ:
        if assignment.startswith(b"REGROW_CHILD="):
            parts = assignment.decode().partition("=")[2].split(":")
            return Identity(*parts) if len(parts) == 3 else None
    return None
