"""
The namespaces that a command is run in: which, and how they are furnished by the first process in them.

Where the worker is root, every command has process numbers of its own: the kernel ends all that is in such a namespace
with its first process, the runner, whatever it has done to its session, parent and environment.

Source: namespaces(7), pid_namespaces(7), user_namespaces(7), mount_namespaces(7); sysctl kernel.pid_max, which is
each namespace's own from Linux 6.14 on.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection
from typing import NoReturn

from regrow.config.spec import Isolation
from regrow.workers import clone
from regrow.workers.system import commands_calls as calls

PRIVATE_TMP_BYTES = 256 << 20
LEAST_PID_MAX = 301
"""The kernel takes no smaller one."""

TMP = ("/tmp", "/var/tmp")


class CannotIsolate(Exception):
    """The kernel does not allow what was asked for."""


def spaces_for(isolate: Collection[str], *, own_processes: bool) -> int:
    """The namespaces for these isolations, as flags for `clone.fork_into`. Who is not root needs one of users, too."""
    wanted = 0
    if own_processes or Isolation.PROCESSES in isolate:
        wanted |= clone.NEW_PIDS | clone.NEW_MOUNTS
    if Isolation.TMP in isolate or Isolation.ROOT in isolate:
        wanted |= clone.NEW_MOUNTS
    if Isolation.NETWORK in isolate:
        wanted |= clone.NEW_NETWORK
    return wanted | (clone.NEW_USER if wanted and os.geteuid() != 0 else 0)


def furnish(
    isolate: Collection[str], spaces: int, work_dir: str, ids: tuple[int, int], most_processes: int | None
) -> bool:
    """
    Make the namespaces in which we were born what a command needs. `ids` were ours before.

    Returns:
        Whether `most_processes` is held.
    Raises:
        CannotIsolate.
    """
    what = "processes"
    limited = False
    try:
        if spaces & clone.NEW_USER:
            _keep_ids(*ids)
        if spaces & clone.NEW_MOUNTS:
            calls.mount("none", "/", flags=calls.MS_REC | calls.MS_PRIVATE)
            what = " and ".join(sorted({*isolate} & {Isolation.TMP, Isolation.ROOT})) or what
            _furnish_mounts(isolate, work_dir)
        what = "processes"
        if spaces & clone.NEW_PIDS:
            calls.mount("proc", "/proc", "proc", calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC)
            limited = most_processes is not None and _limit_pids(most_processes)
            if Isolation.ROOT in isolate:  # it has the settings of the whole machine, such as kernel.core_pattern
                calls.set_read_only("/proc", True, below=False)
        what = "network"
        if spaces & clone.NEW_NETWORK:
            _furnish_network()
    except OSError as error:
        raise CannotIsolate(f"cannot isolate {what}: {error.strerror or error}") from None
    return limited


def _furnish_mounts(isolate: Collection[str], work_dir: str) -> None:
    """The work directory stays writable, and where it is, also when what is around it is hidden."""
    if Isolation.TMP not in isolate and Isolation.ROOT not in isolate:
        return
    fd = os.open(work_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if Isolation.ROOT in isolate:
            calls.set_read_only("/", True, below=True)
            if os.path.isdir("/dev/shm"):
                _tmpfs("/dev/shm")
        if Isolation.TMP in isolate:
            for place in TMP:
                if os.path.isdir(place) and not os.path.islink(place):
                    _tmpfs(place)
            os.makedirs(work_dir, exist_ok=True)
        calls.mount(f"/proc/self/fd/{fd}", work_dir, flags=calls.MS_BIND)
        if Isolation.ROOT in isolate:
            calls.set_read_only(work_dir, False, below=False)
    finally:
        os.close(fd)


def _furnish_network() -> None:
    """
    A loopback that is up: programs that talk to themselves need it.

    Root in a hardened service may not say so (CAP_NET_ADMIN) of a network that belongs to its own user namespace, but
    of one that belongs to a namespace below that: a helper makes such a one, and we move there.
    """
    try:
        calls.loopback_up()
    except PermissionError:
        _move_to_network_below()


def _move_to_network_below() -> None:
    ours, its = socket.socketpair()
    with ours:
        with its:
            helper = clone.fork_into(spaces=clone.NEW_USER | clone.NEW_NETWORK)
            if helper == 0:
                _be_in_network(ours, its)
        try:
            if not ours.recv(1):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            calls.enter_network_of(helper)
        finally:
            ours.shutdown(socket.SHUT_WR)
            os.waitpid(helper, 0)


def _be_in_network(other: socket.socket, ours: socket.socket) -> NoReturn:
    """The helper: says when it is up, and stays until it has been entered. Never returns into the runner's frames."""
    try:
        other.close()
        calls.loopback_up()
        ours.sendall(b"u")
        ours.recv(1)
    finally:
        os._exit(0)


def _tmpfs(place: str) -> None:
    calls.mount("tmpfs", place, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, f"mode=1777,size={PRIVATE_TMP_BYTES}")


def _keep_ids(uid: int, gid: int) -> None:
    """In a user namespace, be who we were outside."""
    for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        _write(f"/proc/self/{file}", text)


def _limit_pids(most: int) -> bool:
    if not _has_own_pid_max():
        return False
    try:
        _write("/proc/sys/kernel/pid_max", str(max(most, LEAST_PID_MAX)))
    except OSError:
        return False
    return most >= LEAST_PID_MAX


def _has_own_pid_max() -> bool:
    """Whether `kernel.pid_max` is each namespace's own; on older kernels it is the whole machine's."""
    release = os.uname().release.split(".")
    try:
        return (int(release[0]), int(release[1].partition("-")[0])) >= (6, 14)
    except (ValueError, IndexError):
        return False


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def can_have_processes(work_dir: str) -> bool:
    """Try whether commands can have process numbers of their own here, without a user namespace; takes milliseconds."""
    if os.geteuid() != 0:
        return False
    spaces = spaces_for((), own_processes=True)
    try:
        pid = clone.fork_into(spaces=spaces)
    except OSError:
        return False
    if pid == 0:
        status = 1
        try:
            furnish((), spaces, work_dir, (0, 0), None)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0
