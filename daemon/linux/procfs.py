"""
What /proc says about processes: their state, their parents, their children, their environment.

Everything here may be out of date when it is returned, except about our own children: a child, also an
adopted one, keeps its pid until we reap it. Whoever signals anybody else goes through `identity.pidfd_of`.

Source: proc(5), proc_pid_stat(5), proc_tid_children(5).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct

from regrow.ipc.process import stat_fields

_CHUNK_BYTES = 65_536
_PF_EXITING = 0x4  # include/linux/sched.h
_ENVIRON = slice(47, 49)  # where it begins and ends: fields 50 and 51 of proc_pid_stat(5)
_SIGKILL_BIT = 1 << 8
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Stat(Struct, frozen=True):
    """
    One process. `start` is in clock ticks since boot: with the pid it names a process for good.

    `state` is the letter of proc_pid_stat(5), `flags` the kernel's PF_ bits.
    """

    pid: int
    comm: str
    state: str
    ppid: int
    pgid: int
    sid: int
    start: int
    flags: int = 0

    @property
    def dying(self) -> bool:
        """Runs no code of its own any more."""
        return self.dead or bool(self.flags & _PF_EXITING)

    @property
    def dead(self) -> bool:
        """Only the entry is left, until its parent reaps it."""
        return self.state in "ZX"


def read_file(path: str) -> bytes:
    """
    A whole file of /proc or of a cgroup; a fifth of the cost of `open().read()`.

    Raises:
        OSError: ENOENT or ESRCH when the process is gone, EACCES when it is not ours to read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    parts = [os.read(fd, _CHUNK_BYTES)]
    while parts[-1]:
        parts.append(os.read(fd, _CHUNK_BYTES))
    return b"".join(parts)


def usable() -> bool:
    """Whether /proc shows our own pid namespace; when it shows another, its numbers mean other processes here."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def stat(pid: int) -> Stat | None:
    """The process that has `pid` now, or None. A comm with spaces, brackets or newlines does no harm."""
    try:
        return parse_stat(read_file(f"/proc/{pid}/stat"))
    except (OSError, ValueError, IndexError):
        return None


def parse_stat(line: bytes) -> Stat:
    """
    Parse /proc/PID/stat. The comm ends at the last closing bracket, whatever is in it.

    Raises:
        ValueError, IndexError: not such a line.
    """
    head, _, tail = line.rpartition(b")")
    pid, _, comm = head.partition(b" (")
    fields = tail.split(None, 20)
    ppid, pgid, sid = map(int, fields[1:4])
    state, flags, start = fields[0].decode(), int(fields[6]), int(fields[19])
    return Stat(int(pid), comm.decode(errors="replace"), state, ppid, pgid, sid, start, flags)


def killed(pid: int) -> bool:
    """Whether a process is dead, dying, or has been sent a SIGKILL that it has not met yet."""
    found = stat(pid)
    if found is None or found.dying:
        return True
    try:
        lines = read_file(f"/proc/{pid}/status").splitlines()
    except OSError:
        return True
    pending = (int(line.split()[1], 16) for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:")))
    return any(signals & _SIGKILL_BIT for signals in pending)


def state_and_caught(pid: int) -> tuple[str, int]:
    """The state letter of a process, and the mask of the signals that it handles; ("", 0) when it is gone."""
    try:
        lines = read_file(f"/proc/{pid}/status").splitlines()
    except OSError:
        return "", 0
    fields = {name: value.split() for name, _, value in (line.partition(b":") for line in lines)}
    return fields[b"State"][0].decode(), int(fields[b"SigCgt"][0], 16)


def environ(pid: int) -> bytes:
    """The environment of a process, NUL-separated; empty when it is gone, a zombie, or not ours to read."""
    try:
        return read_file(f"/proc/{pid}/environ")
    except OSError:
        return b""


def in_exec(pid: int) -> bool:
    """
    Whether a process is in the middle of an exec, or was a moment ago: nobody can read its environment then.

    False for who has none, or one that is not ours to read: there, looking again tells nothing. An exec takes
    as long as its process does not get a processor, or its program comes from a disk.

    Source: environ_read() and do_task_stat() of the kernel, load_elf_binary(), which sets both ends at last.
    """
    try:
        if read_file(f"/proc/{pid}/environ"):
            return False
        fields = stat_fields(pid)
    except OSError:
        return False
    start, end = fields[_ENVIRON]
    return end == b"0" or start != end


def resident_bytes(pid: int) -> int:
    """Memory a process holds in RAM now, shared pages included; 0 when it is gone."""
    try:
        return int(read_file(f"/proc/{pid}/statm").split(None, 2)[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def tree_resident_bytes(pid: int) -> int:
    """
    Resident memory of a process and all below it. What they share counts for each; what has left the tree, not at all.
    """
    total, waiting = 0, [pid]
    while waiting:
        pid = waiting.pop()
        total += resident_bytes(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())
        except OSError:
            continue  # it has just ended
    return total


def all_pids() -> list[int]:
    """Every process that /proc shows, in no order."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def all_stats() -> dict[int, Stat]:
    """Every process that /proc shows, by pid."""
    return {found.pid: found for found in map(stat, all_pids()) if found is not None}


class OwnChildren:
    """
    The kernel children of the process that makes this: its own, adopted ones, and the dead that it has not reaped.

    Keeps a descriptor, so that looking needs none when they have run out. Not to be used after a fork.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        pid = os.getpid()
        try:
            self._fd = os.open(f"/proc/self/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            self._fd = -1

    def pids(self) -> list[int]:
        """
        Oldest first.

        For a single-threaded caller, who cannot reap at the same time: then the list misses nobody, because
        the kernel appends to it and only a reap removes from it. About 0.15 µs per child, 5 µs at least.
        """
        return list(map(int, self._listing().split()))

    def others(self, known: Mapping[int, object]) -> list[int]:
        """
        Those that are not in `known`, oldest first; all of `known` must be unreaped children.

        Where there is none, which is as good as always, counting shows it, at half the cost of `pids`.
        """
        listing = self._listing()
        if listing.count(b" ") == len(known):
            return []
        return [pid for pid in map(int, listing.split()) if pid not in known]

    def _listing(self) -> bytes:
        """Pids, each with a blank after it."""
        if self._fd < 0:
            pid = os.getpid()
            return b"".join(b"%d " % found.pid for found in all_stats().values() if found.ppid == pid)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return _read_all(self._fd)

    def close(self) -> None:
        """Release the descriptor; `pids` works on, at a higher price."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def children_of_self() -> list[int]:
    """One look at `OwnChildren`."""
    children = OwnChildren()
    try:
        return children.pids()
    finally:
        children.close()


def descendants_in(stats: dict[int, Stat], ancestors: list[int]) -> list[Stat]:
    """
    Everything in `stats` below any of `ancestors`, parents before their children, nobody twice.

    Nobody is older than his parent: who seems to be has lost his parent, whose pid another got, while we read.
    """
    children: dict[int, list[Stat]] = {}
    for found in stats.values():
        children.setdefault(found.ppid, []).append(found)
    known = set(ancestors)
    below: list[Stat] = []
    level = list(ancestors)
    while level:
        born = [
            child
            for parent in level
            for child in children.get(parent, ())
            if child.pid not in known and parent in stats and child.start >= stats[parent].start
        ]
        known.update(child.pid for child in born)
        below += born
        level = [child.pid for child in born]
    return below
