"""
Making processes: fork, what must hold in the child before user code runs, exec.

Two ways to a command. What most ask for can be set up by a program of a few hundred bytes (`shim.py`), which is
started in borrowed memory (`vm_spawn.py`). The rest is forked from Python, as are functions, agents and supervisors.
Either way the child dies with its supervisor (PR_SET_PDEATHSIG).

A failure between fork and exec arrives on a close-on-exec pipe as (stage, errno).

Source: fork(2), execve(2), PR_SET_PDEATHSIG(2const), credentials(7), setrlimit(2), sd_listen_fds(3).
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import signal
from collections.abc import Callable, Mapping
from typing import NoReturn

import msgspec
from msgspec import Struct

from regrow.config.spec import JOURNAL, Credentials, Limits
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import kernel
from regrow.daemon.linux.cgroup import Group
from regrow.ipc.dispositions import set_handler, set_mask
from regrow.workers import clone

EXEC_FAILED_STATUS = 127
"""What a child that never ran its program exits with; the pipe tells the reason."""

RUNNING = b"R"
"""On the status pipe of a function: user code is about to run."""

HANDLED = tuple(
    int(number) for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
)
"""What a supervisor handles; an exec resets it by itself. Few, because each one blocked costs microseconds."""

IGNORED = tuple(int(number) for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU, signal.SIGQUIT))
"""What Python, the root, or a shell that put it into the background ignores; an exec'd program must not."""

_DEFAULT = int(signal.SIG_DFL)
_BLOCK, _UNBLOCK = int(signal.SIG_BLOCK), int(signal.SIG_UNBLOCK)

FIRST_SOCKET = 3
"""Where a child finds its sockets, sd_listen_fds(3)."""

NO_LIMITS = Limits()


class Target(Struct, frozen=True):
    """
    Where one standard stream of a child goes: an open descriptor, a file to append to, or the journal.

    `fd` is used when it is not None; else `path`; else `journal` names the sender.
    """

    fd: int | None = None
    path: str = ""
    journal: str = ""

    @property
    def described(self) -> str:
        """What could not be opened, for an error."""
        return JOURNAL if self.journal else self.path


