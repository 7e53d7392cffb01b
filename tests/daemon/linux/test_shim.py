"""The shim: what it sets up, how it fails, that it dies with its supervisor, and where it cannot be had."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import re
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import processes
import pytest
from forks import in_fork
from msgspec.structs import replace
from selfportrait import SHOW

from regrow.config.spec import Credentials, Kind, Limits, WorkerSpec
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import shim, spawn
from regrow.daemon.linux.shim import Setup, Shims
from regrow.daemon.linux.spawn import Launch, Target
from regrow.workers import vm_spawn
from regrow.workers.shim_image import MACHINES, MAX_IMAGES, Row

pytestmark = pytest.mark.skipif(os.uname().machine not in MACHINES, reason="no shim for this processor")

TIMEOUT_S = 20.0
Start = Callable[[Launch, str, tuple[str, ...]], "tuple[int, int] | None"]


@pytest.fixture(params=["vm_spawn", "posix_spawn"])
def shims(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shims]:
    """Those of this process, as if it were a supervisor; made in either way."""
    if request.param == "posix_spawn":
        monkeypatch.setattr(shim, "VmSpawn", no_such_call)
    elif os.uname().machine != "x86_64":
        pytest.skip("only for x86-64")
    made = Shims()
    yield made
    made.close()


def no_such_call(*_: object) -> NoReturn:
    """In the place of what is not known to this kernel."""
    raise OSError(errno.ENOSYS, "no")


@contextlib.contextmanager
def launch(**keys: Any) -> Iterator[tuple[Launch, int]]:
    """A launch whose output can be read from the descriptor."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    target = Target(fd=writer)
    try:
        yield (
            Launch({"A": "1", "EMPTY": "", "Ü": "ß"}, target, target, null, executes=True, **{"cwd": "/usr", **keys}),
            reader,
        )
    finally:
        for fd in (reader, writer, null):
            os.close(fd)


def ended(pid: int, status_fd: int) -> tuple[int, bytes]:
    """How a child ended, and what its status pipe told."""
    _, status = os.waitpid(pid, 0)
    try:
        return os.waitstatus_to_exitcode(status), os.read(status_fd, 4096)
    finally:
        os.close(status_fd)


def shown(start: Start, keys: dict[str, Any], argv: tuple[str, ...]) -> str:
    """What a shell finds that is started so, but for its own pid and its pipe."""
    with launch(**keys) as (given, reader):
        made = start(given, "/bin/sh", argv)
        assert made is not None
        assert ended(*made) == (0, b"")
        pipe = os.readlink(f"/proc/self/fd/{reader}")
        said = os.read(reader, 65_536).decode().replace(pipe, "PIPE")
        return re.sub(rf"\b{made[0]}\b", "PID", said)


SETUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": {"limits": Limits(1 << 30, 100, 4567, 0, 60, 1 << 20), "nice": 3, "umask": 0o27},
    "unlimited": {"limits": Limits(core_bytes=-1, file_size_bytes=-1)},
    "user": {"credentials": Credentials(65534, 65533, (7, 9, 65533), "/", "nobody"), "cwd": "/tmp"},
    "no-groups": {"credentials": Credentials(65534, 65534, ())},
}


@pytest.mark.root
@pytest.mark.parametrize("name", SETUPS)
def test_program_finds_what_a_forked_one_finds(shims: Shims, name: str) -> None:
    """Arguments, environment, names, ids, masks, signals, limits, descriptors: all as after fork and exec."""
    argv = ("zeroth", "-c", SHOW, "script", "", "last ü")
    found = shown(shims.start, SETUPS[name], argv)
    assert found == shown(spawn.fork_exec, SETUPS[name], argv)
    assert found.startswith("zeroth\0-c\0")
    assert found.endswith("2  last ü\n")
    assert found.count("PIPE") == 2


def refused(start: Start, keys: dict[str, Any], executable: str, argv: tuple[str, ...]) -> SpawnError:
    """The error of a start that fails."""
    spec = WorkerSpec("w", Kind.COMMAND, executable=executable, command=argv, cwd=keys.get("cwd", "/usr"))
    spec = replace(spec, nice=keys.get("nice", 0), credentials=keys.get("credentials"))
    with launch(**keys) as (given, _reader):
        made = start(given, executable, argv)
        assert made is not None
        code, message = ended(*made)
    assert code == spawn.EXEC_FAILED_STATUS
    error = shim.read_failure(message, spec) or spawn.read_failure(message)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("content", "mode", "stage", "number"),
    [
        (None, 0, "exec", errno.ENOENT),
        (b"#!/bin/sh\n", 0o644, "exec", errno.EACCES),
        (b"neither program nor script", 0o755, "exec", errno.ENOEXEC),
        (b"", 0o755, "exec", errno.ENOEXEC),
        (b"#! /no/such/interpreter -x\n", 0o755, "exec", errno.ENOENT),
        (b"\x7fELF\x02\x01\x01", 0o755, "exec", errno.ENOEXEC),
    ],
)
def test_failed_exec(
    shims: Shims, tmp_path: Path, content: bytes | None, mode: int, stage: str, number: int
) -> None:
    """Stage, errno and words are those of a fork."""
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(mode)
    found = refused(shims.start, {}, str(program), ("program",))
    assert (found.stage, found.errno) == (stage, number)
    assert str(found) == str(refused(spawn.fork_exec, {}, str(program), ("program",)))
    assert str(program) in str(found)


