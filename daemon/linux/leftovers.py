"""
What a dead child left behind: found, killed, and known to be gone before anybody says "stopped".

A supervisor is a subreaper: when a process dies, the kernel hands its children to the nearest subreaper above
*before* the death can be waited for. So once a child is a zombie, everything that survives it is below some
direct child of ours that we did not start. Such an adopted process is killed if the child that it came from
is dead. Killing it may hand us its own children: hence after every reap we look again, until nobody is left.

Whose an adopted process is, by the first of these that tells: its control group; its marker; its session, which
the main process of its child led; that there was only one child it can be of. None of them tells when a
program clears its environment, makes itself a session *and* forks away from its parent, among several children
without control groups. That one is left alone until the supervisor itself ends: it might be a living child's.

Everybody that is signalled here is an unreaped child of ours, or in the group of one: those numbers cannot
mean anybody else as long as only we reap, in the same thread. That is why no pidfds are needed here.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, wait(2), kill(2), credentials(7); the kernel's exit_notify().
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from msgspec import Struct

from regrow.daemon.linux import procfs
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker, find_marker, read_marker

Key: TypeAlias = tuple[str, int]
"""One incarnation: (name, incarnation)."""

_DEBRIS: Key = ("", 0)
"""The owner of what came from below a dead supervisor, whose children's names only it knew."""


_DYING: Key = ("", -1)
"""The owner of what is about to die unseen: nothing can be said before it is reaped and its children are ours."""


_IN_EXEC: Key = ("", -2)
"""The owner of what cannot tell its own until its exec is over; nothing can be said of any child before that."""


_LOOKS = 20

EXEC_LOOKS = 5
"""How often to look at once at a process in the middle of an exec, about 50 us each."""

LOOK_AGAIN_S = 0.002
MAX_TIMES = 500
"""Then it is anybody's, as if it had no environment: its program may be on a disk that does not answer."""


