"""
What a dead child left behind: found, killed, and known to be gone before anybody says "stopped".

A supervisor is a subreaper: when a process dies, the kernel hands its children to the nearest subreaper above
*before* the death can be waited for. So once a child is a zombie, everything that survives it is below some
direct child of ours that we did not start. Such an adopted process is killed if the child that it came from
is dead. Killing it may hand us its own children: hence after every reap we look again, until nobody is left.

Whose an adopted process is, `owners` tells. One of whom nothing tells it is left alone until the supervisor ends.

Everybody that is signalled here is an unreaped child of ours, or in the group of one: those numbers cannot
mean anybody else as long as only we reap, in the same thread. That is why no pidfds are needed here.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, wait(2), kill(2), credentials(7); the kernel's exit_notify().
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct

from regrow.daemon.linux import procfs
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.owners import DEBRIS, DYING, IN_EXEC, Child, Key, Owners

LOOK_AGAIN_S = 0.002


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
    guarded; what it was the supervisor of, as `Owners` counts it; the main processes `below` child supervisors; and
    whose those are whom it has seen: by now they may have lost what told it.
    """

    strangers: tuple[int, ...] = ()
    guarded: bool = False
    workers: tuple[str, ...] = ()
    supervisors: bool = False
    below: tuple[int, ...] = ()
    owners: tuple[tuple[int, Key], ...] = ()


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
        self._strangers = set(strangers)
        self._watcher = watcher
        self._changed = changed
        self._living: dict[Key, Child] = {}
        self._waiting: dict[Key, Child] = {}
        self._owners = Owners(own, self._living, self._waiting, guarded=guarded or bool(self._strangers))
        self._children = procfs.OwnChildren()
        self._ending = False
        self._looking_again = False

    def started(
        self, name: str, incarnation: int, pid: int, *, supervises: bool = False, group: Group | None = None
    ) -> None:
        """Know `pid` as the main process of a child, which leads (or will at once) a session of its own."""
        key = (name, incarnation)
        self._living[key] = Child(pid, supervises, group)
        self._owners.started(key, pid, supervises=supervises)

    def renamed(self, old: Key, new: Key) -> None:
        """
        What was started as `old` is `new` from now on, and so is all that carries the marker of `old`.

        Once more with the two exchanged: it has its first name again.
        """
        child = self._living.pop(old)
        self._living[new] = child
        self._owners.renamed(old, new, child.pid)

    def below(self, pid: int, *, gone: bool) -> None:
        """See `Owners.below`."""
        self._owners.below(pid, gone=gone)

    def carried(self) -> Known:
        """What is to go through an exec."""
        workers, supervisors, below, owners = self._owners.carried()
        return Known(tuple(self._strangers), self._owners.guarded, workers, supervisors, below, owners)

    def take_up(self, known: Known) -> None:
        """Go on with what was `carried`, before any child is `started`."""
        self._strangers = set(known.strangers)
        self._owners.guarded = known.guarded
        self._owners.take_up(known.workers, known.supervisors, known.below, known.owners)

    @property
    def aliases(self) -> dict[Key, Key]:
        """What carries the marker of the first is of the second (see `renamed`)."""
        return self._owners.aliases

    def take_up_aliases(self, aliases: Iterable[tuple[Key, Key]]) -> None:
        """Go on with those of before an exec."""
        self._owners.aliases.update(aliases)

    def before_reap(self, pid: int) -> None:
        """
        Kill the process group of a zombie, if it is a child's or belongs to a dead child.

        To be called for every zombie before it is reaped: only until then is the number of its group surely
        its own. A group is killed as a whole even while it forks.
        """
        owner = self._owners.of(pid)
        if pid not in self._owners.mains and (owner == DYING or not self._doomed(owner)):
            return
        try:
            group = os.getpgid(pid)
            if group != os.getpgrp():  # one that died before it had made its session is in our own group
                os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # its members run under another user, who is not ours to signal

    def reaped(self, pid: int) -> None:
        """Forget the number, directly after the reaping of any process: from now on it may mean anybody."""
        self._owners.reaped(pid)
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
        owners = (key, DYING, DEBRIS) if child.supervises else (key, DYING)
        return [pid for pid in self._adopted() if self._owners.of(pid) in owners]

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
        ours = [pid for pid in children if self._doomed(self._owners.of(pid))]
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
            if key in left or DYING in left or IN_EXEC in left or (child.supervises and DEBRIS in left):
                continue
            if child.group is not None and child.group.populated():
                child.group.kill()
                continue
            self._let_go(child)
            del self._waiting[key]
            self._owners.gone(key, child.pid)

    def _hunt(self) -> set[Key]:
        """Kill what is adopted from the dead; the owners of what was found."""
        found = set()
        for pid in self._adopted():
            owner = self._owners.of(pid)
            if owner == IN_EXEC:
                found.add(owner)
                self._look_again()
            elif owner is not None and self._doomed(owner):
                found.add(owner)
                if owner != DYING:
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
        return [pid for pid in self._children.others(self._owners.mains) if pid not in self._strangers]

    def _doomed(self, owner: Key | None) -> bool:
        """Whether a process of this owner is to be gone: its child is dead, or all is to end."""
        if owner in (None, IN_EXEC):
            return self._ending and not self._owners.guarded
        return self._ending or (owner not in self._living and owner != self._owners.own_key)

    def _close_in(self, child: Child) -> None:
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

    def _let_go(self, child: Child) -> None:
        if child.events_fd >= 0:
            if self._watcher is not None:
                self._watcher.unwatch(child.events_fd)
            os.close(child.events_fd)
            child.events_fd = -1


def _kill(pid: int) -> None:
    """SIGKILL to a child of ours that is not reaped, and to its group if it leads one (and the number is its own)."""
    try:
        os.kill(pid, signal.SIGKILL)
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # runs under another user, who is not ours to signal; it goes on being waited for
