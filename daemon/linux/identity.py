"""
Who a process is: the marker it carries for others to find, and what tells it from a later one with its pid.

Every process of a run carries `REGROW_CHILD=<token>:<name>:<incarnation>` in the environment that /proc
shows. A program that is exec'd gets it the usual way. Supervisors and functions are forked without exec,
and /proc would show the environment the root was exec'd with; so the root is exec'd with a placeholder of
fixed length, and each forked process overwrites it in its own memory. The argv area is overwritten in the same
way, for `ps`.

Source: proc_pid_stat(5) fields 48-51, proc_pid_environ(5), pidfd_open(2), random(4) for the boot id.
"""

from __future__ import annotations

import ctypes
import errno
import os

from msgspec import Struct

from regrow.daemon.linux import kernel, procfs
from regrow.ipc.process import stat_fields

VARIABLE = "REGROW_CHILD"
TOKEN_DIGITS = 32
ROOT_NAME = "regrow.root"
"""The name in the root's own marker; no child can have it."""

_PLACEHOLDER = "." * 256
"""Put last in the environment: some tools read it only up to the first empty string, and so past no short marker."""

_TITLE_PADDING = "." * 128
_ASSIGNMENT = VARIABLE.encode() + b"="


class Marker(Struct, frozen=True):
    """`name` is empty for a process whose name did not fit into the placeholder."""

    token: str
    name: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.token}:{self.name}:{self.incarnation}"


class ProcessId(Struct, frozen=True):
    """One process of this boot, for good. `start` is in clock ticks since boot."""

    pid: int
    start: int


class _Area(Struct, frozen=True):
    address: int
    length: int


class _Areas(Struct):
    """Where this process and everything it forks keep their marker and title; None until `locate`."""

    marker: _Area | None = None
    title: _Area | None = None


_areas = _Areas()


def new_token() -> str:
    """What tells one run of a root from every other, on this host or elsewhere."""
    return os.urandom(TOKEN_DIGITS // 2).hex()


def with_placeholder(environ: dict[str, str]) -> dict[str, str]:
    """The environment to exec a root with: the same, and room for the markers of all that it forks."""
    return {**{name: value for name, value in environ.items() if name != VARIABLE}, VARIABLE: _PLACEHOLDER}


def padded_argv(argv: list[str]) -> list[str]:
    """The arguments to exec a root with: the same, and one more that makes room for titles."""
    return [*argv, _TITLE_PADDING]


def locate() -> bool:
    """
    Find the areas to overwrite; to be called in the root, before its first fork: forks share addresses. Idempotent.

    Returns:
        Whether there is a placeholder; without one, `mark` has no effect on what /proc shows.
    """
    if _areas.marker is not None:
        return True
    arg_start, arg_end, env_start, env_end = map(int, stat_fields(os.getpid())[45:49])
    _areas.title = _find_title(arg_start, arg_end - arg_start)
    _areas.marker = _find_marker(env_start, env_end - env_start)
    return _areas.marker is not None


def _find_title(arg_start: int, length: int) -> _Area | None:
    """The whole argv, but only if it was padded: else it would be too short, and other programs' are not ours."""
    if arg_start == 0 or not ctypes.string_at(arg_start, length).endswith(b"\0" + _TITLE_PADDING.encode() + b"\0"):
        return None
    return _Area(arg_start, length)


def _find_marker(env_start: int, length: int) -> _Area | None:
    if env_start == 0:
        return None
    content = b"\0" + ctypes.string_at(env_start, length)
    at = content.find(b"\0" + _ASSIGNMENT + _PLACEHOLDER.encode() + b"\0")
    if at < 0:
        return None
    return _Area(env_start + at + len(_ASSIGNMENT), len(_PLACEHOLDER))


def mark(text: str) -> bool:
    """
    Make /proc show the marker `text` for this process, and give it to programs that inherit our environment.

    A few microseconds. A text that does not fit is shown without its name: a cut name would be another child's.

    Returns:
        Whether /proc shows it; False when there is no placeholder.
    """
    os.environ[VARIABLE] = text
    area = _areas.marker
    if area is None:
        return False
    shown = text.encode()
    if len(shown) > area.length:
        token, _, rest = text.partition(":")
        shown = f"{token}::{rest.rpartition(':')[2]}".encode()
    _overwrite(area, shown[: area.length])
    return True


def set_title(title: str) -> None:
    """Make `ps` show `title` as our command line, as far as there is room; see `kernel.set_name` for the other name."""
    if (area := _areas.title) is not None:
        # The last byte stays NUL: the kernel would take anything else for a title that goes on in the environment.
        _overwrite(area, title.encode()[: area.length - 1].decode(errors="ignore").encode())


def _overwrite(area: _Area, text: bytes) -> None:
    ctypes.memmove(area.address, text.ljust(area.length, b"\0"), area.length)


def read_marker(pid: int) -> Marker | None:
    """The marker of a process; None without one, for a zombie, and when it is gone or not ours to read."""
    return find_marker(procfs.environ(pid))


def find_marker(environment: bytes) -> Marker | None:
    """The marker in a NUL-separated environment."""
    at = 0 if environment.startswith(_ASSIGNMENT) else environment.find(b"\0" + _ASSIGNMENT) + 1
    if at == 0 and not environment.startswith(_ASSIGNMENT):
        return None
    first = at + len(_ASSIGNMENT)
    end = environment.find(b"\0", first)
    return parse_marker(environment[first : end if end >= 0 else len(environment)])


def parse_marker(text: bytes) -> Marker | None:
    """A marker as written by `str`; None for anything else."""
    token, _, rest = text.partition(b":")
    name, _, incarnation = rest.rpartition(b":")
    if len(token) != TOKEN_DIGITS or not incarnation.isdigit() or len(incarnation) > TOKEN_DIGITS:
        return None
    try:
        int(token, 16)
        return Marker(token.decode(), name.decode(), int(incarnation))
    except ValueError:
        return None


def all_marked(token: str) -> list[tuple[ProcessId, Marker]]:
    """Every living process of the run of `token` that may be read; one scan of /proc, about 10 µs per process."""
    found = []
    for pid in procfs.all_pids():
        marker = read_marker(pid)
        if marker is not None and marker.token == token and (who := process_id(pid)) is not None:
            found.append((who, marker))
    return found


def process_id(pid: int) -> ProcessId | None:
    """The process that has `pid` now; None when nobody has it, or only a zombie."""
    stat = procfs.stat(pid)
    return None if stat is None or stat.dead else ProcessId(pid, stat.start)


def pidfd_of(who: ProcessId) -> int | None:
    """
    A pidfd of exactly that process (to be closed by the caller), or None when it is gone.

    The start time is looked up after the pidfd was opened: were the pid somebody else's by then, the start
    time would be too. A zombie that nobody has reaped still has a pidfd, which is readable at once.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM.
    """
    try:
        pidfd = kernel.pidfd_open(who.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a number that no process can have, from a damaged file
            return None
        raise
    stat = procfs.stat(who.pid)
    if stat is None or stat.start != who.start:
        os.close(pidfd)
        return None
    return pidfd
