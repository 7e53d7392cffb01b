"""
Whose an adopted process is: the child, dead or alive, that it comes from.

Told by the first of these that tells: its control group; its marker; its session, which the main process of its child
led; that there was only one child it can be of. None of them tells when a program clears its environment, makes itself
a session *and* forks away from its parent, among several children without control groups. That one is nobody's until
the supervisor itself ends: it might be a living child's.

Source: proc(5), credentials(7), cgroups(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from msgspec import Struct

from regrow.daemon.linux import procfs
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker, find_marker, read_marker

Key: TypeAlias = tuple[str, int]
"""One incarnation: (name, incarnation)."""

DEBRIS: Key = ("", 0)
"""The owner of what came from below a dead supervisor, whose children's names only it knew."""

DYING: Key = ("", -1)
"""The owner of what is about to die unseen: nothing can be said before it is reaped and its children are ours."""

IN_EXEC: Key = ("", -2)
"""The owner of what cannot tell its own until its exec is over; nothing can be said of any child before that."""

_LOOKS = 20

EXEC_LOOKS = 5
"""How often to look at once at a process in the middle of an exec, about 50 us each."""

MAX_TIMES = 500
"""Then it is anybody's, as if it had no environment: its program may be on a disk that does not answer."""


class Child(Struct):
    """One that was started, by its main process; `events_fd` tells when its group may have become empty."""

    pid: int
    supervises: bool
    group: Group | None
    events_fd: int = -1


class Owners:
    """
    The kernel children of one supervisor, and whose each of them is.

    `own` is the supervisor's own marker, and `own_key` its name for what carries it; `mains` are the main processes
    that are not reaped. Of `living` and `waiting` the first are alive, of the second something is left: the caller
    keeps both. `guarded`: strangers may come, so that who tells nothing is nobody's.
    """

    def __init__(
        self, own: Marker, living: Mapping[Key, Child], waiting: Mapping[Key, Child], *, guarded: bool
    ) -> None:
        self.guarded = guarded
        self.own_key: Key = (own.name, own.incarnation)
        self.mains: dict[int, Key] = {}
        self.aliases: dict[Key, Key] = {}
        self._own = own
        self._marked = read_marker(os.getpid()) == own
        self._living = living
        self._waiting = waiting
        self._workers: set[str] = set()  # of the names ever started, two at most
        self._supervisors = False
        self._sessions: dict[int, Key] = {}
        self._seen: dict[int, Key | None] = {}
        self._in_exec: dict[int, int] = {}  # how many times that was found, of each

    def started(self, key: Key, pid: int, *, supervises: bool) -> None:
        """Know `pid` as the main process of a child, which leads (or will at once) a session of its own."""
        self.mains[pid] = key
        self._sessions[pid] = key
        self._supervisors = self._supervisors or supervises
        if not supervises and len(self._workers) < 2:
            self._workers.add(key[0])

    def renamed(self, old: Key, new: Key, pid: int) -> None:
        """What was `old`, with `pid` as its main process, is `new` from now on."""
        self.mains[pid] = self._sessions[pid] = new
        if self.aliases.pop(new, None) is None:
            self.aliases[old] = new
        for other, owner in self._seen.items():
            if owner == old:
                self._seen[other] = new

    def below(self, pid: int, *, gone: bool) -> None:
        """
        Know the session of a process below a child supervisor, as long as it lives.

        A program that writes its title over its environment has no marker left; its session it still has.
        """
        if not gone:
            self._sessions.setdefault(pid, DEBRIS)
        elif self._sessions.get(pid) == DEBRIS:
            del self._sessions[pid]

    def reaped(self, pid: int) -> None:
        """Forget the number: from now on it may mean anybody."""
        self.mains.pop(pid, None)
        self._seen.pop(pid, None)
        self._in_exec.pop(pid, None)

    def gone(self, key: Key, pid: int) -> None:
        """Nothing is left of a child, whose main process had `pid`."""
        self.aliases = {alias: named for alias, named in self.aliases.items() if named != key}
        if self._sessions.get(pid) == key:
            del self._sessions[pid]

    def carried(self) -> tuple[tuple[str, ...], bool, tuple[int, ...], tuple[tuple[int, Key], ...]]:
        """What is to go through an exec: what `take_up` takes, in its order."""
        below = tuple(pid for pid, key in self._sessions.items() if key == DEBRIS)
        seen = tuple((pid, key) for pid, key in self._seen.items() if key is not None)
        return tuple(self._workers), self._supervisors, below, seen

    def take_up(
        self, workers: Iterable[str], supervisors: bool, below: Iterable[int], seen: Iterable[tuple[int, Key]]
    ) -> None:
        """Go on with what was `carried`, before any child is `started`."""
        self._workers = set(workers)
        self._supervisors = supervisors
        self._sessions.update(dict.fromkeys(below, DEBRIS))
        self._seen.update(seen)

    def of(self, pid: int) -> Key | None:
        """Whose a kernel child of ours is; what was once seen of it stays true until it is reaped."""
        if pid in self.mains:
            return self.mains[pid]
        if pid in self._seen:
            return self._seen[pid]
        for _ in range(EXEC_LOOKS):
            in_exec = procfs.in_exec(pid)  # looked at first: it may be over by the time of the next line
            owner = self._find(pid)
            if owner is not None:
                self._seen[pid] = owner
                return owner
            stat = procfs.stat(pid)
            if stat is None or stat.dying:
                return DYING
            if not in_exec:
                self._seen[pid] = None
                return None
            os.sched_yield()
        times = self._in_exec[pid] = self._in_exec.get(pid, 0) + 1
        return IN_EXEC if times < MAX_TIMES else None

    def _find(self, pid: int) -> Key | None:
        by_group = self._by_group(pid)
        if by_group is not None:
            return by_group
        marker = _marker(pid)
        if marker is not None and marker.token == self._own.token and marker.name and marker != self._own:
            key = (marker.name, marker.incarnation)
            key = self.aliases.get(key, key)
            return key if key in self._living or key in self._waiting else DEBRIS
        try:
            by_session = self._sessions.get(os.getsid(pid))
        except OSError:
            return None
        if by_session is not None:
            return by_session
        return self.own_key if marker == self._own else self._by_elimination()

    def _by_elimination(self) -> Key | None:
        """
        The only child it can be of: what comes from below a *living* supervisor is adopted by that one.

        Says nothing where our own forks cannot be told, or where strangers may come.
        """
        if self.guarded or not self._marked:
            return None
        if not self._workers:
            return DEBRIS
        if self._supervisors or len(self._workers) > 1:
            return None
        return next((key for held in (self._living, self._waiting) for key in held if key[0] in self._workers), DEBRIS)

    def _by_group(self, pid: int) -> Key | None:
        """The child in whose control group it is, if the children have any."""
        groups = {
            os.path.basename(child.group.path): key
            for held in (self._living, self._waiting)
            for key, child in held.items()
            if child.group is not None
        }
        if not groups:
            return None
        try:
            path = procfs.read_file(f"/proc/{pid}/cgroup").decode(errors="replace").rpartition("0::")[2]
        except OSError:
            return None
        return next((groups[part] for part in path.strip().split("/") if part in groups), None)


def _marker(pid: int) -> Marker | None:
    """The marker of a process, which cannot be read for a moment while it execs: hence more than one look."""
    for _ in range(_LOOKS):
        environ = procfs.environ(pid)
        if environ:
            return find_marker(environ)
        os.sched_yield()
    return None
