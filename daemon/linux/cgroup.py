"""
Control groups (version 2), in the part of the tree of groups that is ours to use (`cgroup_subtree`).

    <own>/regrow.<first 8 digits of the token>/
        daemon/              the root
        @app/                a supervisor: its `daemon/` and a group per child, and so on
            daemon/
            @pricer.0/

The names of children begin with @, so that none is a file of the kernel's (`memory.max`) or `daemon`. Processes
are in leaves only: a group with processes may not hand controllers down.

A group knows all that a child ever forked, whatever it did to its session, parent and environment; and
it is killed in one call. Moving a *running* process into a group costs a whole RCU grace period (5 to 10 ms,
unless somebody else has just done the same), so children are born in theirs: `clone.fork_into`.

Everything here that may fail while the tree must go on says so in its result instead of raising.

Source: cgroups(7), the kernel's admin-guide/cgroup-v2.rst, clone3(2) CLONE_INTO_CGROUP.
"""

from __future__ import annotations

import errno
import os
import time

from regrow.daemon.linux import identity, killing, procfs

_HOME = "daemon"
_CONTROLLERS = ("memory", "pids")
_KILL_S = 2.0
"""How long all of a group may take to die where the kernel cannot kill it in one call; who kills it waits."""


class Group:
    """One group by its path; cheap to make, holds nothing open, and need not exist."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self) -> str:
        """Make the group if it is not there. Returns what went wrong, or nothing."""
        try:
            os.mkdir(self.path, 0o755)
        except FileExistsError:
            return ""
        except OSError as error:
            return why(error, f"make {self.path}")
        return ""

    def child(self, name: str) -> Group:
        """The group of the child `name`; of a supervisor, `home` and its children's groups are in it."""
        return Group(f"{self.path}/@{name}")

    def home(self) -> Group:
        """Where a supervisor's own process is."""
        return Group(f"{self.path}/{_HOME}")

    def open(self) -> int:
        """
        A descriptor for `clone.fork_into`, to be closed by the caller.

        Raises:
            OSError: there is no such group, or there are no descriptors.
        """
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self, pid: int = 0) -> str:
        """Move a process (0: ourselves) here; takes milliseconds. Returns what went wrong, or nothing."""
        return self._write("cgroup.procs", str(pid))

    def delegate_controllers(self) -> str:
        """
        Let the groups within have the controllers we use; does nothing for those that are not there.

        Returns what went wrong, or nothing.
        """
        try:
            present = procfs.read_file(f"{self.path}/cgroup.controllers").decode().split()
        except OSError as error:
            return why(error, f"read the controllers of {self.path}")
        reasons = [self._write("cgroup.subtree_control", f"+{name}") for name in _CONTROLLERS if name in present]
        return next(filter(None, reasons), "")

    def take_controllers_back(self) -> None:
        """Let the groups within have none of them any more, as far as they do not hand them on themselves."""
        for name in _CONTROLLERS:
            self._write("cgroup.subtree_control", f"-{name}")

    def populated(self) -> bool:
        """Whether any process lives here or below; zombies do not count. One that is gone has none."""
        return self._count("cgroup.events", "populated") != 0

    def events_fd(self) -> int:
        """
        A descriptor that reports EPOLLPRI whenever `populated` may have changed; -1 when the group is gone.

        It must be read from its start (`os.pread`) after each report, or it goes on reporting.
        """
        try:
            fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        os.pread(fd, 256, 0)
        return fd

    def kill(self) -> str:
        """SIGKILL to everything here and below, at once. Returns what went wrong, or nothing."""
        try:
            self._write_or_raise("cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14
            return self._kill_one_by_one() if os.path.isdir(self.path) else ""
        except OSError as error:
            return why(error, f"kill {self.path}")
        return ""

    def _kill_one_by_one(self) -> str:
        """For what is born meanwhile: again, when those are dead, until a round finds nobody but the dead."""
        end_s = time.monotonic() + _KILL_S
        while living := [who for pid in self.pids() if (who := identity.process_id(pid)) is not None]:
            if time.monotonic() >= end_s:
                return f"cannot kill {self.path}: of its processes {len(living)} go on, or others are born as fast"
            # Until they are dead, one may be in the middle of a fork.
            killing.kill_all(living, end_s, lambda pid: pid in self.pids())
        return ""

    def pids(self) -> list[int]:
        """The processes here and below, in our pid namespace."""
        found = []
        for path in self._tree():
            try:
                found += [int(pid) for pid in procfs.read_file(f"{path}/cgroup.procs").split()]
            except OSError:
                continue  # just removed
        return [pid for pid in found if pid > 0]

    def remove(self) -> str:
        """Remove the group and those below it. Returns what went wrong (EBUSY: somebody lives here), or nothing."""
        for path in reversed(self._tree()):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                return why(error, f"remove {path}")
        return ""

    def main(self) -> Group:
        """Where the main process of a child is: in the `home` of those that divide their group, or else right here."""
        home = self.home()
        return home if os.path.isdir(home.path) else self

    def oom_kills(self) -> int:
        """How many processes here and below the kernel has killed for want of memory; 0 without the controller."""
        return max(0, self._count("memory.events", "oom_kill"))

    def overran(self) -> bool:
        """Whether memory was short at a limit of this group or one below, not only above it or in the machine."""
        return self._count("memory.events", "oom") > 0

    def refused_forks(self) -> int:
        """How many processes and threads could not be made here for the limit of their number."""
        return max(0, self._count("pids.events", "max"))

    def set_memory_max(self, limit_bytes: int | None) -> str:
        """
        Limit the memory of all processes together; None for no limit. An overrun kills all of them at once.

        Returns what went wrong (the controller may not be ours), or nothing.
        """
        text = "max" if limit_bytes is None else str(limit_bytes)
        return (
            self._write("memory.max", text)
            or self._write("memory.swap.max", "max" if limit_bytes is None else "0", missing_ok=True)
            or self._write("memory.oom.group", "0" if limit_bytes is None else "1", missing_ok=True)
        )

    def holds_memory(self) -> bool:
        """Whether the kernel holds the memory of all processes here and below to a limit of this very group."""
        try:
            return procfs.read_file(f"{self.path}/memory.max").strip() != b"max"
        except OSError:
            return False  # without the controller

    def set_pids_max(self, limit: int | None) -> str:
        """Limit the number of processes and threads together. Returns what went wrong, or nothing."""
        return self._write("pids.max", "max" if limit is None else str(limit))

    def _tree(self) -> list[str]:
        """The path of this group and of those below, parents first."""
        paths = [self.path]
        for path in paths:
            try:
                with os.scandir(path) as entries:
                    paths += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
        return paths

    def _count(self, file: str, key: str) -> int:
        """A number in a file of `key number` lines; 0 when the file is gone, -1 when the key is."""
        try:
            lines = procfs.read_file(f"{self.path}/{file}").split(b"\n")
        except OSError as error:
            return 0 if error.errno in (errno.ENOENT, errno.ENODEV) else -1
        for line in lines:
            name, _, number = line.partition(b" ")
            if name == key.encode():
                return int(number)
        return -1

    def _write(self, file: str, text: str, *, missing_ok: bool = False) -> str:
        try:
            self._write_or_raise(file, text)
        except OSError as error:
            if missing_ok and error.errno == errno.ENOENT:
                return ""
            return why(error, f"write {text} to {self.path}/{file}")
        return ""

    def _write_or_raise(self, file: str, text: str) -> None:
        fd = os.open(f"{self.path}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def why(error: OSError, what: str) -> str:
    """What went wrong, as a text."""
    return f"cannot {what}: {error.strerror}"
