"""Control groups: finding our part of the tree, and on a real one what groups are good for."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import forks
import pytest
from forks import Mini, Told
from groups import in_subtree

from regrow.daemon.linux import cgroup_subtree, procfs
from regrow.daemon.linux.cgroup import Group
from regrow.workers import clone

MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
"""
PART = "50 23 0:38 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mounts", "path", "found"),
    [
        (MOUNTS, "/", "/sys/fs/cgroup/unified"),
        (MOUNTS, "/a.slice/b", "/sys/fs/cgroup/unified/a.slice/b"),
        (PART, "/docker/ab", "/sys/fs/cgroup"),
        (PART, "/docker/ab/x", "/sys/fs/cgroup/x"),
        (PART, "/docker/abc", None),
        (PART, "/", None),
        (MOUNTS.replace("/unified", "/with\\040blank"), "/a", "/sys/fs/cgroup/with blank/a"),
        (MOUNTS.replace("cgroup2", "cgroup"), "/", None),
        ("", "/", None),
    ],
)
def test_where_groups_are_mounted(mounts: str, path: str, found: str | None) -> None:
    """Version 2 alone or beside version 1, whole or in part, in places with blanks."""
    assert cgroup_subtree.find_mount(mounts, path) == found


def test_own_path() -> None:
    """The line of version 2 among those of version 1; a group that was removed under us keeps its name."""
    assert cgroup_subtree.own_path("9:name=systemd:/\n0::/a:b/c\n") == "/a:b/c"
    assert cgroup_subtree.own_path("0::/a (deleted)\n") == "/a"
    assert cgroup_subtree.own_path("9:name=systemd:/\n") is None


def test_nothing_is_delegated_without_a_sign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A writable group that its manager has not left to us is not used."""
    monkeypatch.setattr(cgroup_subtree, "own_group", lambda: (str(tmp_path), ""))
    monkeypatch.setattr(cgroup_subtree, "own_path", lambda _text: "/user.slice/session-1.scope")
    path, reason = cgroup_subtree.place(forks.TOKEN)
    assert path == ""
    assert "not delegated" in reason


def test_files_of_controllers(tmp_path: Path) -> None:
    """Out-of-memory kills and limits, on files that look like the kernel's."""
    group = Group(str(tmp_path))
    assert (group.oom_kills(), group.overran(), group.refused_forks(), group.holds_memory()) == (0, False, 0, False)
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\n")
    (tmp_path / "pids.events").write_text("max 4\n")
    assert (group.oom_kills(), group.overran(), group.refused_forks()) == (3, True, 4)
    assert "memory.max" in group.set_memory_max(1 << 20)
    for name in ("memory.max", "memory.oom.group", "pids.max"):
        (tmp_path / name).write_text("")
    assert group.set_memory_max(1 << 20) == ""
    assert group.holds_memory()
    assert group.set_pids_max(None) == ""
    assert [(tmp_path / name).read_text() for name in ("memory.max", "memory.oom.group", "pids.max")] == [
        str(1 << 20),
        "1",
        "max",
    ]


def test_main_process_is_in_the_home(tmp_path: Path) -> None:
    """Who divides its group among children is in a `home` of its own; all others are in the group itself."""
    group = Group(str(tmp_path))
    assert group.main() is group
    os.mkdir(group.home().path)
    assert group.main().path == group.home().path
    (tmp_path / "memory.max").write_text("max\n")
    assert not group.holds_memory()


def test_group_that_is_not_there(tmp_path: Path) -> None:
    """A group that is gone is empty, killed and removed; nothing raises."""
    group = Group(str(tmp_path / "gone"))
    assert not group.populated()
    assert (group.kill(), group.remove(), group.pids(), group.events_fd(), group.oom_kills()) == ("", "", [], -1, 0)
    assert "cannot write" in group.enter()
    assert Group(str(tmp_path / "a" / "b")).create().startswith("cannot make")


def born_in(group: Group, body: Callable[[], object]) -> int:
    """A child whose first instruction is in `group`."""
    fd = group.open()
    try:
        pid = clone.fork_into(fd)
        if pid == 0:
            try:
                os.setsid()
                body()
            finally:
                os._exit(0)
        return pid
    finally:
        os.close(fd)


def test_subtree_takes_us_in_and_lets_us_go() -> None:
    """The daemon is in a leaf of its own; children of children have groups within groups."""

    def body(subtree: Group) -> None:
        assert subtree.home().pids() == [os.getpid()]
        assert cgroup_subtree.own_group() == (subtree.home().path, "")
        below = subtree.child("app").child("pricer.0")
        assert below.create().startswith("cannot make")
        assert (subtree.child("app").create(), below.create(), below.create()) == ("", "", "")
        assert "busy" in subtree.remove().lower()

    in_subtree(body)


def test_controllers_are_given_back() -> None:
    """What a daemon leaves is as it was, in a group that nobody but it removes: somebody else can be started there."""
    own, _ = cgroup_subtree.own_group()
    if not own or b"memory" not in procfs.read_file(f"{own}/cgroup.controllers").split():
        pytest.skip("the memory controller is not in the second version of control groups here")

    def body(subtree: Group) -> None:
        outer = subtree.child("outer")
        assert (outer.create(), outer.enter()) == ("", "")
        made, reason = cgroup_subtree.open_subtree(f"{outer.path}/regrow.x")
        assert made is not None
        assert reason == ""
        assert procfs.read_file(f"{made.path}/cgroup.subtree_control").split()
        assert cgroup_subtree.close_subtree(made) == ""
        assert not os.path.exists(made.path)
        assert outer.pids() == [os.getpid()]
        assert procfs.read_file(f"{outer.path}/cgroup.subtree_control").split() == []
        assert (subtree.home().enter(), outer.remove()) == ("", "")

    in_subtree(body)