class Launch(Struct, frozen=True):
    """Everything that must be set up in a child, in the order in which it is done."""

    env: Mapping[str, str]
    stdout: Target
    stderr: Target
    stdin_fd: int
    group: Group | None = None
    limits: Limits = NO_LIMITS
    nice: int = 0
    umask: int | None = None
    credentials: Credentials | None = None
    cwd: str = ""
    executes: bool = False
    keep_fds: tuple[int, ...] = ()
    sockets: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether a shim can do all of it: nothing to open, and no stream overwritten before it was copied."""
        streams = self.stdout.fd not in (None, 0) and self.stderr.fd not in (None, 0, 1)
        return streams and not self.sockets


def fork_exec(launch: Launch, executable: str, argv: tuple[str, ...]) -> tuple[int, int]:
    """
    Fork and exec. Returns (pid, status descriptor).

    The descriptor reads as empty once the program runs, or as a failure for `read_failure`.

    Raises:
        SpawnError: there is no process (fork failed, no descriptors).
    """

    def body(_status_fd: int) -> NoReturn:
        raise _exec(executable, argv, {**launch.env, **own_environ(launch)})

    return fork_call(launch, body)


def own_environ(launch: Launch) -> Mapping[str, str]:
    """What only the child itself can say, in its environment."""
    return {"LISTEN_PID": str(os.getpid())} if launch.sockets else {}


def out_of_way(fd: int, sockets: int) -> int:
    """
    The same descriptor above those where a child has so many sockets; the old one is closed.

    Raises:
        SpawnError: there is no other.
    """
    if fd >= FIRST_SOCKET + sockets:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_SOCKET + sockets)
    except OSError as error:
        raise SpawnError("make room for its sockets", error.errno or 0) from None
    finally:
        os.close(fd)


def _fork_into(group: Group) -> int:
    """Fork a child that is born in `group`; where the kernel or a sandbox cannot do that, it enters at once."""
    fd = group.open()
    try:
        return clone.fork_into(fd)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    finally:
        os.close(fd)
    pid = os.fork()
    if pid == 0:
        group.enter()
    return pid


def _exec(executable: str, argv: tuple[str, ...], env: Mapping[str, str]) -> _Stage:
    try:
        os.execve(executable, argv, env)
    except OSError as error:
        return _Stage("exec", error.errno or 0, executable + lacking(executable, error.errno))


def lacking(executable: str, number: int | None) -> str:
    """What `No such file` is about when the file is there: the interpreter of a script (execve(2))."""
    if number != errno.ENOENT:
        return ""
    try:
        fd = os.open(executable, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # whatever it is by now, no wait for it
    except OSError:
        return ""
    try:
        words = os.read(fd, 256).partition(b"\n")[0].split()
    except OSError:
        return ""
    finally:
        os.close(fd)
    if not words or not words[0].startswith(b"#!"):
        return ""
    interpreter = words[0][2:] or b"".join(words[1:2])
    return f" (its interpreter {os.fsdecode(interpreter)})"


def fork_call(launch: Launch, body: Callable[[int], int]) -> tuple[int, int]:
    """
    Fork and run `body(status_fd)` in the child, which exits with what it returns.

    Returns (pid, status descriptor); `body` writes `RUNNING` to its end when user code is about to run.

    Raises:
        SpawnError: there is no process.
    """
    parent = os.getpid()
    try:
        status_fd, child_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpawnError("make a status pipe", error.errno or 0) from None
    if launch.sockets:
        try:
            child_fd = out_of_way(child_fd, len(launch.sockets))
        except SpawnError:
            os.close(status_fd)
            raise
    # A signal that reaches the child before it has let go of the parent's wakeup descriptor would be
    # written there and be taken for the parent's own: hence none is delivered in between.
    set_mask(_BLOCK, HANDLED)
    try:
        pid = os.fork() if launch.group is None else _fork_into(launch.group)
        if pid == 0:
            _be_child(launch, body, child_fd, parent)
    except OSError as error:
        os.close(status_fd)
        raise SpawnError("fork", error.errno or 0) from None
    finally:
        set_mask(_UNBLOCK, HANDLED)
        os.close(child_fd)
    return pid, status_fd


class Failure(Struct, frozen=True):
    """What a child wrote before it gave up."""

    stage: str
    errno: int
    subject: str = ""


def read_failure(message: bytes) -> SpawnError | None:
    """The failure that a status pipe told of, or None when its program runs."""
    if not message or message == RUNNING:
        return None
    failure = msgspec.msgpack.decode(message, type=Failure)
    return SpawnError(failure.stage, failure.errno, failure.subject)


class _Stage(Exception):
    """A step of the set-up failed; lives only between fork and exec."""

    def __init__(self, stage: str, errno: int, subject: str = "") -> None:
        self.failure = Failure(stage, errno, subject)


def _be_child(launch: Launch, body: Callable[[int], int], status_fd: int, parent: int) -> NoReturn:
    """In the child: set up, run, and never return into the parent's frames."""
    status = EXEC_FAILED_STATUS
    try:
        gc.disable()  # a collection between fork and exec would only copy the parent's pages
        _set_up(launch, status_fd, parent)
        status = body(status_fd)
    except _Stage as stage:
        os.write(status_fd, msgspec.msgpack.encode(stage.failure))
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the parent's frames
        failure = Failure(f"start ({type(error).__name__}: {error})"[:500], getattr(error, "errno", 0) or 0)
        os.write(status_fd, msgspec.msgpack.encode(failure))
    finally:
        os._exit(status)


