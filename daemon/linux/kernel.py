"""
Typed doors to the system calls that Python leaves out or hides; errors are `OSError`, as the kernel gave them.

Source: prctl(2), close_range(2), pidfd_open(2), pidfd_send_signal(2), unix(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
from collections.abc import Iterable

from msgspec import Struct

_LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_NR_CLOSE_RANGE = 436  # one number on every architecture, as for all calls since Linux 5.1
_SO_PEERGROUPS = 59
_MAX_FD = 2**31 - 2
_MAX_GROUPS = 65_536  # NGROUPS_MAX
_COMM_BYTES = 15

_UCRED = struct.Struct("iII")


class Credentials(Struct, frozen=True):
    """Who sent a message, vouched for by the kernel. `pid` is 0 for a sender outside our pid namespace."""

    pid: int
    uid: int
    gid: int


def _prctl(option: int, *arguments: object) -> int:
    padded = [*arguments, *(ctypes.c_ulong(0),) * (4 - len(arguments))]
    answer = int(_LIBC.prctl(ctypes.c_int(option), *padded))
    if answer < 0:
        _raise_errno(f"prctl({option})")
    return answer


def _raise_errno(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{os.strerror(number)}: {what}")


def set_pdeathsig(signum: int) -> None:
    """
    Be sent `signum` when the *thread* that forked us ends; 0 turns it off.

    Gone after fork, after exec of a set-user-ID program, and after a change of credentials (prctl(2)):
    set it last. A parent that died before this call is noticed only by comparing getppid afterwards.
    """
    _prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signum))


def set_child_subreaper(on: bool = True) -> None:
    """Become the new parent of every orphan below us; not inherited by fork, kept over exec."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on))


def set_name(name: str) -> None:
    """Set `comm`, which `ps -o comm` and top show; cut to 15 bytes between characters."""
    cut = os.fsencode(name)[:_COMM_BYTES].decode(errors="ignore")
    _prctl(_PR_SET_NAME, ctypes.c_char_p(cut.encode()))


_close_range_works: bool | None = None


def close_from(first: int, keep: Iterable[int] = ()) -> None:
    """Close every descriptor from `first` on but those in `keep`; unknown numbers in `keep` are harmless."""
    low = first
    for kept in sorted(fd for fd in set(keep) if fd >= first):
        if kept > low:
            _close_range(low, kept - 1)
        low = kept + 1
    _close_range(low, _MAX_FD)


def _close_range(low: int, high: int) -> None:
    if _has_close_range():
        os.closerange(low, high + 1)  # one system call, made from C
        return
    if _LIBC.syscall(ctypes.c_long(_NR_CLOSE_RANGE), ctypes.c_uint(low), ctypes.c_uint(high), ctypes.c_uint(0)) == 0:
        return
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):  # EPERM: an old container's seccomp filter
        _raise_errno("close_range")
    for entry in os.listdir("/proc/self/fd"):
        if low <= int(entry) <= high:
            try:
                os.close(int(entry))
            except OSError:
                pass  # the descriptor of the listing itself


def _has_close_range() -> bool:
    """Whether the system call works here, asked once; without it, `os.closerange` tries every number there is."""
    global _close_range_works
    if _close_range_works is None:
        low = ctypes.c_uint(_MAX_FD - 1)
        _close_range_works = _LIBC.syscall(ctypes.c_long(_NR_CLOSE_RANGE), low, low, ctypes.c_uint(0)) == 0
    return _close_range_works


def pidfd_open(pid: int) -> int:
    """
    A close-on-exec descriptor of the process that has `pid` now.

    Raises:
        ProcessLookupError: nobody has it (a zombie that is not reaped still does).
    """
    return os.pidfd_open(pid)


def pidfd_send_signal(pidfd: int, signum: int) -> bool:
    """Signal exactly the process of `pidfd`; False when it is dead and reaped."""
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    return True


def peer_of(connected: socket.socket) -> Credentials:
    """Who connected a unix stream socket (SO_PEERCRED): the credentials at the time of connect(2)."""
    return Credentials(*_UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def peer_groups(connected: socket.socket) -> frozenset[int]:
    """
    The supplementary groups of whoever connected a Unix stream socket; empty when the kernel does not tell.

    Python's getsockopt takes no more than 1024 bytes, which is too little for what a user may have.
    """
    groups = (ctypes.c_uint32 * _MAX_GROUPS)()
    length = ctypes.c_uint32(ctypes.sizeof(groups))
    failed = _LIBC.getsockopt(
        connected.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, ctypes.byref(groups), ctypes.byref(length)
    )
    return frozenset() if failed else frozenset(groups[: length.value // 4])
