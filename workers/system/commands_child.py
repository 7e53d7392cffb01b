"""
A command between fork and exec: everything that must hold before its program runs.

A failure arrives on a close-on-exec pipe as (stage, errno, subject).

Source: execve(2), credentials(7), setrlimit(2), proc_pid_oom_score_adj(5), PR_SET_NO_NEW_PRIVS(2const),
PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import msgspec
from msgspec import Struct

from regrow.config.readable import readable
from regrow.config.spec import Limits
from regrow.workers import clone
from regrow.workers.system import commands_calls as calls

UMASK = 0o022

NOT_RUN = 127
"""The exit status of a child that never ran its program."""

LONGEST_SUBJECT = 500
"""Characters of a path that are told of: a failure is read at once."""

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTTOU, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
"""What this process or those before it ignore or handle; a program must begin with the defaults."""


Streams = tuple[int, int, int]
"""The descriptors that become stdin, stdout and stderr."""


class Person(Struct, frozen=True):
    """Who a command runs as; `is_change` says whether the runner is somebody else."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str = ""
    is_change: bool = False


class Launch(Struct, frozen=True):
    """What is set up in a child; `host_proc` is a /proc in which it may say something of itself."""

    executable: str
    argv: tuple[bytes, ...]
    env: dict[bytes, bytes]
    cwd: str | bytes
    person: Person
    limits: Limits
    limits_processes: bool
    nice: int
    drops_capabilities: bool
    streams: Streams
    host_proc: int


class Failure(Struct, frozen=True):
    """What was tried, and what the kernel said."""

    stage: str
    errno: int
    subject: str = ""

    @property
    def text(self) -> str:
        about = f" {self.subject}" if self.subject else ""
        return f"cannot {self.stage}{about}: {os.strerror(self.errno)}"


def start(launch: Launch, group_fd: int) -> tuple[int, int]:
    """
    Fork it, into a control group unless that is -1. Returns (pid, status descriptor).

    The descriptor reads as empty once the program runs, or as a failure for `read_failure`.

    Raises:
        OSError: there is no process.
    """
    parent = os.getpid()
    status_fd, child_fd = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork() if group_fd < 0 else clone.fork_into(group_fd)
    except OSError:
        os.close(status_fd)
        os.close(child_fd)
        raise
    if pid == 0:
        _be_command(launch, child_fd, parent)
    os.close(child_fd)
    return pid, status_fd


def read_failure(told: bytes) -> Failure | None:
    """What the status descriptor told: the failure, or None when the program runs or was killed."""
    return msgspec.msgpack.decode(told, type=Failure) if told else None


def failure(launch: Launch, stage: str, number: int) -> Failure:
    """What was tried, on what, and the error; of a stage before the program runs."""
    subjects = {
        "set nice": str(launch.nice),
        "become user": launch.person.name or str(launch.person.uid),
        "enter": os.fsdecode(launch.cwd),
        "exec": launch.executable,
    }
    subject = subjects.get(stage, "")
    if stage == "exec" and number == errno.ENOENT:
        subject += _lacking(launch.executable)
    return Failure(stage, number, readable(subject[:LONGEST_SUBJECT]))


def _be_command(launch: Launch, status_fd: int, parent: int) -> NoReturn:
    """Never returns into the runner's frames."""
    gc.disable()
    stage = ["start"]
    try:
        _set_up(launch, stage, parent)
        stage[0] = "exec"
        os.execve(launch.executable, launch.argv, launch.env)
    except OSError as error:
        os.write(status_fd, msgspec.msgpack.encode(failure(launch, stage[0], error.errno or 0)))
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the runner's frames
        told = Failure(f"{stage[0]} ({type(error).__name__}: {error})"[:500], errno.EINVAL)
        os.write(status_fd, msgspec.msgpack.encode(told))
    finally:
        os._exit(NOT_RUN)


def _set_up(launch: Launch, stage: list[str], parent: int) -> None:
    stage[0] = "create a session"
    os.setsid()
    stage[0] = "reset signals"
    signal.set_wakeup_fd(-1)
    for number in (*IGNORED, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    stage[0] = "set up descriptors"
    _place(launch.streams)
    stage[0] = "set limits"
    for which, most in resource_limits(launch.limits, processes=launch.limits_processes):
        resource.setrlimit(which, lowered(which, most))
    stage[0] = "set nice"
    if launch.nice:
        os.setpriority(os.PRIO_PROCESS, 0, launch.nice)
    os.umask(UMASK)
    _score(launch.host_proc, b"1000")
    stage[0] = "drop capabilities"
    if launch.drops_capabilities:
        calls.drop_capabilities()
    stage[0] = "become user"
    _become(launch.person)
    stage[0] = "enter"
    os.chdir(launch.cwd)
    stage[0] = "bind to its runner"
    calls.gain_nothing()
    calls.die_with_parent()  # after the change of user, which would clear it
    if os.getppid() != parent:
        os._exit(NOT_RUN)


@contextmanager
def offered_memory(host_proc: int) -> Iterator[None]:
    """
    Whoever is born meanwhile, the kernel ends first when the machine has no more memory: neither an agent nor the
    daemon.
    """
    before = _score(host_proc, b"1000")
    try:
        yield
    finally:
        if before:
            _score(host_proc, before)


def _score(host_proc: int, score: bytes) -> bytes:
    """Set ours; what it was, or nothing where nobody may set it, as in some containers."""
    try:
        fd = os.open("self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=host_proc)
    except OSError:
        return b""  # a /proc that nobody may write
    try:
        before = os.read(fd, 16)
        os.write(fd, score)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return before


def _place(streams: Streams) -> None:
    """All of them are above 2: the runner keeps those numbers for /dev/null."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)


def _become(person: Person) -> None:
    if person.is_change:
        os.setgroups(person.groups)
        os.setresgid(person.gid, person.gid, person.gid)
        os.setresuid(person.uid, person.uid, person.uid)


def resource_limits(limits: Limits, *, processes: bool) -> list[tuple[int, int]]:
    """
    What to set, as (resource, most).

    Memory is each process's own data here: RLIMIT_AS would count address space, which many runtimes reserve and never
    use. What all have together, the control group counts, where there is one.
    """
    wanted = [
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, limits.core_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_size_bytes),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_NPROC, limits.processes if processes else None),
    ]
    return [(which, most) for which, most in wanted if most is not None]


def lowered(which: int, most: int) -> tuple[int, int]:
    """
    The soft and hard limit to set: never above what is there.

    Of processor time the hard one is a second later: SIGXCPU, at the soft one, says why the process ended.
    """
    _, hard = resource.getrlimit(which)
    more = most + 1 if which == resource.RLIMIT_CPU and most >= 0 else most
    return _least(most, hard), _least(more, hard)


def _least(one: int, other: int) -> int:
    """-1 is no limit."""
    return other if one == resource.RLIM_INFINITY else one if other == resource.RLIM_INFINITY else min(one, other)


def _lacking(executable: str) -> str:
    """What `No such file` is about when the file is there: the interpreter of a script (execve(2))."""
    try:
        fd = os.open(executable, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(fd, "rb") as script:
        first = script.read(256).partition(b"\n")[0]
    if not first.startswith(b"#!"):
        return ""
    return f" (its interpreter {os.fsdecode(first[2:].split()[0] if first[2:].split() else b'')})"
