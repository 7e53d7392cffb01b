"""
Fork a check: a process of its own that leaves everything of the supervisor behind and dies with it.

Forked, not posix_spawn'ed: posix_spawn waits until the program has been loaded, so a program on a dead file server
would stop the supervisor; and nothing could be set up in the child (PR_SET_PDEATHSIG, identity).

Source: fork(2), setsid(2), prctl(2) PR_SET_PDEATHSIG, close_range(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from regrow.config.spec import Credentials
from regrow.daemon.linux.probe_attempt import reason

_SAID_FD = 3
_SAID_BYTES = 512
_PR_SET_PDEATHSIG = 1
_SYS_CLOSE_RANGE = 436  # the same number on every architecture; Linux 5.9

_libc = ctypes.CDLL(None, use_errno=True)


class CheckFailed(Exception):
    """What a job in its own process found; the text becomes the outcome of the attempt."""


def fork_check(job: Callable[[], None]) -> tuple[int, int]:
    """Fork; in the parent, the pid and the descriptor that will hold what the job says, once it is dead."""
    said_fd, say_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    parent = os.getpid()
    try:
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _run_child(job, say_fd, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except OSError:
        os.close(said_fd)
        raise
    finally:
        os.close(say_fd)  # leaves a free number for the pidfd
    return pid, said_fd


def read_said(fd: int) -> str:
    """What the job of a dead child said, if anything; closes `fd`."""
    try:
        return os.read(fd, _SAID_BYTES).decode("utf-8", "replace")
    except BlockingIOError:
        return ""
    finally:
        os.close(fd)


def run_program(argv: Sequence[str], env: Mapping[str, str], cwd: str, identity: Credentials | None) -> None:
    """Become the program, in the forked child. Returns only by raising CheckFailed or OSError."""
    if identity is not None:
        _become(identity)
    _die_with_parent()  # again: a change of identity takes it back
    if cwd:
        _say_failure(f"cannot change to {cwd}", lambda: os.chdir(cwd))
    _say_failure(f"cannot execute {argv[0]}", lambda: os.execvpe(argv[0], list(argv), dict(env)))


def _say_failure(what: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise CheckFailed(f"{what}: {reason(error)}") from error


def _become(identity: Credentials) -> None:
    if identity.groups is not None:
        os.setgroups(identity.groups)
    if identity.gid is not None:
        os.setresgid(identity.gid, identity.gid, identity.gid)
    if identity.uid is not None:
        os.setresuid(identity.uid, identity.uid, identity.uid)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _run_child(job: Callable[[], None], say_fd: int, parent: int) -> NoReturn:
    """The whole life of the child. All signals are blocked at its start."""
    code = 1
    try:
        _detach(say_fd, parent)
        job()
        code = 0
    except CheckFailed as failed:
        _say(str(failed))
    except OSError as error:
        _say(f"cannot start the check: {reason(error)}")
    except ValueError as error:  # a NUL in an argument, a path or the environment
        _say(f"cannot start the check: {error}")
    finally:
        os._exit(code)


def _detach(say_fd: int, parent: int) -> None:
    """
    Leave everything of the supervisor behind: session, signal handlers, descriptors.

    Descriptors even before an exec that closes them: one that hangs would keep the supervisor's channel open.
    """
    os.setsid()
    if say_fd != _SAID_FD:
        os.dup2(say_fd, _SAID_FD, inheritable=False)
    _close_from(_SAID_FD + 1)
    _die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_from(lowest: int) -> None:
    """os.closerange would try two thousand million numbers where Python was built without close_range(2)."""
    if _libc.syscall(*map(ctypes.c_long, (_SYS_CLOSE_RANGE, lowest, 0xFFFFFFFF, 0))) == 0:
        return
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= lowest:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself


def _say(text: str) -> None:
    os.write(_SAID_FD, text.encode("utf-8", "replace")[:_SAID_BYTES])
