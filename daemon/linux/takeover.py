"""
One root per run_dir, and a clean start after a root that was killed.

The lock is fcntl's (`lockf`), owned by the process: what the root forks inherits the descriptor but not the lock.
A flock(2), or an open file description lock, is owned by the description, and any supervisor that outlived the
root would hold on to it. The price: the root must never open `lock` a second time, because closing *any*
descriptor of the file would give the lock up.

`identity` says who the root is, and is there, whole, before anything is started. Whoever gets the lock and finds
an identity of this boot has a dead root before it, and ends all that carries its token before anything else.

Source: fcntl(2) on record locks, rename(2), pidfd_open(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import time

import msgspec
from msgspec import Struct

from regrow.daemon.errors import RunDirError
from regrow.daemon.linux import cgroup_subtree, identity, killing, procfs
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import ProcessId
from regrow.ipc.process import boot_id, lock_holder

END_TIMEOUT_S = 10.0
"""How long what a killed root left may take to die of SIGKILL; more only in a dead file system."""

_DYING_ROOT_S = 2.0
_ENDING_ROOT_S = 0.05
_LOCK = "lock"
_IDENTITY = "identity"
_STALE = ("control.sock", "hub.api", "command.sock")


class Refused(RunDirError):
    """Another root holds the run_dir. `pid` is 0 when it is in another pid namespace."""

    def __init__(self, run_dir: str, pid: int) -> None:
        who = f"pid {pid}" if pid else "a process in another container"
        super().__init__(f"cannot use {run_dir}: another regrow ({who}) runs there; stop it, or choose another run_dir")
        self.pid = pid


class Identity(Struct, frozen=True):
    """A root, as `<run_dir>/identity` tells of it. `cgroup` is the path of its groups, or empty."""

    token: str
    boot_id: str
    pid: int
    start: int
    cgroup: str = ""


class Taken(Struct, frozen=True):
    """
    The run_dir is ours as long as this process lives. `lock_fd` stays open and is never opened again.

    `killed` is how many processes of an earlier root were found and ended; `reports` what the operator should know.
    """

    lock_fd: int
    killed: int = 0
    reports: tuple[str, ...] = ()


def take(run_dir: str, token: str, title: str, cgroup_path: str = "") -> Taken:
    """
    Make this process the root of `run_dir` and end all that an earlier root left there. Takes milliseconds.

    Afterwards it shows the marker of a root and `title` to others. `cgroup_path` (`cgroup_subtree.place`) is written
    down, for whoever comes after us; the groups are to be made after this.

    Raises:
        Refused: a living root has it.
        RunDirError: it cannot be used, or what is left in it cannot be ended.
    """
    if not procfs.usable():
        raise RunDirError("cannot supervise: /proc shows another pid namespace; mount it anew (unshare --mount-proc)")
    identity.locate()
    identity.mark(f"{token}:{identity.ROOT_NAME}:1")
    identity.set_title(title)
    try:
        _own(run_dir)
        lock_fd = _lock(run_dir)
        try:
            killed, reports = _end_earlier(run_dir)
            _write(run_dir, _myself(token, cgroup_path))
        except BaseException:
            os.close(lock_fd)
            raise
    except OSError as error:
        raise RunDirError(
            f"cannot use {run_dir}: {error.strerror or error}: {error.filename or run_dir}; choose another run_dir"
        ) from None
    return Taken(lock_fd, killed, tuple(reports))


def release(run_dir: str, lock_fd: int) -> None:
    """Leave the run_dir to the next root after an orderly end: nothing of ours lives any more."""
    for name in (*_STALE, _IDENTITY):
        _remove(os.path.join(run_dir, name))
    os.close(lock_fd)


def read(run_dir: str) -> Identity | None:
    """
    Who is, or was, the root of `run_dir`; None when nobody was since the last orderly end.

    Raises:
        msgspec.DecodeError, msgspec.ValidationError: the file is damaged.
        OSError: it cannot be read.
    """
    try:
        return msgspec.json.decode(procfs.read_file(os.path.join(run_dir, _IDENTITY)), type=Identity)
    except FileNotFoundError:
        return None


def _own(run_dir: str) -> None:
    """See that nobody else may write there: he could name processes for us to kill."""
    os.makedirs(run_dir, mode=0o755, exist_ok=True)
    found = os.stat(run_dir)
    if found.st_uid not in (os.geteuid(), 0):
        raise RunDirError(f"cannot use {run_dir}: it belongs to uid {found.st_uid}; choose another run_dir")
    if found.st_mode & stat.S_IWOTH:
        raise RunDirError(f"cannot use {run_dir}: everybody may write there; chmod o-w it, or choose another run_dir")


def _lock(run_dir: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(run_dir, _LOCK), flags, 0o600)
    try:
        if not _try_lock(fd):
            holder = _holder(fd)
            _await_end(holder)
            if not _try_lock(fd):
                raise Refused(run_dir, _holder(fd) or holder)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _await_end(pid: int) -> None:
    """Give a root that was just killed, or is ending, the moment that its death takes."""
    who = identity.process_id(pid)
    pidfd = identity.pidfd_of(who) if who is not None else None
    if pidfd is not None:
        try:
            killing.all_dead([pidfd], _DYING_ROOT_S if procfs.killed(pid) else _ENDING_ROOT_S)
        finally:
            os.close(pidfd)


def _holder(fd: int) -> int:
    """The pid that holds the lock; 0 when it has none here, or has just given it up."""
    return lock_holder(fd) or 0


def _myself(token: str, cgroup_path: str) -> Identity:
    who = identity.process_id(os.getpid())
    assert who is not None
    return Identity(token, boot_id(), who.pid, who.start, cgroup_path)


def _write(run_dir: str, mine: Identity) -> None:
    """Whole or not at all: a root that is killed here leaves the old one, or the new one."""
    path = os.path.join(run_dir, _IDENTITY)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, msgspec.json.encode(mine))
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)


def _end_earlier(run_dir: str) -> tuple[int, list[str]]:
    """End what an earlier root left. Returns how many processes that were, and reports."""
    reports: list[str] = []
    try:
        earlier = read(run_dir)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        earlier = None
        reports.append(f"{run_dir}/{_IDENTITY} is damaged ({error}): an earlier root's processes are found otherwise")
    if earlier is None:
        tokens, group = _tokens_of(run_dir), ""
        _refuse_living_roots(run_dir, tokens)
    elif earlier.boot_id != boot_id():
        tokens, group = set(), ""  # no process lives longer than its boot
    else:
        _await_root(run_dir, ProcessId(earlier.pid, earlier.start))
        tokens, group = {earlier.token}, earlier.cgroup
    killed = _end_tokens(run_dir, tokens) + _end_group(run_dir, group, tokens, reports)
    for name in _STALE:
        _remove(os.path.join(run_dir, name))
    return killed, reports


def _tokens_of(run_dir: str) -> set[str]:
    """
    Without an identity: the tokens of processes that say they belong to this run_dir.

    Only programs that were exec'd say so; through their token all the others are found.
    """
    said = b"\0REGROW_RUN_DIR=" + os.fsencode(run_dir) + b"\0"
    found = set()
    for pid in procfs.all_pids():
        environ = procfs.environ(pid)
        marker = identity.find_marker(environ)
        if marker is not None and said in b"\0" + environ + b"\0":
            found.add(marker.token)
    return found


def _refuse_living_roots(run_dir: str, tokens: set[str]) -> None:
    """Somebody may have removed the files of a root that lives."""
    marked = [entry for token in tokens for entry in identity.all_marked(token)]
    for who, marker in marked:
        if marker.name == identity.ROOT_NAME and who.pid != os.getpid():
            _await_root(run_dir, who)


def _await_root(run_dir: str, who: ProcessId) -> None:
    """The kernel gives up the locks of a process a moment before it is dead; a root that goes on living is refused."""
    pidfd = identity.pidfd_of(who)
    if pidfd is None:
        return
    try:
        if not killing.all_dead([pidfd], _DYING_ROOT_S):
            raise Refused(run_dir, who.pid)  # somebody has removed or replaced its lock
    finally:
        os.close(pidfd)


def _end_tokens(run_dir: str, tokens: set[str]) -> int:
    """Kill all processes of these runs, and what is below them, until a scan finds none. Returns how many."""
    killed: set[ProcessId] = set()
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while found := _find(tokens):
        killed |= found
        if not killing.kill_all(found, deadline_s):
            names = ", ".join(str(who.pid) for who in sorted(found, key=lambda who: who.pid))
            raise RunDirError(f"cannot use {run_dir}: what an earlier root left there cannot be ended: pid {names}")
    return len(killed)


def _find(tokens: set[str]) -> set[ProcessId]:
    """Everything of these runs that lives, and everything below it, but this process."""
    marked = [who for token in tokens for who, _ in identity.all_marked(token) if who.pid != os.getpid()]
    if not marked:
        return set()
    below = procfs.descendants_in(procfs.all_stats(), [who.pid for who in marked])
    found = {ProcessId(stat.pid, stat.start) for stat in below if not stat.dead and stat.pid != os.getpid()}
    return found.union(marked)


def _end_group(run_dir: str, path: str, tokens: set[str], reports: list[str]) -> int:
    """Kill what is left in the control groups of an earlier root and remove them. Returns how many that were."""
    name = os.path.basename(path)
    if not path or not os.path.isdir(path) or name not in {f"{cgroup_subtree.PREFIX}{token[:8]}" for token in tokens}:
        return 0
    own, _ = cgroup_subtree.own_group()
    if (own + "/").startswith(path + "/"):
        reports.append(f"started from within the processes of an earlier root: {path} is left as it is")
        return 0
    group = Group(path)
    killed = len(group.pids())
    deadline_s = time.monotonic() + END_TIMEOUT_S
    fd = group.events_fd()
    try:
        while fd >= 0 and group.populated():
            reason = group.kill()
            if reason or not _changes(fd, deadline_s - time.monotonic()):
                raise RunDirError(f"cannot use {run_dir}: {reason or f'{path} of an earlier root cannot be ended'}")
    finally:
        if fd >= 0:
            os.close(fd)
    if reason := group.remove():
        reports.append(reason)
    return killed


def _changes(events_fd: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(events_fd, select.POLLPRI)
    changed = bool(poller.poll(max(0.0, timeout_s) * 1000))
    os.pread(events_fd, 256, 0)
    return changed


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