def _set_up(launch: Launch, status_fd: int, parent: int) -> None:
    stage = "create a session"
    subject = ""
    try:
        os.setsid()
        stage = "reset signals"
        signal.set_wakeup_fd(-1)
        for number in IGNORED if launch.executes else HANDLED:
            set_handler(number, _DEFAULT)
        set_mask(_UNBLOCK, HANDLED)
        stage = "make room for its sockets"  # before a limit says that there is none
        sockets = _copies(launch.sockets)
        stage = "set limits"
        for which, soft, hard in resource_limits(launch.limits):
            resource.setrlimit(which, (soft, hard))
        stage, subject = "set nice", str(launch.nice)
        if launch.nice:
            os.setpriority(os.PRIO_PROCESS, 0, launch.nice)
        if launch.umask is not None:
            os.umask(launch.umask)
        stage, subject = "become user", launch.credentials.user if launch.credentials else ""
        if launch.credentials is not None:
            _become(launch.credentials)
        stage, subject = "enter", launch.cwd
        if launch.cwd:
            os.chdir(launch.cwd)
        stage, subject = "open stdout", launch.stdout.described
        out = _open(launch.stdout)
        stage, subject = "open stderr", launch.stderr.described
        err = out if launch.stderr == launch.stdout else _open(launch.stderr)
        stage, subject = "set up descriptors", ""
        _place(launch.stdin_fd, out, err)
        for at, socket in enumerate(sockets, FIRST_SOCKET):
            os.dup2(socket, at, inheritable=launch.executes)
        if not launch.executes:  # an exec closes them by itself
            kernel.close_from(FIRST_SOCKET + len(launch.sockets), keep=(status_fd, *launch.keep_fds))
        stage = "bind to its supervisor"
        # After the change of user, which would clear it; then look whether the parent died before that.
        kernel.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(EXEC_FAILED_STATUS)
    except OSError as error:
        raise _Stage(stage, error.errno or 0, subject) from None
    except ValueError as error:  # setrlimit refuses numbers this way
        raise _Stage(f"{stage} ({error})", errno.EINVAL, subject) from None


def _place(stdin_fd: int, out: int, err: int) -> None:
    """Put three descriptors on 0, 1 and 2, none of which may be overwritten before it was copied."""
    out = os.dup(out) if out == 0 else out
    err = os.dup(err) if err in (0, 1) and err != out else err
    os.dup2(stdin_fd, 0)
    if err == 1:  # both go where 1 went
        err = out
    os.dup2(out, 1)
    os.dup2(err if err != out else 1, 2)


def _copies(sockets: tuple[int, ...]) -> list[int]:
    """All of them above where they are to be: one may be in the place of another."""
    return [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_SOCKET + len(sockets)) for fd in sockets]


def _open(target: Target) -> int:
    if target.fd is not None:
        return target.fd
    if target.path:
        return os.open(target.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    return open_journal(target.journal)


def open_journal(name: str) -> int:
    """A stream to the journal under `name` (systemd's stdout protocol: seven header lines, then text)."""
    import socket  # only children that log there need it

    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(JOURNAL)
    stream.sendall(f"{name}\n\n6\n1\n0\n0\n0\n".encode())
    return stream.detach()


def resource_limits(limits: Limits) -> list[tuple[int, int, int]]:
    """
    What to set, as (resource, soft, hard), soft and hard alike, but for the CPU time: at its soft limit
    SIGXCPU comes, which says why the process ended, at the hard one SIGKILL, which does not.

    Memory is not among them: RLIMIT_AS counts address space, which many runtimes reserve and never use. It is
    the cgroup's business, or is watched by the supervisor.
    """
    if limits is NO_LIMITS or limits == NO_LIMITS:
        return []
    found = [
        (which, value, value)
        for which, value in (
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_NPROC, limits.processes),
            (resource.RLIMIT_CORE, limits.core_bytes),
            (resource.RLIMIT_FSIZE, limits.file_size_bytes),
        )
        if value is not None
    ]
    if limits.cpu_s is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        more = limits.cpu_s + 1
        found.append(
            (resource.RLIMIT_CPU, limits.cpu_s, more if hard == resource.RLIM_INFINITY else min(more, hard))
        )
    return found


def _become(credentials: Credentials) -> None:
    if credentials.groups is not None:
        os.setgroups(credentials.groups)
    if credentials.gid is not None:
        os.setresgid(credentials.gid, credentials.gid, credentials.gid)
    if credentials.uid is not None:
        os.setresuid(credentials.uid, credentials.uid, credentials.uid)
