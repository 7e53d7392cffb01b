"""
The system calls that isolating a command takes and Python leaves out; errors are `OSError`, as the kernel gave them.

Source: prctl(2), mount(2), mount_setattr(2), setns(2), ioprio_get(2), keyctl(2), netdevice(7),
capabilities(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
_NR_MOUNT_SETATTR = 442  # one number on every architecture, as for all calls since Linux 5.1
_NR_IOPRIO_GET, _IOPRIO_WHO_PROCESS = {"x86_64": 252, "aarch64": 31}, 1
_NR_KEYCTL, _KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 0, -3
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_RDONLY = 0x1
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_SO_PEERPIDFD = 77
_SO_PEERGROUPS = 59
_UCRED = struct.Struct("iII")
_MAX_GROUPS = 65_536  # NGROUPS_MAX

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18

KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 10})
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE: none of them undoes a namespace."""


def _prctl(option: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    if _LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero) < 0:
        raise _error(f"prctl({option})")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{os.strerror(number)}: {what}")


def die_with_parent() -> None:
    """Be killed when the thread that forked us ends; a parent that died before shows only in getppid."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the new parent of every orphan below us."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def gain_nothing() -> None:
    """Never gain privileges by an exec again: set-user-ID bits mean nothing from now on."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Leave in the bounding set only what does not undo a namespace."""
    for number in range(64):
        if number in KEPT_CAPABILITIES:
            continue
        try:
            _prctl(_PR_CAPBSET_DROP, number)
        except OSError:
            return  # past the last one


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount `source` at `target`, or change how something is mounted there."""
    done = _LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    if done != 0:
        raise _error(f"mount {target}")


def set_read_only(path: str, on: bool, *, below: bool) -> None:
    """Make a mount, and those below it, read-only or writable; Linux 5.12."""
    attributes = struct.pack("QQQQ", _RDONLY if on else 0, 0 if on else _RDONLY, 0, 0)
    flags = ctypes.c_uint(_AT_RECURSIVE if below else 0)
    number, size = ctypes.c_long(_NR_MOUNT_SETATTR), ctypes.c_size_t(len(attributes))
    if _LIBC.syscall(number, ctypes.c_int(_AT_FDCWD), os.fsencode(path), flags, attributes, size) != 0:
        raise _error(f"make {path} {'read-only' if on else 'writable'}")


def io_priority() -> int:
    """Our own, as the kernel packs it; -1 where it is not known how to ask."""
    number = _NR_IOPRIO_GET.get(os.uname().machine)
    if number is None:
        return -1
    return int(_LIBC.syscall(ctypes.c_long(number), ctypes.c_int(_IOPRIO_WHO_PROCESS), ctypes.c_int(0)))


def session_keyring() -> int:
    """The serial number of ours; -1 where there is none, or it is not known how to ask."""
    number = _NR_KEYCTL.get(os.uname().machine)
    if number is None:
        return -1
    operation, keyring = ctypes.c_int(_KEYCTL_GET_KEYRING_ID), ctypes.c_int(_SESSION_KEYRING)
    return int(_LIBC.syscall(ctypes.c_long(number), operation, keyring, ctypes.c_int(0)))


def loopback_up() -> None:
    """Let a new network namespace have 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def enter_network_of(pid: int) -> None:
    """Have from now on the network of that process."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(ctypes.c_int(fd), ctypes.c_int(_CLONE_NEWNET)) != 0:
            raise _error("setns")
    finally:
        os.close(fd)


def peer_of(connected: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of who has connected; pid 0 for somebody outside our pid namespace."""
    pid, uid, gid = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(pid), int(uid), int(gid)


def peer_groups(connected: socket.socket) -> tuple[int, ...]:
    """
    The supplementary groups of who has connected.

    Python's getsockopt takes no more than 1024 bytes, which is too little for what a user may have.
    """
    groups = (ctypes.c_uint32 * _MAX_GROUPS)()
    length = ctypes.c_uint32(ctypes.sizeof(groups))
    if _LIBC.getsockopt(
        connected.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, ctypes.byref(groups), ctypes.byref(length)
    ):
        raise _error("SO_PEERGROUPS")
    return tuple(groups[: length.value // 4])


def peer_pidfd(connected: socket.socket, pid: int) -> int:
    """
    A descriptor of the process that has connected; -1 when it is gone or not in our pid namespace.

    Before Linux 6.5 it is the process that has its pid now: if that is another one, its connection is closed.
    """
    try:
        return int(connected.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    except OSError:
        pass
    try:
        return os.pidfd_open(pid) if pid > 0 else -1
    except ProcessLookupError:
        return -1
