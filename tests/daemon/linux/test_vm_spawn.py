"""Processes that are made in our memory: nobody waits for them, and nothing of ours runs in them."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forks import in_fork
from groups import in_subtree
from msgspec import structs

from regrow.config.spec import Limits
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.shim import Shims
from regrow.daemon.linux.spawn import Launch, Target
from regrow.workers import vm_spawn
from regrow.workers.vm_spawn import FAILURE, Birth, Failed, Stages, VmSpawn

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="only for x86-64")

STAGES = Stages(1, 2, 3, 4)
FAILED = 127


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[int, int, int]]:
    """A program, and both ends of a status pipe."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    program = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield program, reader, writer
    finally:
        for fd in (program, reader, writer):
            os.close(fd)


def wait(pid: int) -> int:
    """How it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def unexecutable(directory: Path) -> Path:
    """A file that nobody may execute."""
    made = directory / "file"
    made.write_bytes(b"")
    made.chmod(0o644)
    return made


def test_failure_that_is_waited_for(tmp_path: Path) -> None:
    """It is raised, and nobody is left to be reaped."""
    with opened(unexecutable(tmp_path)) as (program, _, writer):
        with pytest.raises(Failed) as caught:
            VmSpawn(STAGES, ()).spawn(Birth(program, ("x",), {}, (), writer, waits=True))
        assert caught.value.errno == errno.EACCES
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def test_failure_that_nobody_waits_for(tmp_path: Path) -> None:
    """It comes on the status pipe."""
    with opened(unexecutable(tmp_path)) as (program, reader, writer):
        pid = VmSpawn(STAGES, ()).spawn(Birth(program, ("x",), {}, (), writer))
        assert wait(pid) == FAILED
        assert FAILURE.unpack(os.read(reader, 100)) == (STAGES.exec, errno.EACCES)


def test_descriptor_that_is_not_there() -> None:
    """The stage says what could not be done."""
    with opened("/bin/true") as (program, reader, writer):
        pid = VmSpawn(STAGES, ()).spawn(Birth(program, ("x",), {}, ((1 << 20, 0),), writer))
        assert wait(pid) == FAILED
        assert FAILURE.unpack(os.read(reader, 100)) == (STAGES.descriptors, errno.EBADF)


def test_descriptors_in_their_places() -> None:
    """One that is where it is to be already is passed on as well."""
    with opened("/bin/sh") as (program, reader, writer):
        there = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 3)
        script = f"echo a >/dev/fd/{there}; echo b >&9"
        pid = VmSpawn(STAGES, ()).spawn(Birth(program, ("sh", "-c", script), {}, ((there, there), (writer, 9)), writer))
        os.close(there)
        assert wait(pid) == 0
        assert os.read(reader, 100) == b"a\nb\n"


@pytest.mark.parametrize("text", ["a\0b", "x" * vm_spawn._LONGEST, "x"])
def test_what_no_program_can_be_given(text: str) -> None:
    """Is said before there is a process."""
    many = (text,) * (1 if len(text) > 1 else vm_spawn._MOST // 2 + 1)
    with opened("/bin/true") as (program, _, writer), pytest.raises(ValueError, match=r"zero byte|too long"):
        VmSpawn(STAGES, ()).spawn(Birth(program, many, {}, (), writer))


@pytest.mark.parametrize("argv", [("x",) * 100_000, ("", *("x" * 30_000,) * 3)])
def test_what_does_not_fit_on_the_stack(argv: tuple[str, ...]) -> None:
    """The kernel counts pointers too, and where the stack has a small limit, it takes less: said before it is tried."""

    def body() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (65_536 if len(argv) < 100 else 2 << 20,) * 2)
        made = VmSpawn(STAGES, ())
        with opened("/bin/true") as (program, _, writer):
            assert wait(made.spawn(Birth(program, ("true",), {}, (), writer))) == 0
            with pytest.raises(ValueError, match="too long"):
                made.spawn(Birth(program, argv, {}, (), writer))

    in_fork(body)


def test_other_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can it be had by a process of 32 bits on a kernel of 64."""
    monkeypatch.setattr(struct, "calcsize", lambda _format: 4)
    with pytest.raises(OSError, match="not implemented"):
        VmSpawn(STAGES, ())