@pytest.mark.root
@pytest.mark.parametrize(
    ("keys", "stage", "number"),
    [
        ({"cwd": "/no/such/directory"}, "enter", errno.ENOENT),
        ({"cwd": "/dev/null"}, "enter", errno.ENOTDIR),
        ({"limits": Limits(open_files=1 << 40)}, "set limits", errno.EPERM),  # more than fs.nr_open
        ({"credentials": Credentials(uid=2**32 - 2, gid=2**32 - 2, groups=(2**32 - 1,), user="x")}, "become user", 22),
    ],
)
def test_failed_set_up(shims: Shims, keys: dict[str, Any], stage: str, number: int) -> None:
    """What cannot be set up is told with its stage."""
    found = refused(shims.start, keys, "/bin/true", ("true",))
    assert (found.stage, found.errno) == (stage, number)


def test_what_only_the_kernel_refuses_at_once_is_left_to_the_fork(shims: Shims) -> None:
    """Too long a list and a zero in a string: no shim, and the next command has one again."""
    with launch() as (given, reader):
        assert shims.start(replace(given, env={"BIG": "x" * 200_000}), "/bin/true", ("true",)) is None
        assert shims.start(given, "/bin/true", ("true", "a\0b")) is None
        made = shims.start(given, "/bin/echo", ("echo", "again"))
        assert made is not None
        assert ended(*made) == (0, b"")
        assert os.read(reader, 100) == b"again\n"


def test_script(shims: Shims, tmp_path: Path) -> None:
    """A script is run by its interpreter, by its path and not the shim's."""
    script = tmp_path / "script"
    script.write_text('#!/bin/sh -e\necho "$0" "$@"\n')
    script.chmod(0o755)
    with launch() as (given, reader):
        made = shims.start(given, str(script), ("ignored", "a", "b c"))
        assert made is not None
        assert ended(*made) == (0, b"")
        assert os.read(reader, 100) == f"{script} a b c\n".encode()


