"""What the file says about this host: users, groups, executables, addresses. Looked up once each, at load."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Mapping

from msgspec import Struct

from regrow.config.errors import did_you_mean
from regrow.config.probes import is_numeric


class SystemProblem(ValueError):
    """What the file asks for is not on this host; `hint` says what is near."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


class User(Struct, frozen=True):
    """A user's ids; `gid` is None and `home` empty for a number without an entry."""

    name: str
    uid: int
    gid: int | None
    home: str


def find_user(who: str | int) -> User:
    """
    Return the user with that name or number. A number needs no entry.

    Raises:
        SystemProblem for a name that does not exist.
    """
    try:
        entry = pwd.getpwuid(who) if isinstance(who, int) else pwd.getpwnam(who)
    except (KeyError, OverflowError):
        if isinstance(who, int):
            return User("", who, None, "")
        names = [known.pw_name for known in pwd.getpwall()]
        raise SystemProblem(f"there is no user {who}", did_you_mean(who, names)) from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def find_group(who: str | int) -> int:
    """
    Return the number of a group.

    Raises:
        SystemProblem for a name that does not exist.
    """
    if isinstance(who, int):
        return who
    try:
        return grp.getgrnam(who).gr_gid
    except KeyError:
        names = [known.gr_name for known in grp.getgrall()]
        raise SystemProblem(f"there is no group {who}", did_you_mean(who, names)) from None


def supplementary_groups(user: User, gid: int) -> tuple[int, ...]:
    """Return the groups that login would give this user, `gid` among them, sorted."""
    return tuple(sorted(set(os.getgrouplist(user.name, gid)))) if user.name else (gid,)


def find_executable(program: str, cwd: str, env: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """
    Return the absolute path of a program: relative to `cwd` if it has a slash, else along PATH.

    The child's own PATH comes before the daemon's. Symbolic links stay as they are.

    Raises:
        SystemProblem when there is none, or what is there cannot be executed.
    """
    if "/" in program:
        path = os.path.normpath(os.path.join(cwd, program))
        if not os.path.exists(path):
            raise SystemProblem(f"there is no {path}")
        if not _is_executable(path):
            raise SystemProblem(f"{path} is {'a directory' if os.path.isdir(path) else 'not executable'}")
        return path
    folders = (env.get("PATH") or environ.get("PATH") or os.defpath).split(":")
    found = [os.path.join(cwd, folder, program) for folder in folders]
    for path in found:
        if _is_executable(path):
            return os.path.normpath(path)
    for path in found:
        if os.path.isfile(path):
            raise SystemProblem(f"{path} is not executable")
    near = f'did you mean "./{program}"?' if _is_executable(os.path.join(cwd, program)) else ""
    raise SystemProblem(f"there is no program {program} in PATH", near)


def _is_executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def numeric_host(host: str) -> str:
    """
    Return the numeric address of a host; supervisors never resolve a name.

    Raises:
        SystemProblem when it has none.
    """
    if is_numeric(host):
        return host
    if host == "localhost":
        return "127.0.0.1"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SystemProblem(f"cannot resolve {host}: {reason}", "write a numeric address") from None
    return str(found[0][4][0])