class Watcher(Protocol):
    """The part of `Loop` that is needed here."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback` whenever `fd` is ready."""

    def unwatch(self, fd: int) -> None:
        """Forget `fd`."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> object:
        """Call `callback` once, after a while."""


class Known(Struct, frozen=True):
    """
    What nobody can find out again, as it goes through an exec: strangers, and whether any were ever there to be
    guarded; what it was the supervisor of, as `Leftovers` counts it; the main processes `below` child supervisors; and
    whose those are whom it has seen: by now they may have lost what told it.
    """

    strangers: tuple[int, ...] = ()
    guarded: bool = False
    workers: tuple[str, ...] = ()
    supervisors: bool = False
    below: tuple[int, ...] = ()
    owners: tuple[tuple[int, Key], ...] = ()


class _Child(Struct):
    pid: int
    supervises: bool
    group: Group | None
    events_fd: int = -1


class Leftovers:
    """
    The kernel children of one supervisor: which are its own, which are adopted, and whose those are.

    `own` is the supervisor's own marker: what carries it was forked by it for a purpose of its own, and lives
    as long as it likes. `guarded` is for a supervisor that may be handed strangers: as PID 1 of a container,
    or with children from before its exec, which are `strangers` and never touched. `changed` is called through
    `watcher` when `sweep` may have something to tell without any SIGCHLD.
    """

    def __init__(
        self,
        own: Marker,
        *,
        guarded: bool = False,
        strangers: Iterable[int] = (),
        watcher: Watcher | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._own = own
        self._own_key: Key = (own.name, own.incarnation)
        self._strangers = set(strangers)
        self._guarded = guarded or bool(self._strangers)
        self._marked = read_marker(os.getpid()) == own
        self._workers: set[str] = set()  # of the names ever started, two at most
        self._supervisors = False
        self._watcher = watcher
        self._changed = changed
        self._living: dict[Key, _Child] = {}
        self._waiting: dict[Key, _Child] = {}
        self._by_pid: dict[int, Key] = {}
        self._sessions: dict[int, Key] = {}
        self._owners: dict[int, Key | None] = {}
        self._aliases: dict[Key, Key] = {}
        self._children = procfs.OwnChildren()
        self._ending = False
        self._in_exec: dict[int, int] = {}  # how many times that was found, of each
        self._looking_again = False

    def started(
        self, name: str, incarnation: int, pid: int, *, supervises: bool = False, group: Group | None = None
    ) -> None:
        """Know `pid` as the main process of a child, which leads (or will at once) a session of its own."""
        key = (name, incarnation)
        self._living[key] = _Child(pid, supervises, group)
        self._by_pid[pid] = key
        self._sessions[pid] = key
        self._supervisors = self._supervisors or supervises
        if not supervises and len(self._workers) < 2:
            self._workers.add(name)

    def renamed(self, old: Key, new: Key) -> None:
        """
        What was started as `old` is `new` from now on, and so is all that carries the marker of `old`.

        Once more with the two exchanged: it has its first name again.
        """
        child = self._living.pop(old)
        self._living[new] = child
        self._by_pid[child.pid] = self._sessions[child.pid] = new
        if self._aliases.pop(new, None) is None:
            self._aliases[old] = new
        for pid, owner in self._owners.items():
            if owner == old:
                self._owners[pid] = new

    def below(self, pid: int, *, gone: bool) -> None:
        """
        Know the session of a process below a child supervisor, as long as it lives.

        A program that writes its title over its environment has no marker left; its session it still has.
        """
        if not gone:
            self._sessions.setdefault(pid, _DEBRIS)
        elif self._sessions.get(pid) == _DEBRIS:
            del self._sessions[pid]

    def carried(self) -> Known:
        """What is to go through an exec."""
        return Known(
            tuple(self._strangers),
            self._guarded,
            tuple(self._workers),
            self._supervisors,
            tuple(pid for pid, key in self._sessions.items() if key == _DEBRIS),
            tuple((pid, key) for pid, key in self._owners.items() if key is not None),
        )

    def take_up(self, known: Known) -> None:
        """Go on with what was `carried`, before any child is `started`."""
        self._strangers = set(known.strangers)
        self._guarded = known.guarded
        self._workers = set(known.workers)
        self._supervisors = known.supervisors
        self._sessions.update(dict.fromkeys(known.below, _DEBRIS))
        self._owners.update(known.owners)

    @property
    def aliases(self) -> dict[Key, Key]:
        """What carries the marker of the first is of the second (see `renamed`)."""
        return self._aliases

    def take_up_aliases(self, aliases: Iterable[tuple[Key, Key]]) -> None:
        """Go on with those of before an exec."""
        self._aliases.update(aliases)

    def before_reap(self, pid: int) -> None:
        """
        Kill the process group of a zombie, if it is a child's or belongs to a dead child.

        To be called for every zombie before it is reaped: only until then is the number of its group surely
        its own. A group is killed as a whole even while it forks.
        """
        owner = self._owner(pid)
        if pid not in self._by_pid and (owner == _DYING or not self._doomed(owner)):
            return
        try:
            group = os.getpgid(pid)
            if group != os.getpgrp():  # one that died before it had made its session is in our own group
                os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # its members run under another user, who is not ours to signal

    def reaped(self, pid: int) -> None:
        """Forget the number, directly after the reaping of any process: from now on it may mean anybody."""
        self._by_pid.pop(pid, None)
        self._owners.pop(pid, None)
        self._in_exec.pop(pid, None)
        self._strangers.discard(pid)

    def dead(self, keys: Iterable[Key]) -> set[Key]:
        """
        Kill what these children left behind, after their main processes were reaped (all of a sweep in one call).

        Returns:
            Those of `keys` of which something is left; `sweep` will tell when it is gone. A zombie that is
            not reaped yet counts, because its children may have come to us since we looked.
        """
        asked = set(keys)
        for key in asked:
            child = self._living.pop(key, None)
            if child is not None:
                self._waiting[key] = child
                self._close_in(child)
        self._clear()
        return asked & self._waiting.keys()

    def sweep(self) -> set[Key]:
        """
        Look again, to be called after every reaping while something is waited for.

        Returns:
            The children of which now nothing is left.
        """
        before = set(self._waiting)
        if before:
            self._clear()
        return before - self._waiting.keys()

    def remains(self, key: Key) -> list[int]:
        """The processes that keep `key` from being gone; for a report."""
        child = self._waiting.get(key)
        if child is None:
            return []
        if child.group is not None:
            return child.group.pids()
        owners = (key, _DYING, _DEBRIS) if child.supervises else (key, _DYING)
        return [pid for pid in self._adopted() if self._owner(pid) in owners]

    def everything(self) -> bool:
        """
        Kill all that is left below us, at the end of the supervisor; to be repeated after every reaping.

        Returns:
            True when there is nobody any more. Strangers are left alone: when `guarded`, all that does not prove to
            be ours.
        """
        self._ending = True
        for child in (*self._living.values(), *self._waiting.values()):
            if child.group is not None:
                self._close_in(child)
        children = (pid for pid in self._children.pids() if pid not in self._strangers)
        ours = [pid for pid in children if self._doomed(self._owner(pid))]
        for pid in ours:
            _kill(pid)  # to the dying, it does nothing
        groups = (child.group for child in (*self._living.values(), *self._waiting.values()))
        return not ours and not any(group is not None and group.populated() for group in groups)

    def close(self) -> None:
        """Release the descriptors."""
        self._children.close()
        for child in self._waiting.values():
            self._let_go(child)

    def _clear(self) -> None:
        """Kill what belongs to the dead, and stop waiting for those of whom nothing was found."""
        left = set() if all(child.group is not None for child in self._waiting.values()) else self._hunt()
        for key, child in list(self._waiting.items()):
            if key in left or _DYING in left or _IN_EXEC in left or (child.supervises and _DEBRIS in left):
                continue
            if child.group is not None and child.group.populated():
                child.group.kill()
                continue
            self._let_go(child)
            del self._waiting[key]
            self._aliases = {alias: named for alias, named in self._aliases.items() if named != key}
            if self._sessions.get(child.pid) == key:
                del self._sessions[child.pid]

    def _hunt(self) -> set[Key]:
        """Kill what is adopted from the dead; the owners of what was found."""
        found = set()
        for pid in self._adopted():
            owner = self._owner(pid)
            if owner == _IN_EXEC:
                found.add(owner)
                self._look_again()
            elif owner is not None and self._doomed(owner):
                found.add(owner)
                if owner != _DYING:
                    _kill(pid)
        return found

    def _look_again(self) -> None:
        """The end of an exec is not told."""
        if self._watcher is not None and not self._looking_again:
            self._looking_again = True
            self._watcher.call_later(LOOK_AGAIN_S, self._again)

    def _again(self) -> None:
        self._looking_again = False
        self._changed()

    def _adopted(self) -> list[int]:
        return [pid for pid in self._children.others(self._by_pid) if pid not in self._strangers]

    def _doomed(self, owner: Key | None) -> bool:
        """Whether a process of this owner is to be gone: its child is dead, or all is to end."""
        if owner in (None, _IN_EXEC):
            return self._ending and not self._guarded
        return self._ending or (owner not in self._living and owner != self._own_key)

    def _owner(self, pid: int) -> Key | None:
        """Whose a kernel child of ours is; what was once seen of it stays true until it is reaped."""
        if pid in self._by_pid:
            return self._by_pid[pid]
        if pid in self._owners:
            return self._owners[pid]
        for _ in range(EXEC_LOOKS):
            in_exec = procfs.in_exec(pid)  # looked at first: it may be over by the time of the next line
            owner = self._find_owner(pid)
            if owner is not None:
                self._owners[pid] = owner
                return owner
            stat = procfs.stat(pid)
            if stat is None or stat.dying:
                return _DYING
            if not in_exec:
                self._owners[pid] = None
                return None
            os.sched_yield()
        times = self._in_exec[pid] = self._in_exec.get(pid, 0) + 1
        return _IN_EXEC if times < MAX_TIMES else None

    def _find_owner(self, pid: int) -> Key | None:
        by_group = self._by_group(pid)
        if by_group is not None:
            return by_group
        marker = _marker(pid)
        if marker is not None and marker.token == self._own.token and marker.name and marker != self._own:
            key = (marker.name, marker.incarnation)
            key = self._aliases.get(key, key)
            return key if key in self._living or key in self._waiting else _DEBRIS
        try:
            by_session = self._sessions.get(os.getsid(pid))
        except OSError:
            return None
        if by_session is not None:
            return by_session
        return self._own_key if marker == self._own else self._by_elimination()

    def _by_elimination(self) -> Key | None:
        """
        The only child it can be of: what comes from below a *living* supervisor is adopted by that one.

        Says nothing where our own forks cannot be told, or where strangers may come.
        """
        if self._guarded or not self._marked:
            return None
        if not self._workers:
            return _DEBRIS
        if self._supervisors or len(self._workers) > 1:
            return None
        return next((key for held in (self._living, self._waiting) for key in held if key[0] in self._workers), _DEBRIS)

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

    def _close_in(self, child: _Child) -> None:
        """Kill a child's control group, and be told when it is empty."""
        if child.group is None or not child.group.populated():
            return
        child.group.kill()
        if self._watcher is None or child.events_fd >= 0:
            return
        fd = child.events_fd = child.group.events_fd()
        if fd >= 0:
            self._watcher.watch(fd, select.EPOLLPRI, lambda _events: self._group_event(fd))

    def _group_event(self, fd: int) -> None:
        os.pread(fd, 256, 0)
        self._changed()

    def _let_go(self, child: _Child) -> None:
        if child.events_fd >= 0:
            if self._watcher is not None:
                self._watcher.unwatch(child.events_fd)
            os.close(child.events_fd)
            child.events_fd = -1


def _marker(pid: int) -> Marker | None:
    """The marker of a process, which cannot be read for a moment while it execs: hence more than one look."""
    for _ in range(_LOOKS):
        environ = procfs.environ(pid)
        if environ:
            return find_marker(environ)
        os.sched_yield()
    return None


def _kill(pid: int) -> None:
    """SIGKILL to a child of ours that is not reaped, and to its group if it leads one (and the number is its own)."""
    try:
        os.kill(pid, signal.SIGKILL)
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # runs under another user, who is not ours to signal; it goes on being waited for