def lock_owner() -> int:
    """The thread that the C library writes into a mutex it locks (`__owner`), by which robust ones are recovered."""
    mutex = (ctypes.c_int * 16)()
    libc = ctypes.CDLL(None)
    assert libc.pthread_mutex_lock(mutex) == 0
    return int(mutex[2])


def test_child_is_born_in_its_group() -> None:
    """The child is in the group from the first, and an ordinary fork in every other respect."""

    def body(subtree: Group) -> None:
        group = subtree.child("a")
        assert group.create() == ""
        reader, writer = os.pipe()

        def report() -> None:
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(7)
            _, status = os.waitpid(grandchild, 0)
            own, _ = cgroup_subtree.own_group()
            os.write(writer, repr((own, lock_owner(), os.waitstatus_to_exitcode(status))).encode())

        pid = born_in(group, report)
        assert os.read(reader, 1000).decode() == repr((group.path, pid, 7))
        os.waitpid(pid, 0)
        assert group.remove() == ""

    in_subtree(body)


def test_fork_into_what_is_no_group(tmp_path: Path) -> None:
    """The error is the kernel's, and there is no child."""
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError):
        clone.fork_into(fd)
    os.close(fd)


@pytest.mark.parametrize("how", [Group.kill, Group._kill_one_by_one])
def test_group_is_killed_whole(how: Callable[[Group], str]) -> None:
    """One call ends all of it, whatever its processes did to be forgotten, and `populated` tells when."""

    def body(subtree: Group) -> None:
        group, told = subtree.child("a"), Told()
        assert group.create() == ""
        born_in(group, lambda: forks.escape_and_stay(told.stay, lambda: nameless(told)))
        pids = told.pids(2)
        assert group.populated()
        assert set(pids) < set(group.pids())
        events = group.events_fd()
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        assert poller.poll(0) == []
        assert how(group) == ""
        while group.populated():
            assert poller.poll(forks.TIMEOUT_S * 1000), "no event came"
            os.pread(events, 256, 0)
        os.close(events)
        for _ in range(3):
            os.waitpid(-1, 0)
        assert group.remove() == ""

    in_subtree(body)


def test_one_by_one_waits_for_who_dies_slowly() -> None:
    """It takes the kernel a while to take back much memory; until then a process is among the living."""

    def body(subtree: Group) -> None:
        group, told = subtree.child("a"), Told()
        assert group.create() == ""
        born_in(group, lambda: heavy(told))
        (pid,) = told.pids(1)
        assert group._kill_one_by_one() == ""
        os.waitpid(pid, 0)
        assert group.remove() == ""

    in_subtree(body)


def heavy(told: Told) -> None:
    """A process with 400 MiB."""
    memory = b"x" * (400 << 20)
    told.stay()
    del memory


def nameless(told: Told) -> None:
    """A process without any mark, in a session of its own."""
    told.become({})


def test_nameless_daemon_among_siblings_is_killed_by_its_group() -> None:
    """With groups it is known whose it is; the sibling's is left alone."""

    def body(subtree: Group) -> None:
        mini, told = Mini(), Told()
        for name in "ab":
            group = subtree.child(name)
            assert group.create() == ""
            pid = born_in(group, lambda: forks.escape_and_stay(lambda: nameless(told)))
            mini.left.started(name, 1, pid, group=group)
            mini.main[pid] = (name, 1)
        everybody = forks.identities(told.pids(2))
        a, b = (next(who for who in everybody if who.pid in subtree.child(name).pids()) for name in "ab")
        os.kill(next(iter(mini.main)), signal.SIGKILL)
        mini.await_clear("a")
        assert not forks.alive(a)
        assert forks.alive(b)
        mini.end()
        assert not forks.alive(b)

    in_subtree(body)


def test_group_event_tells_that_nothing_is_left() -> None:
    """Leftovers that are nobody's children of ours end with an event of their group, not with a SIGCHLD."""

    def body(subtree: Group) -> None:
        told, watched = Told(), Watched()
        mini = Mini()
        mini.left._watcher = watched
        mini.left._changed = watched.called
        group = subtree.child("a")
        assert group.create() == ""
        pid = forks.spawn(lambda: None)

        def enter() -> None:
            assert group.enter() == ""
            told.stay()

        def adopt() -> None:
            forks.spawn(enter)
            os.wait()

        elsewhere = forks.spawn(adopt)
        told.pids(1)
        mini.left.started("a", 1, pid, group=group)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        mini.main[pid] = ("a", 1)
        batch = mini.reap()
        left = mini.left.dead(batch)
        while left - mini.dead:
            watched.serve()
            mini.dead |= mini.left.sweep()
        assert watched.callbacks == {}
        os.waitpid(elsewhere, 0)
        assert group.remove() == ""

    in_subtree(body)


class Watched:
    """A loop of the least size."""

    def __init__(self) -> None:
        self.callbacks: dict[int, Callable[[int], None]] = {}
        self.calls = 0

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Remember it."""
        assert events == select.EPOLLPRI
        self.callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget it."""
        del self.callbacks[fd]

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> object:
        """Nothing is put off where there are groups."""
        raise AssertionError("looked again without a group")

    def called(self) -> None:
        """Count."""
        self.calls += 1

    def serve(self) -> None:
        """Wait for one event and pass it on."""
        poller = select.poll()
        for fd in self.callbacks:
            poller.register(fd, select.POLLPRI)
        ready = poller.poll(forks.TIMEOUT_S * 1000)
        assert ready, "no event came"
        for fd, events in ready:
            self.callbacks[fd](events)