def test_memory_is_given_back() -> None:
    """However many are made, what they needed is not kept."""
    made = VmSpawn(STAGES, ())
    with opened("/bin/true") as (program, _, writer):
        for _ in range(3 * vm_spawn._MOST_HELD):
            assert wait(made.spawn(Birth(program, ("true",), {}, (), writer))) == 0
            assert len(made._held) == 1


def test_signals_of_the_first_moment() -> None:
    """A child that is told to end before it runs anything ends; its parent's handlers hear nothing of it."""
    in_fork(end_them_at_once)


def end_them_at_once() -> None:
    """With a parent that handles signals as supervisors do."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    target = Target(fd=null)
    shims = Shims()
    for _ in range(200):
        made = shims.start(Launch({}, target, target, null, cwd="/"), "/usr/bin/tail", ("tail", "-f", "/dev/null"))
        assert made is not None
        pid, status_fd = made
        os.kill(pid, signal.SIGTERM)
        assert wait(pid) == -signal.SIGTERM
        os.close(status_fd)
    signal.set_wakeup_fd(-1)
    reader.setblocking(False)
    with pytest.raises(BlockingIOError):
        reader.recv(1)
    shims.close()
    for each in (reader, writer):
        each.close()
    os.close(null)


def test_nobody_waits() -> None:
    """Born into a group that is frozen, a process has run nothing when its parent goes on."""

    def body(subtree: Group) -> None:
        group = subtree.child("cold")
        assert group.create() == ""
        freeze(group, frozen=True)
        with opened("/bin/true") as (program, _, writer):
            group_fd = group.open()
            pid = VmSpawn(STAGES, ()).spawn(Birth(program, ("true",), {}, (), writer, group_fd))
            os.close(group_fd)
            assert group.pids() == [pid]
            assert os.readlink(f"/proc/{pid}/exe") == os.readlink("/proc/self/exe")
            freeze(group, frozen=False)
            assert wait(pid) == 0
        assert group.remove() == ""

    in_subtree(body)


@pytest.mark.parametrize("most", ["_MOST_HELD", "_MOST_HELD_BYTES"])
def test_nobody_waits_for_many_that_are_frozen(monkeypatch: pytest.MonkeyPatch, most: str) -> None:
    """When too many are on their way, the next one is refused as in a shortage; when they are through, it is made."""
    monkeypatch.setattr(vm_spawn, most, 3 if most == "_MOST_HELD" else 300_000)

    def body(subtree: Group) -> None:
        group, made = subtree.child("cold"), VmSpawn(STAGES, ())
        assert group.create() == ""
        freeze(group, frozen=True)
        with opened("/bin/true") as (program, _, writer):
            group_fd = group.open()
            argv = ("true", "x" * 100_000)
            pids = [made.spawn(Birth(program, argv, {}, (), writer, group_fd)) for _ in range(3)]
            for _ in range(2):
                with pytest.raises(BlockingIOError):
                    made.spawn(Birth(program, argv, {}, (), writer))
            freeze(group, frozen=False)
            assert [wait(pid) for pid in pids] == [0, 0, 0]
            assert wait(made.spawn(Birth(program, argv, {}, (), writer, group_fd))) == 0
            assert len(made._held) == 1
            os.close(group_fd)
        assert group.remove() == ""

    in_subtree(body)


def test_what_is_on_its_way_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a later one leaves that one to the fork; whoever still reads our memory can do so."""

    def body(subtree: Group) -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        target = Target(fd=null)
        group, shims = subtree.child("cold"), Shims()
        assert group.create() == ""
        given = Launch({}, target, target, null, cwd="/", group=group)
        first = shims.start(given, "/bin/true", ("true",))
        freeze(group, frozen=True)
        second = shims.start(given, "/bin/true", ("true",))
        assert first is not None
        assert second is not None
        quick = shims._quick
        assert quick is not None
        code = quick._code
        monkeypatch.setattr(quick, "_code", lambda _address: -errno.EPERM)
        assert shims.start(structs.replace(given, group=None), "/bin/true", ("true",)) is None
        monkeypatch.setattr(quick, "_code", code)
        assert shims._quick is quick
        freeze(group, frozen=False)
        for pid, status_fd in (first, second):
            assert wait(pid) == 0
            os.close(status_fd)
        assert group.remove() == ""
        shims.close()
        os.close(null)

    in_subtree(body)


