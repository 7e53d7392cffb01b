"""
Becoming another program without losing a signal, a descriptor or a child.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable

from regrow.daemon.linux import identity, kernel
from regrow.daemon.linux.spawn import HANDLED

PROGRAM = "from regrow.daemon.reexec.program import main; main()"
CHECK = "from regrow.daemon.reexec.check import main; main()"


def program(python: str, code: str = PROGRAM) -> tuple[str, ...]:
    """The argv that runs `code` of the regrow that belongs to that interpreter."""
    return (python, "-P", "-c", code)


def become(
    program: tuple[str, ...], data: bytes, keep: Iterable[int], unheard: Callable[[], Iterable[int]]
) -> OSError:
    """
    Exec `program` with a descriptor of `data` as its last argument; `keep` stays open. Returns only what went wrong.

    Signals are blocked from now on until the new program listens to them: one that comes meanwhile waits. So does one
    that has come and was not handled yet (`unheard`): it is sent again, for what Python has noted goes with the exec.
    """
    kept = set(keep)
    fd = -1
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        fd = os.memfd_create("regrow-carried", 0)
        _write(fd, data)
        for number in (*kept, fd):
            os.set_inheritable(number, True)
        _flush()
        for number in unheard():
            os.kill(os.getpid(), number)
        environ = identity.with_placeholder(dict(os.environ))
        os.execve(program[0], identity.padded_argv([*program, str(fd)]), environ)
    except OSError as error:
        for number in kept:
            os.set_inheritable(number, False)
        if fd >= 0:
            os.close(fd)
        listen()
        return error


def listen() -> None:
    """Signals are heard from now on, those that have come meanwhile first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def read(fd: int) -> bytes:
    """What `become` has left for this program."""
    with os.fdopen(fd, "rb") as carried:
        carried.seek(0)
        return carried.read()


def close_on_exec() -> None:
    """Whatever this process was given but the standard streams is not for the programs that it will run."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.set_inheritable(int(name), False)
        except OSError:
            pass  # the descriptor of the listing itself
    kernel.close_from(1 << 30)  # nothing is there; asks once, for all forks, whether this can be done in one call


def line_buffered() -> None:
    """What a function prints is to be seen at once, and to be kept when its process is killed; forks inherit this."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # whoever read it is gone, or what the supervisor has imported has closed it


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
