"""
From the CLI to a root daemon: exec a fresh, lean process, in the foreground or detached.

The CLI has read and checked the files; the root gets the plan through a descriptor and needs none of what the CLI
has loaded, and what it does not load its forks need not carry.

Source: memfd_create(2), setsid(2), sd_notify(3).
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import time
from typing import NoReturn

import msgspec

from regrow.config import exits
from regrow.config.spec import Plan
from regrow.daemon.linux import identity
from regrow.daemon.linux.notify import NotifySocket
from regrow.daemon.tell import complain

PROGRAM = "import regrow.daemon.interned; from regrow.daemon.root import main; main()"
LOG_NAME = "daemon.log"
MOST_DESCRIPTORS = 1 << 20


def launch(plan: Plan, *, detach: bool, timeout_s: float | None = None) -> int:
    """
    Become the root daemon of `plan` (never returns), or, detached, start it and wait until all is ready.

    Returns:
        The exit status for the CLI, once a detached daemon is ready, has failed, or `timeout_s` is over.
    """
    _fill_standard_streams()
    if not detach:
        _exec(plan, os.environ)
    try:
        return _detached(plan, timeout_s)
    except OSError as error:
        complain(f"cannot start the daemon: {error.strerror}: {error.filename or ''}")
        return exits.REFUSED


def _fill_standard_streams() -> None:
    """Whoever started us may have closed 0, 1 or 2; nothing else is to be opened there, and be printed into."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < 3:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def _exec(plan: Plan, environ: os._Environ[str] | dict[str, str]) -> NoReturn:
    fd = os.memfd_create("regrow-plan", 0)
    os.set_inheritable(fd, True)
    with os.fdopen(os.dup(fd), "wb") as writer:
        writer.write(msgspec.msgpack.encode(plan))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    arguments = [sys.executable, "-P", "-c", PROGRAM, str(fd)]
    os.execve(sys.executable, identity.padded_argv(arguments), identity.with_placeholder(dict(environ)))


def _detached(plan: Plan, timeout_s: float | None) -> int:
    name = plan.daemon.name
    socket = NotifySocket(f"regrow-launch/{os.getpid()}/{name}")
    os.makedirs(plan.daemon.log_dir, exist_ok=True)
    log_path = os.path.join(plan.daemon.log_dir, LOG_NAME)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    _claim(log)
    said_before = os.fstat(log).st_size
    pid = os.fork()
    if pid == 0:
        _be_detached(plan, log, socket.address)
    try:
        ready = _await_ready(socket, pid, timeout_s)
    except KeyboardInterrupt:
        complain(f"{name} goes on starting: see `regrow status --name {name}`")
        raise
    if ready is not False and not _claim(log):  # who still had it at first may have gone since
        _complain_of_others(log, log_path)
    if ready is None:
        complain(f"{name} is not ready after {timeout_s:g} s and goes on starting: see `regrow status --name {name}`")
        return exits.REFUSED
    if ready:
        sys.stdout.write(f"{name} is ready (pid {pid})\n")
        return exits.DONE
    with open(log_path, encoding="utf-8", errors="replace") as said:
        said.seek(said_before)
        sys.stderr.write(said.read())
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) or exits.REFUSED


def _claim(log: int) -> bool:
    """
    Lock the daemon's log, for it and all that it starts; whether nobody else has it. Logs of children are locked alike.

    Source: flock(2): a lock is the open file's, whoever has inherited that.
    """
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _complain_of_others(log: int, path: str) -> None:
    """Say that another daemon writes there too: to who starts this one, and to who reads the file."""
    why = "another daemon writes there too: give each a log_dir of its own"
    complain(f"cannot have {path} alone: {why}")
    try:
        os.write(log, f"regrow: cannot have {path} alone: {why}\n".encode(errors="surrogateescape"))
    except OSError:
        pass  # a full disk is no reason to stop


def _be_detached(plan: Plan, log: int, notify_address: str) -> NoReturn:
    """In the child: a session of its own, no terminal, nothing of the caller's but its environment."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(fd, target)
        os.closerange(3, MOST_DESCRIPTORS)  # whoever waits for the end of a pipe of the caller's must not wait for us
        _exec(plan, {**os.environ, "NOTIFY_SOCKET": notify_address})
    finally:
        os._exit(exits.INTERNAL)


def _await_ready(socket: NotifySocket, pid: int, timeout_s: float | None) -> bool | None:
    """True when the daemon says READY=1, False when it ended before that, None at the time-out."""
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(socket.fd, select.POLLIN)
    try:
        while True:
            left_ms = None if end_s is None else max(0.0, end_s - time.monotonic()) * 1000
            ready = dict(poller.poll(left_ms))
            if any(notice.fields.get("READY") == "1" for notice in socket.receive() if notice.pid == pid):
                return True
            if pidfd in ready:
                return False
            if not ready and left_ms is not None:
                return None
    finally:
        os.close(pidfd)
        socket.close()