def test_shortage_at_its_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only this moment lacks what it needs, it is tried again."""
    lacks = [errno.EMFILE]

    def short(code: bytes) -> int:
        if lacks:
            raise OSError(lacks.pop(), "no")
        return executable(code)

    executable = vm_spawn._executable
    monkeypatch.setattr(vm_spawn, "_executable", short)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    target = Target(fd=null)
    shims = Shims()
    for expected in (False, True):
        made = shims.start(Launch({}, target, target, null, cwd="/"), "/bin/true", ("true",))
        assert made is not None
        assert wait(made[0]) == 0
        os.close(made[1])
        assert (shims._quick is not None) == expected
    shims.close()
    os.close(null)


def freeze(group: Group, *, frozen: bool) -> None:
    """cgroup.freeze of version 2."""
    Path(group.path, "cgroup.freeze").write_text("1" if frozen else "0")


def test_commands_are_born_in_their_groups() -> None:
    """By a shim, as without groups; a group that is not there is left to the fork."""

    def body(subtree: Group) -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        target = Target(fd=null)
        group, shims = subtree.child("warm"), Shims()
        given = Launch({}, target, target, null, cwd="/", group=group)
        assert shims.start(given, "/bin/true", ("true",)) is None
        assert group.create() == ""
        made = shims.start(given, "/usr/bin/tail", ("tail", "-f", "/dev/null"))
        assert made is not None
        assert group.pids() == [made[0]]
        os.kill(made[0], signal.SIGKILL)
        assert wait(made[0]) == -signal.SIGKILL
        assert group.remove() == ""
        shims.close()
        for fd in (null, made[1]):
            os.close(fd)

    in_subtree(body)


def test_no_shared_memory_where_memory_is_limited() -> None:
    """The kernel kills all who share the memory of its victim: a command in a limited group is forked."""

    def body(subtree: Group) -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        target = Target(fd=null)
        group, shims = subtree.child("tight"), Shims()
        assert group.create() == ""
        given = Launch({}, target, target, null, cwd="/", group=group, limits=Limits(memory_bytes=1 << 30))
        for _ in range(2):
            assert shims.start(given, "/bin/true", ("true",)) is None
        made = shims.start(structs.replace(given, group=None), "/bin/true", ("true",))  # without a group none is killed
        assert made is not None
        assert wait(made[0]) == 0
        assert group.remove() == ""
        shims.close()
        for fd in (null, made[1]):
            os.close(fd)

    in_subtree(body)


def test_forbidden_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where clone3 is not known or not allowed, posix_spawn makes the shim; it is asked for once only."""
    asked = []

    def refused(*_arguments: object, **_keys: object) -> int:
        asked.append(1)
        raise OSError(errno.ENOSYS, "no")

    monkeypatch.setattr(VmSpawn, "spawn", refused)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    target = Target(fd=null)
    shims = Shims()
    for _ in range(3):
        made = shims.start(Launch({}, target, target, null, cwd="/"), "/bin/true", ("true",))
        assert made is not None
        assert wait(made[0]) == 0
        os.close(made[1])
    shims.close()
    os.close(null)
    assert len(asked) == 1