def test_images_are_kept_and_bounded(shims: Shims) -> None:
    """Set-ups that are alike share an image; there are never more than `MAX_IMAGES`, and all can be closed."""
    before = processes.descriptors()
    with launch() as (given, _reader):
        within = len(processes.descriptors())
        for number in range(3 * MAX_IMAGES):
            made = shims.start(replace(given, umask=number // 2), "/bin/true", ("true",))
            assert made is not None
            assert ended(*made) == (0, b"")
            assert len(processes.descriptors()) - within <= min(number // 2 + 1, MAX_IMAGES) + 1
    shims.close()
    assert processes.descriptors() == before


def test_image_cannot_be_changed(shims: Shims) -> None:
    """Nobody who can open the supervisor's descriptors can put another program there."""
    with launch() as (given, _reader):
        before = processes.descriptors()
        made = shims.start(given, "/bin/true", ("true",))
        assert made is not None
        ended(*made)
        for fd in processes.descriptors() - before:
            with pytest.raises(PermissionError):
                os.pwrite(fd, b"x", 0)
            with pytest.raises(PermissionError):
                os.truncate(fd, 0)


def test_no_memory_file(shims: Shims, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no executable memory file can be made, there is no shim, and it is tried once only."""
    tried = []

    def forbidden(_name: str, flags: int) -> int:
        tried.append(flags)
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "memfd_create", forbidden)
    with launch() as (given, _reader):
        before = processes.descriptors()
        assert [shims.start(given, "/bin/true", ("true",)) for _ in range(3)] == [None] * 3
        assert processes.descriptors() == before
    assert len(tried) == 1


@pytest.mark.parametrize("size", [0, 50, 100, 300, 400])
def test_a_part_of_a_program_is_not_run(size: int) -> None:
    """A small limit of the size of files holds for memory files too: nothing of what was cut off is executed."""

    def body() -> None:
        with launch() as (given, _reader):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            shims = Shims()
            for _ in range(2):
                assert shims.start(given, "/bin/true", ("true",)) is None
            shims.close()

    in_fork(body)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only for x86-64")
def test_code_that_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a part of the code that makes processes run: the shim is made by posix_spawn then."""
    monkeypatch.setattr(vm_spawn, "_CODE", bytes(5000))

    def body() -> None:
        with launch() as (given, _reader):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            shims = Shims()
            made = shims.start(given, "/bin/true", ("true",))
            assert made is not None
            assert ended(*made) == (0, b"")
            shims.close()

    in_fork(body)


def test_older_kernel(shims: Shims, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not know the flag is asked without it (memfd_create(2))."""
    genuine = os.memfd_create

    def older(name: str, flags: int) -> int:
        if flags & 0x10:
            raise OSError(errno.EINVAL, "what?")
        return genuine(name, flags)

    monkeypatch.setattr(os, "memfd_create", older)
    with launch() as (given, _reader):
        made = shims.start(given, "/bin/true", ("true",))
        assert made is not None
        assert ended(*made) == (0, b"")


@pytest.mark.parametrize(
    ("number", "again"), [(errno.EACCES, False), (errno.EPERM, False), (errno.ENOENT, False), (errno.EAGAIN, True)]
)
def test_no_exec_of_it(monkeypatch: pytest.MonkeyPatch, number: int, again: bool) -> None:
    """A policy against its exec, or no /proc: never tried again; a shortage: next time."""
    shims = Shims()
    tried = []

    def fails(*_arguments: object, **_keys: object) -> int:
        tried.append(1)
        raise OSError(number, "no")

    monkeypatch.setattr(shim, "VmSpawn", no_such_call)
    monkeypatch.setattr(os, "posix_spawn", fails)
    with launch() as (given, _reader):
        assert [shims.start(given, "/bin/true", ("true",)) for _ in range(3)] == [None] * 3
    shims.close()
    assert len(tried) == (3 if again else 1)


NOEXEC = """
import os
with open("/proc/sys/vm/memfd_noexec", "w") as file:
    file.write("2")
from regrow.daemon.linux import spawn
from regrow.daemon.linux.shim import Shims
null = os.open("/dev/null", os.O_RDWR)
target = spawn.Target(fd=1)
given = spawn.Launch({}, target, target, null, executes=True, cwd="/")
shims = Shims()
assert shims.start(given, "/bin/true", ("true",)) is None
pid, fd = spawn.fork_exec(given, "/bin/echo", ("echo", "forked"))
os.waitpid(pid, 0)
"""


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists("/proc/sys/vm/memfd_noexec"), reason="a kernel before 6.3")
def test_memory_files_that_must_not_be_executed() -> None:
    """vm.memfd_noexec=2 of a pid namespace: commands are forked there."""
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", NOEXEC],
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (done.stdout, done.returncode) == ("forked\n", 0), done.stderr


def supervisor(body: Callable[[], object]) -> int:
    """A process that runs `body`, and then waits to be killed."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            signal.pause()
        finally:
            os._exit(1)
    return pid


@pytest.mark.parametrize("bound", [False, True])
def test_supervisor_killed_under_the_shim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: bool
) -> None:
    """
    Held by a lock between spawn and prctl, the shim notices afterwards that its parent is gone; after prctl, it is
    killed. The command never runs.
    """
    genuine = shim.rows

    def held(setup: Setup, status_fd: int) -> list[Row]:
        usual = genuine(setup, status_fd)
        lock = Row(3, "flock", (0, fcntl.LOCK_EX))
        return [*usual, lock] if bound else [lock, *usual]

    monkeypatch.setattr(shim, "rows", held)
    mark, lock = tmp_path / "ran", tmp_path / "lock"
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with open(lock, "w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        def body() -> None:
            stdin = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
            target = Target(fd=os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
            made = Shims().start(Launch({}, target, target, stdin, cwd="/"), "/bin/touch", ("touch", str(mark)))
            os.write(writer, b"%d\n" % (made or (0, 0))[0])

        above = supervisor(body)
        pid = int(os.read(reader, 20))
        os.close(reader)
        os.close(writer)
        await_flock(pid)
        os.kill(above, signal.SIGKILL)
        os.waitpid(above, 0)
        if not bound:
            assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None  # it is ours now, and it still waits
            fcntl.flock(holder, fcntl.LOCK_UN)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if bound else spawn.EXEC_FAILED_STATUS)
    assert not mark.exists()


def await_flock(pid: int) -> None:
    """Until a process waits for the lock, which /proc/locks tells (proc_locks(5))."""
    while not any(f" {pid} " in line and "->" in line for line in Path("/proc/locks").read_text().splitlines()):
        os.sched_yield()


def storm(report: int) -> NoReturn:
    """Make commands that stay, without end; each is told."""
    shims = Shims()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    target = Target(fd=null)
    given = Launch(dict(os.environ), target, target, null, cwd="/")
    while True:
        made = shims.start(given, "/usr/bin/tail", ("tail", "-f", "/dev/null"))
        assert made is not None
        os.close(made[1])
        os.write(report, b".")


@pytest.mark.parametrize("number", range(10))
def test_supervisor_killed_at_any_moment(number: int) -> None:
    """Whenever a supervisor that makes commands is killed, none of them lives on."""
    chance = random.Random(number)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    for _ in range(5):
        pid = supervisor(partial(storm, writer))
        assert os.read(reader, 1) == b"."
        select.select([], [], [], chance.uniform(0.0, 0.003))  # anywhere in the making of a few
        os.kill(pid, signal.SIGKILL)
        processes.await_no_children(TIMEOUT_S)
    os.close(reader)
    os.close(writer)
